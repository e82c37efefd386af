#!/bin/sh
# Starts Kafka with settings from the environment, by the rules of Apache's image: KAFKA_A_B is the setting a.b; two
# underscores are one, three are a dash. Its storage is formatted once.
set -eu
properties=/opt/kafka/config/server.properties
env | awk '
    !/^KAFKA_/ || /^KAFKA_(VERSION|HEAP_OPTS|OPTS|LOG4J|JMX|JVM_PERFORMANCE_OPTS|GC_LOG_OPTS)/ { next }
    {
        name = tolower(substr($0, 7, index($0, "=") - 7))
        gsub(/___/, "\001", name); gsub(/__/, "\002", name); gsub(/_/, ".", name)
        gsub(/\001/, "-", name); gsub(/\002/, "_", name)
        print name substr($0, index($0, "="))
    }' >"$properties"
/opt/kafka/bin/kafka-storage.sh format --ignore-formatted --cluster-id "$CLUSTER_ID" -c "$properties" >/dev/null
exec /opt/kafka/bin/kafka-server-start.sh "$properties"
