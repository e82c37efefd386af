"""The options with which librdkafka connects, reads and writes; and `read_records`, which reads ranges of offsets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.settings import Settings

LARGEST_BYTES: Final = 64_000_000
"""librdkafka's limit for a record: so high that only the broker's limit counts."""
PARTITIONERS: Final = {"murmur2": "murmur2_random", "crc32": "consistent_random", "fnv1a": "fnv1a_random"}
"""librdkafka's names of the partitioners."""
POLL_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 15.0

OffsetRanges = dict[int, tuple[int, int]]
"""By partition, the first offset and the offset after the last one."""

silent_logger = logging.getLogger("tierstream.librdkafka")
"""A logger that drops librdkafka's own messages. Callers report failures themselves."""
silent_logger.setLevel(logging.CRITICAL)


def connection_options(settings: Settings) -> dict[str, Any]:
    """Options of every client: how it connects to the broker."""
    options: dict[str, Any] = {"bootstrap.servers": settings.broker, "security.protocol": settings.security_protocol}
    if settings.tls_ca_file:
        options["ssl.ca.location"] = settings.tls_ca_file
    if settings.sasl_password is not None:
        options |= {
            "sasl.mechanism": settings.sasl_mechanism,
            "sasl.username": settings.sasl_username,
            "sasl.password": settings.sasl_password.get_secret_value(),
        }
    return options


def producer_options(settings: Settings) -> dict[str, Any]:
    """Options of an idempotent producer that puts records where their customers live."""
    return connection_options(settings) | {
        "enable.idempotence": True,
        "partitioner": PARTITIONERS[settings.partitioner],
    }


def reader_options(settings: Settings, group: str) -> dict[str, Any]:
    """Options of a consumer that joins no group, commits nothing and is notified of the end of a partition."""
    return connection_options(settings) | {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
    }


def read_records(
    consumer: Consumer,
    topic: str,
    ranges: OffsetRanges,
    failure: Callable[[str], Exception],
    most: int = 1_000,
    deadline: float = float("inf"),
) -> Iterator[Any]:
    """Read the records in ranges of a topic, each partition in order; librdkafka is asked for `most` records at a time.

    Raises `failure(message)` if the topic can't be read, and TimeoutError at `deadline`, in monotonic seconds.
    """
    ends = {number: end for number, (first, end) in ranges.items() if first < end}
    if ends:
        consumer.assign([TopicPartition(topic, number, ranges[number][0]) for number in ends])
    answered = time.monotonic()
    while ends:
        # A poll waits until it has `most` records; a short one lets Ctrl-C through.
        messages = consumer.consume(most, POLL_SECONDS)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{topic} was not read to its end in time")
        if messages:
            answered = time.monotonic()
        elif time.monotonic() > answered + PATIENCE_SECONDS:
            raise failure(f"{topic} does not answer; check the broker, or run tierstream doctor")
        for message in messages:
            number, error = message.partition(), message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise failure(f"{topic} can't be read: {error.str()}")
            if message.topic() != topic or number not in ends:
                continue  # of an earlier assignment
            if error is None and message.offset() < ends[number]:
                yield message
            # The last offsets of a range may hold no records, as after a transaction; then the end of the partition is reported.
            if error is not None or message.offset() + 1 >= ends[number]:
                del ends[number]
                consumer.pause([TopicPartition(topic, number)])


def group_member_options(settings: Settings, group: str) -> dict[str, Any]:
    """Options of a member of a group that commits explicitly or in a producer's transactions, and gets new records
    soon.
    """
    return reader_options(settings, group) | {
        "session.timeout.ms": settings.session_timeout,
        "heartbeat.interval.ms": max(settings.session_timeout // 5, 500),
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 100,
        "fetch.queue.backoff.ms": 10,
        "queued.max.messages.kbytes": 16_384,
    }
