"""A log in Kafka: the input topics or a part of them, up to their ends at the start, and the journal of how they were
folded.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import confluent_kafka
from confluent_kafka import Consumer, KafkaException, TopicPartition

from models.events import Decoder
from streams.broker.librdkafka import reader_options, silent_logger
from streams.engine.journal import Entry, decode_entry, one_entry_a_batch
from streams.engine.merge import Record, carried_records_of, records_of
from streams.settings import CARRIED, Settings, load_settings
from streams.sources.kafka_span import SCHEME, WHOLE, Offsets, Span, parse_kafka_url
from streams.sources.logs import Decodes, Log, LogError
from streams.topics import INPUTS, JOURNAL, TABLE, changelog_topic

MESSAGES_A_POLL: Final = 1_000
MAX_BUFFERED: Final = 5_000
"""Messages of one partition that may be buffered. Beyond that the partition is paused, so that memory stays bounded."""
POLL_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 15.0


class _ReadRecord(NamedTuple):
    """A record as `records_of` takes it."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Sequence[tuple[str, bytes]]


class KafkaLog:
    """Every partition of the input topics as a stream. It joins no consumer group and commits nothing."""

    def __init__(self, settings: Settings, span: Span = WHOLE) -> None:
        self.span = span
        self.name = f"{SCHEME}{settings.broker}"
        self._settings = settings
        self._consumer = Consumer(reader_options(settings, "tierstream-replay"), logger=silent_logger)
        self._waiting: dict[tuple[str, int], deque[Any]] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._paused: set[tuple[str, int]] = set()
        self.bytes: int | None = None
        self.files: dict[int, str] = {}

    def identity(self) -> list[dict[str, Any]]:
        """A topic keeps growing, so it has no identity that a later run could check. Raises LogError."""
        raise LogError(f"{self.name}: --sort-folder and --checkpoint are for files; a topic is not the same later on")

    def streams(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> list[Iterator[Record]]:
        """One stream per topic and partition. Raises LogError if the broker or a topic does not answer."""
        names = self.span.topics
        self.begin(names)
        return [self.records(name, number, decoder, on_bytes) for name in names for number in self.partitions(name)]

    def begin(self, names: Iterable[str]) -> None:
        """Find the ends of topics and begin to read them. Raises LogError if the broker or a topic does not answer."""
        try:
            self._find_ends(names)
        except KafkaException as error:
            raise LogError(f"{self.name}: {error.args[0].str()}; is a Kafka running there?") from None
        self._consumer.assign([TopicPartition(topic, number, first) for (topic, number), first in self._next.items()])

    @property
    def partitioner(self) -> str:
        """How customers are placed into partitions."""
        return self._settings.partitioner

    @property
    def app_id(self) -> str:
        """The app id whose table and journal are read."""
        return self._settings.table_app_id

    def topic(self, name: str) -> str:
        """The name of a topic on the broker; also that of the changelog."""
        return changelog_topic(self._settings) if name == TABLE else self._settings.topic(name)

    def partitions(self, name: str) -> list[int]:
        """The partitions of a topic."""
        return sorted(number for topic, number in self._ends if topic == self.topic(name))

    def messages(self, name: str, number: int) -> Iterator[Any]:
        """The records of a topic's partition as librdkafka gives them."""
        tp = (self.topic(name), number)
        if tp not in self._ends:
            return
        buffered = self._waiting[tp]
        while buffered or self._next[tp] < self._ends[tp]:
            if buffered:
                yield buffered.popleft()
            else:
                self._poll(tp)

    def records(self, name: str, number: int, decoder: Decodes, on_bytes: Callable[[int], None]) -> Iterator[Record]:
        """The records of an input topic's partition, decoded, wherever their customers live."""
        for message in self.messages(name, number):
            value, key = message.value(), message.key()
            timestamp_ms = message.timestamp()[1] if message.timestamp()[1] >= 0 else None
            on_bytes(len(value or b""))
            decoded = decoder.decode(name, value, key or b"", timestamp_ms)
            yield Record(name, number, message.offset(), key, value, timestamp_ms, decoded)

    def placed_records(
        self, name: str, number: int, decoder: Decoder, on_bytes: Callable[[int], None]
    ) -> Iterator[Record]:
        """The records of one of the topics that a partition folds, decoded as a worker does: strays are marked."""
        decode, placement = carried_records_of if name == CARRIED else records_of, self._settings.placement
        for message in self.messages(name, number):
            on_bytes(len(message.value() or b""))
            read = _ReadRecord(
                message.offset(), message.key(), message.value(), message.timestamp()[1], message.headers() or ()
            )
            yield from decode((read,), name, number, decoder, placement)

    def entries(self, number: int) -> Iterator[Entry]:
        """The journal's entries of a partition, one for each batch that was folded. Raises JournalError."""
        topic = self._settings.topic(JOURNAL)
        ours = self._settings.table_app_id.encode()
        messages = (message for message in self.messages(JOURNAL, number) if message.key() == ours)
        return one_entry_a_batch(
            decode_entry(message.value(), f"{topic}, partition {number}, offset {message.offset()}")
            for message in messages
        )

    def _find_ends(self, names: Iterable[str]) -> None:
        for name in names:
            topic = self.topic(name)
            found = self._consumer.list_topics(topic, timeout=PATIENCE_SECONDS).topics[topic]
            if found.error is not None:
                if name == CARRIED:  # version 0.1 had none
                    continue
                raise LogError(
                    f"{self.name}: there is no topic {topic}; set TIERSTREAM_TOPIC_PREFIX if it has another name"
                )
            for number in sorted(found.partitions):
                tp = (topic, number)
                first, end = self._consumer.get_watermark_offsets(TopicPartition(*tp), timeout=PATIENCE_SECONDS)
                if name in INPUTS:
                    first, end = self._part(name, tp, first, end)
                self._next[tp], self._ends[tp], self._waiting[tp] = first, end, deque()

    def _part(self, name: str, tp: tuple[str, int], first: int, end: int) -> tuple[int, int]:
        """The offsets of a partition to read: from the first to before the second, within `first` and `end`.

        Raises LogError if the log has been deleted beyond where the span begins.
        """
        span, number = self.span, tp[1]
        begins, ends = span.from_offsets.of(name, number), span.to_offsets.of(name, number)
        if begins is not None and begins < first:
            raise LogError(
                f"{self.name}: offset {begins} of {tp[0]}, partition {number} was deleted; the first there is {first}"
            )
        if span.from_ms is not None:
            begins = max(begins or 0, self._offset_at(tp, span.from_ms, end))
        if span.to_ms is not None:
            ends = min(end if ends is None else ends, self._offset_at(tp, span.to_ms, end))
        begins = first if begins is None else min(max(begins, first), end)
        return begins, end if ends is None else max(begins, min(ends, end))

    def _offset_at(self, tp: tuple[str, int], at_ms: int, end: int) -> int:
        """The first offset whose record has a timestamp of `at_ms` or later; the end if there is none."""
        (found,) = self._consumer.offsets_for_times([TopicPartition(*tp, at_ms)], timeout=PATIENCE_SECONDS)
        if found.error is not None:
            raise LogError(f"{self.name}: {tp[0]}, partition {tp[1]}: {found.error.str()}")
        return end if found.offset < 0 else int(found.offset)

    def _poll(self, wanted: tuple[str, int]) -> None:
        """Read more messages, at least of the partition `wanted`; partitions whose buffers are full are paused."""
        full = {tp for tp, buffered in self._waiting.items() if len(buffered) >= MAX_BUFFERED} - {wanted}
        if full != self._paused:
            self._consumer.resume([TopicPartition(*tp) for tp in self._paused - full])
            self._consumer.pause([TopicPartition(*tp) for tp in full - self._paused])
            self._paused = full
        deadline = time.monotonic() + PATIENCE_SECONDS
        # `consume` waits until it has all messages, which never happens at the end of a log; a short wait also lets
        # Ctrl-C through.
        while not (messages := self._consumer.consume(MESSAGES_A_POLL, POLL_SECONDS)):
            if time.monotonic() > deadline:
                raise LogError(f"{self.name}: {wanted[0]}, partition {wanted[1]} does not answer; is the broker well?")
        for message in messages:
            tp = (message.topic(), message.partition())
            error = message.error()
            if error is None:
                if message.offset() < self._ends[tp]:
                    self._waiting[tp].append(message)
                self._next[tp] = message.offset() + 1
            elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                # The last offsets of a log may have no records: a transaction ends with a marker.
                self._next[tp] = self._ends[tp]
            else:
                raise LogError(f"{self.name}: {error.str()}")


def log_at(url: str, next_offsets: Offsets | None = None) -> KafkaLog:
    """The log that a URL names, read from `next_offsets` on. Raises LogError or SettingsError."""
    broker, span = parse_kafka_url(url)
    if next_offsets is not None:
        if span.from_ms is not None or span.from_offsets.by_place:
            raise LogError(f"{url}: --seed says where to begin: leave out from and from-offset")
        span = span._replace(from_offsets=next_offsets)
    return KafkaLog(load_settings(broker=broker), span)


def log_with_journal(opened: Sequence[Log], until: str | None = None) -> KafkaLog:
    """The log to read by its journal: it has to be the only one, a whole broker, and without an end. Raises LogError."""
    if len(opened) != 1 or not isinstance(opened[0], KafkaLog):
        raise LogError("--journal needs one log, kafka://HOST:PORT: files have no journal")
    if opened[0].span != WHOLE:
        raise LogError("--journal replays everything that was folded: leave out what follows the ? of the URL")
    if until is not None:
        raise LogError("--journal ends where the journal ends: leave --until out")
    return opened[0]
