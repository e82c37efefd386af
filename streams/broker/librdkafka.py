"""How librdkafka connects, reads and writes: one place for its options."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.settings import Settings

LARGEST_BYTES: Final = 64_000_000
"""How large a record may be is the broker's decision; librdkafka's own limit is put out of the way."""
POLL_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 15.0

Spans = dict[int, tuple[int, int]]
"""Per partition, the first offset wanted and the one after the last."""

quiet = logging.getLogger("tierstream.librdkafka")
"""Where librdkafka's own lines go: nowhere. What fails is told by whoever asked."""
quiet.setLevel(logging.CRITICAL)


def connection(settings: Settings) -> dict[str, Any]:
    """How librdkafka connects to the broker."""
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


def writing(settings: Settings) -> dict[str, Any]:
    """A producer that repeats nothing and, as Kafka's own do, keeps a customer's records in one partition."""
    return connection(settings) | {"enable.idempotence": True, "partitioner": "murmur2_random"}


def reading(settings: Settings, group: str) -> dict[str, Any]:
    """A consumer that only reads what is there: it joins no group, commits nothing, and is told where a log ends."""
    return connection(settings) | {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
    }


def records_in(
    consumer: Consumer,
    topic: str,
    spans: Spans,
    failure: Callable[[str], Exception],
    most: int = 1_000,
    deadline: float = float("inf"),
) -> Iterator[Any]:
    """The records in the spans of a topic, each partition in order; `most` at a time are taken from librdkafka.

    What can't be read is raised as a `failure`, which is given the words for it; TimeoutError at a monotonic `deadline`.
    """
    ends = {number: end for number, (first, end) in spans.items() if first < end}
    if ends:
        consumer.assign([TopicPartition(topic, number, spans[number][0]) for number in ends])
    answered = time.monotonic()
    while ends:
        # A poll waits until it is full; a short one also lets Ctrl-C through.
        messages = consumer.consume(most, POLL_SECONDS)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{topic} was not read to its end in time")
        if messages:
            answered = time.monotonic()
        elif time.monotonic() > answered + PATIENCE_SECONDS:
            raise failure(f"{topic} does not answer; is the broker well?")
        for message in messages:
            number, error = message.partition(), message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise failure(f"{topic} can't be read: {error.str()}")
            if message.topic() != topic or number not in ends:
                continue  # of what was read before
            if error is None and message.offset() < ends[number]:
                yield message
            # The last offsets of a log may hold no records, as after a transaction: then its end is told.
            if error is not None or message.offset() + 1 >= ends[number]:
                del ends[number]
                consumer.pause([TopicPartition(topic, number)])


def tailing(settings: Settings, group: str) -> dict[str, Any]:
    """A member of a group that commits by hand, or in a producer's transactions, and is soon told of what comes."""
    return reading(settings, group) | {
        "session.timeout.ms": settings.session_timeout,
        "heartbeat.interval.ms": max(settings.session_timeout // 5, 500),
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 100,
        "fetch.queue.backoff.ms": 10,
        "queued.max.messages.kbytes": 16_384,
    }
