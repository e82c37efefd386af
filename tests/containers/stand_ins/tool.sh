#!/bin/sh
# Kafka's command-line tools, by the names that its own distribution gives them.
case "${0##*/}" in
    kafka-server-start.sh) class=kafka.Kafka heap="-Xmx1G -Xms1G" ;;
    kafka-storage.sh) class=kafka.tools.StorageTool ;;
    kafka-topics.sh) class=org.apache.kafka.tools.TopicCommand ;;
    kafka-broker-api-versions.sh) class=org.apache.kafka.tools.BrokerApiVersionsCommand ;;
esac
exec java ${KAFKA_HEAP_OPTS:-${heap:--Xmx256M}} -Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn \
    -cp '/opt/kafka/libs/*' "$class" "$@"
