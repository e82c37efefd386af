"""How librdkafka connects, reads and writes: one place for its options."""

from __future__ import annotations

import logging
from typing import Any, Final

from streams.settings import Settings

LARGEST_BYTES: Final = 64_000_000
"""How large a record may be is the broker's decision; librdkafka's own limit is put out of the way."""

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
