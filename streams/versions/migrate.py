"""Another partition count: the inputs copied, record by record, to topics with more or fewer partitions.

Kafka spreads keys over partitions by their number, so a topic's partitions can't be changed under a running table. The
copies have all that the originals have; a table of its own is then built from them.
"""

from __future__ import annotations

from collections.abc import Callable

import confluent_kafka

from streams.broker.librdkafka import writing
from streams.broker.topic_creation import create_topics
from streams.settings import Settings
from streams.sources.kafka_log import KafkaLog
from streams.topics import INPUTS, topics_of

FLUSH_SECONDS = 60.0


class MigrationError(RuntimeError):
    """Inputs that can't be copied; the message says what to do."""


def migrate(source: Settings, target: Settings, on_records: Callable[[int], None]) -> dict[str, int]:
    """Copy every input topic of `source` as it is now to that of `target`, which is created; returns how many records.

    Keys, values, headers, timestamps and each customer's order stay. Raises MigrationError, LogError or TopicsError.
    """
    create_topics(target, topics_of(target))
    _check_that_it_is_empty(target)
    log = KafkaLog(source)
    log.begin(INPUTS)
    failed: list[str] = []

    def delivered(error: confluent_kafka.KafkaError | None, _: confluent_kafka.Message) -> None:
        if error is not None:
            failed.append(str(error))

    producer = confluent_kafka.Producer(writing(target) | {"linger.ms": 20})
    copied = dict.fromkeys(INPUTS, 0)
    for name in INPUTS:
        for number in log.partitions(name):
            for message in log.messages(name, number):
                _produce(producer, target.topic(name), message, delivered)
                copied[name] += 1
                on_records(1)
                if failed:
                    raise MigrationError(f"{target.topic(name)}: {failed[0]}; delete the new topics and begin again")
    if producer.flush(FLUSH_SECONDS) or failed:
        why = failed[0] if failed else "the broker does not answer"
        raise MigrationError(f"not all records were written: {why}; delete the new topics and begin again")
    return copied


def _check_that_it_is_empty(target: Settings) -> None:
    log = KafkaLog(target)
    log.begin(INPUTS)
    for name in INPUTS:
        for number in log.partitions(name):
            if next(log.messages(name, number), None) is not None:
                raise MigrationError(
                    f"{target.topic(name)} has records already. Give another --to-prefix, or delete the topics that a copy "
                    "before this one left unfinished"
                )


def _produce(
    producer: confluent_kafka.Producer,
    topic: str,
    message: confluent_kafka.Message,
    delivered: Callable[[confluent_kafka.KafkaError | None, confluent_kafka.Message], None],
) -> None:
    kind, timestamp_ms = message.timestamp()
    stamped = {"timestamp": timestamp_ms} if kind != confluent_kafka.TIMESTAMP_NOT_AVAILABLE else {}
    while True:
        try:
            producer.produce(
                topic, message.value(), message.key(), headers=message.headers(), on_delivery=delivered, **stamped
            )
            return
        except BufferError:
            producer.poll(0.1)
