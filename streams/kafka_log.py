"""A log in Kafka: the input topics from their beginning to where they end now, for the replay."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import confluent_kafka
from confluent_kafka import Consumer, KafkaException, TopicPartition

from models.events import Decoder
from streams.logs import LogError
from streams.merge import Record
from streams.settings import Settings
from streams.topics import INPUTS

SCHEME: Final = "kafka://"
MESSAGES_A_POLL: Final = 1_000
ENOUGH: Final = 5_000
"""Messages waiting of one partition beyond which it is not read on, so that memory stays bounded."""
PATIENCE_SECONDS: Final = 15.0

_quiet = logging.getLogger("tierstream.librdkafka")
_quiet.setLevel(logging.CRITICAL)


class KafkaLog:
    """Every partition of the four input topics, each a stream of its own. No group, no commits: it only reads."""

    def __init__(self, settings: Settings) -> None:
        self.name = f"{SCHEME}{settings.broker}"
        self._settings = settings
        self._consumer = Consumer(_options(settings), logger=_quiet)
        self._waiting: dict[tuple[str, int], deque[Any]] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._paused: set[tuple[str, int]] = set()
        self.bytes: int | None = None

    def streams(self, decoder: Decoder, on_bytes: Callable[[int], None]) -> list[Iterator[Record]]:
        """One stream per topic and partition. Raises LogError if the broker or a topic does not answer."""
        try:
            self._find_ends()
        except KafkaException as error:
            raise LogError(f"{self.name}: {error.args[0].str()}; is a Kafka running there?") from None
        self._consumer.assign([TopicPartition(topic, number, first) for (topic, number), first in self._next.items()])
        names = {self._settings.topic(name): name for name in INPUTS}
        return [self._records(tp, names[tp[0]], decoder, on_bytes) for tp in self._ends]

    def _find_ends(self) -> None:
        for name in INPUTS:
            topic = self._settings.topic(name)
            found = self._consumer.list_topics(topic, timeout=PATIENCE_SECONDS).topics[topic]
            if found.error is not None:
                raise LogError(
                    f"{self.name}: there is no topic {topic}; set TIERSTREAM_TOPIC_PREFIX if it has another name"
                )
            for number in sorted(found.partitions):
                tp = (topic, number)
                first, end = self._consumer.get_watermark_offsets(TopicPartition(*tp), timeout=PATIENCE_SECONDS)
                self._next[tp], self._ends[tp], self._waiting[tp] = first, end, deque()

    def _records(
        self, tp: tuple[str, int], name: str, decoder: Decoder, on_bytes: Callable[[int], None]
    ) -> Iterator[Record]:
        waiting = self._waiting[tp]
        while waiting or self._next[tp] < self._ends[tp]:
            if not waiting:
                self._poll(tp)
                continue
            message = waiting.popleft()
            value, key = message.value(), message.key()
            timestamp_ms = message.timestamp()[1] if message.timestamp()[1] >= 0 else None
            on_bytes(len(value or b""))
            decoded = decoder.decode(name, value, key or b"", timestamp_ms)
            yield Record(name, tp[1], message.offset(), key, value, timestamp_ms, decoded)

    def _poll(self, wanted: tuple[str, int]) -> None:
        """Read on, at least from `wanted`; partitions of which enough is waiting pause."""
        full = {tp for tp, waiting in self._waiting.items() if len(waiting) >= ENOUGH} - {wanted}
        if full != self._paused:
            self._consumer.resume([TopicPartition(*tp) for tp in self._paused - full])
            self._consumer.pause([TopicPartition(*tp) for tp in full - self._paused])
            self._paused = full
        messages = self._consumer.consume(MESSAGES_A_POLL, PATIENCE_SECONDS)
        if not messages:
            raise LogError(f"{self.name}: {wanted[0]}, partition {wanted[1]} does not answer; is the broker well?")
        for message in messages:
            tp = (message.topic(), message.partition())
            error = message.error()
            if error is None:
                if message.offset() < self._ends[tp]:
                    self._waiting[tp].append(message)
                self._next[tp] = message.offset() + 1
            elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                # The last offsets of a log may hold no records, as after a transaction.
                self._next[tp] = self._ends[tp]
            else:
                raise LogError(f"{self.name}: {error.str()}")


def _options(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap.servers": settings.broker,
        "group.id": "tierstream-replay",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "security.protocol": settings.security_protocol,
    }
    if settings.tls_ca_file:
        options["ssl.ca.location"] = settings.tls_ca_file
    if settings.sasl_password is not None:
        options |= {
            "sasl.mechanism": settings.sasl_mechanism,
            "sasl.username": settings.sasl_username,
            "sasl.password": settings.sasl_password.get_secret_value(),
        }
    return options
