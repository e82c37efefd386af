"""The topic of dead letters on the broker: reads them, sends them again and settles them
(streams/dead_letters/ledger.py).

A dead letter is open until a note on the same topic settles it: a record in the same partition with the same key, no
value, and headers that name the dead letter (`settles`) and say how. Readers of dead letters skip notes, which have no
header `reason`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from models.bodies import TOPIC_BODIES
from models.events import Decoder, Event, Rejected
from models.outputs import DEAD_LETTERS
from streams.broker.librdkafka import (
    LARGEST_BYTES,
    PATIENCE_SECONDS,
    OffsetRanges,
    producer_options,
    read_records,
    reader_options,
    silent_logger,
)
from streams.dead_letters.ledger import Address, DeadLetter, DeadLettersError, Ledger, ValueTruncated
from streams.engine.envelope import Headers
from streams.settings import Settings

MESSAGES_A_POLL: Final = 100
DEAD_LETTERS_A_BATCH: Final = 500
BYTES_A_BATCH: Final = 8_000_000
"""How much is sent as one batch, when many dead letters are sent."""
SENDING_SECONDS: Final = 30.0


class NotSent(NamedTuple):
    """Why a dead letter was not sent again: a reason code, `cut` or `unknown_topic`, and a sentence."""

    code: str
    detail: str


class Sending(NamedTuple):
    """An event to send in the place of a dead letter."""

    dead_letter: DeadLetter
    dead_letter_key: bytes | None
    """The key of the dead letter, for the note that settles it."""
    key: bytes | None
    value: bytes | None


class _Outgoing(NamedTuple):
    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers


ReportProgress = Callable[[int, int], None]
"""Is called with the number of records read so far, and of all."""


class DeadLetters:
    """The topic of an installation's dead letters. All methods raise DeadLettersError."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.topic = settings.topic(DEAD_LETTERS)

    def ledger(self, partitions: Collection[int] | None, report_progress: ReportProgress) -> Ledger:
        """Read the ledger in one pass, of some partitions or of all (None)."""
        ledger = Ledger()
        ranges = self._offset_ranges(partitions)
        total = sum(end - first for first, end in ranges.values())
        for done, message in enumerate(self._read(self.topic, ranges), 1):
            address = message.partition(), message.offset()
            ledger.take(address, message.timestamp()[1], message.key(), headers_of(message))
            if done % MESSAGES_A_POLL == 0:
                report_progress(done, total)
        return ledger

    def records(self, dead_letters: Collection[DeadLetter]) -> Generator[tuple[DeadLetter, Any]]:
        """Read the records of dead letters in one pass, each partition in order; yields each with its record."""
        wanted = {dead_letter.address: dead_letter for dead_letter in dead_letters}
        ranges: OffsetRanges = {}
        for partition, offset in wanted:
            first, end = ranges.get(partition, (offset, offset + 1))
            ranges[partition] = min(first, offset), max(end, offset + 1)
        for message in self._read(self.topic, ranges):
            dead_letter = wanted.get((message.partition(), message.offset()))
            if dead_letter is not None:
                yield dead_letter, message

    def record(self, dead_letter: DeadLetter) -> Any:
        """Read the record of one dead letter."""
        for _, message in self.records([dead_letter]):
            return message
        raise DeadLettersError(f"the dead letter {dead_letter.name} is no longer in {self.topic}")

    def original(self, dead_letter: DeadLetter, value: bytes | None) -> bytes | None:
        """The whole original value, read from the source topic if the dead letter has only its beginning. Raises
        ValueTruncated.
        """
        if dead_letter.value_bytes is None or value is None:
            return value
        if dead_letter.source is not None:
            topic, partition, offset = dead_letter.source
            for message in self._read(self._settings.topic(topic), {partition: (offset, offset + 1)}):
                whole: bytes = message.value() or b""
                # In a topic that was created anew, another record has the same offset.
                if len(whole) == dead_letter.value_bytes and whole.startswith(value):
                    return whole
        raise ValueTruncated(
            f"{dead_letter.name}: only {len(value)} of its {dead_letter.value_bytes} bytes were kept, and {dead_letter.where} is no "
            "longer there; repair it with --file, or dismiss it"
        )

    def resend(
        self,
        dead_letters: Collection[DeadLetter],
        decoder: Decoder,
        by: str,
        *,
        force: bool = False,
        dry_run: bool = False,
    ) -> Iterator[tuple[DeadLetter, NotSent | None]]:
        """Send original values again, in batches; yields each dead letter once it is settled (None), or why it was not
        sent.
        """
        batch: list[Sending] = []
        size = 0

        def send() -> Iterator[tuple[DeadLetter, None]]:
            with uninterrupted():
                if not dry_run:
                    self._send(batch, "resent", by)
                yield from ((sending.dead_letter, None) for sending in batch)
            batch.clear()

        with closing(self.records(dead_letters)) as records:
            for dead_letter, message in records:
                if dead_letter.topic not in TOPIC_BODIES:
                    yield dead_letter, unknown_topic(dead_letter)
                    continue
                try:
                    value = self.original(dead_letter, message.value())
                except ValueTruncated as error:
                    yield dead_letter, NotSent("cut", str(error))
                    continue
                left = unsendable(dead_letter, value, message.key(), decoder, force)
                if left is not None:
                    yield dead_letter, left
                    continue
                batch.append(Sending(dead_letter, message.key(), message.key(), value))
                size += len(value or b"")
                if len(batch) >= DEAD_LETTERS_A_BATCH or size >= BYTES_A_BATCH:
                    yield from send()
                    size = 0
            yield from send()

    def repair(self, sending: Sending, by: str) -> str:
        """Send a repaired event and settle its dead letter; returns topic:partition:offset of the event."""
        with uninterrupted():
            [place] = self._send([sending], "repaired", by)
        return place

    def _send(self, batch: Sequence[Sending], how: str, by: str) -> list[str]:
        """Produce the events and, once they are acknowledged, the notes that settle their dead letters.

        A crash in between leaves dead letters open whose events were sent; when they are sent again, they are
        recognised as repeats.
        """
        results = self._produce([self._event(sending) for sending in batch])
        sent = [
            (sending, f"{sending.dead_letter.topic}:{result[0]}:{result[1]}")
            for sending, result in zip(batch, results, strict=True)
            if not isinstance(result, KafkaError)
        ]
        notes = self._produce(
            [self._note(one.dead_letter, one.dead_letter_key, how, by, to=place) for one, place in sent]
        )
        for sending, result in zip(batch, results, strict=True):
            if isinstance(result, KafkaError):
                raise DeadLettersError(f"{sending.dead_letter.name} was not sent: {result.str()}; it stays open")
        self._check_notes([sending.dead_letter for sending, _ in sent], notes)
        return [place for _, place in sent]

    def dismiss(self, dead_letters: Collection[DeadLetter], by: str, note: str) -> None:
        """Settle dead letters without sending anything."""
        found = [(dead_letter, message.key()) for dead_letter, message in self.records(dead_letters)]
        with uninterrupted():
            notes = self._produce(
                [self._note(dead_letter, key, "dismissed", by, note=note) for dead_letter, key in found]
            )
        self._check_notes([dead_letter for dead_letter, _ in found], notes)

    def _event(self, sending: Sending) -> _Outgoing:
        headers = [("dead_letter", sending.dead_letter.name.encode())]
        return _Outgoing(self._settings.topic(sending.dead_letter.topic), None, sending.key, sending.value, headers)

    def _note(
        self,
        dead_letter: DeadLetter,
        key: bytes | None,
        how: str,
        by: str,
        note: str | None = None,
        to: str | None = None,
    ) -> _Outgoing:
        values = {"settles": dead_letter.name, "how": how, "by": by, "note": note, "to": to}
        headers = [(name, text.encode()) for name, text in values.items() if text is not None]
        return _Outgoing(self.topic, dead_letter.address[0], key, None, headers)

    def _check_notes(self, dead_letters: Sequence[DeadLetter], results: Sequence[Address | KafkaError]) -> None:
        for dead_letter, result in zip(dead_letters, results, strict=True):
            if isinstance(result, KafkaError):
                raise DeadLettersError(
                    f"the note that settles {dead_letter.name} was refused: {result.str()}; it stays open"
                )

    # ------------------------------------------------------------ Kafka
    def _offset_ranges(self, partitions: Collection[int] | None) -> OffsetRanges:
        """The first and the end offset of each partition now."""
        with closing(self._consumer()) as consumer:
            try:
                found = consumer.list_topics(self.topic, timeout=PATIENCE_SECONDS).topics[self.topic]
                if found.error is not None:
                    raise DeadLettersError(
                        f"there is no topic {self.topic} at {self._settings.broker}; set TIERSTREAM_TOPIC_PREFIX if it "
                        "has another name, or make it by `tierstream topics create`"
                    )
                numbers = [number for number in sorted(found.partitions) if partitions is None or number in partitions]
                return {
                    number: consumer.get_watermark_offsets(TopicPartition(self.topic, number), timeout=PATIENCE_SECONDS)
                    for number in numbers
                }
            except KafkaException as error:
                raise DeadLettersError(
                    f"no Kafka answers at {self._settings.broker} ({error.args[0].str()}). "
                    "Start one with ./scripts/kafka up, or set TIERSTREAM_BROKER"
                ) from None

    def _read(self, topic: str, ranges: OffsetRanges) -> Iterator[Any]:
        """Read the records in ranges of offsets, each partition in order."""
        with closing(self._consumer()) as consumer:
            yield from read_records(consumer, topic, ranges, DeadLettersError, MESSAGES_A_POLL)

    def _consumer(self) -> Any:
        options = {"queued.max.messages.kbytes": 16_384, "fetch.wait.max.ms": 100}
        return Consumer(reader_options(self._settings, "tierstream-dead-letters") | options, logger=silent_logger)

    @cached_property
    def _producer(self) -> Any:
        options = {
            "message.max.bytes": LARGEST_BYTES,
            "message.timeout.ms": int(SENDING_SECONDS * 1_000),
        }
        return Producer(producer_options(self._settings) | options, logger=silent_logger)

    def _produce(self, records: Sequence[_Outgoing]) -> list[Address | KafkaError]:
        """Produce records and wait; returns for each its partition and offset, or the error."""
        results: list[Any] = [None] * len(records)

        def store_result(number: int) -> Callable[[KafkaError | None, Any], None]:
            def delivered(error: KafkaError | None, message: Any) -> None:
                results[number] = error or (message.partition(), message.offset())

            return delivered

        for number, record in enumerate(records):
            where = {} if record.partition is None else {"partition": record.partition}
            try:
                self._producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    headers=record.headers,
                    on_delivery=store_result(number),
                    **where,
                )
            except KafkaException as error:
                results[number] = error.args[0]
        # It returns within message.timeout.ms: then every record is acknowledged or has failed.
        self._producer.flush()
        return results


def headers_of(message: Any) -> dict[str, str]:
    """A record's headers as text."""
    return {name: (value or b"").decode(errors="replace") for name, value in message.headers() or ()}


def decode_now(topic: str, value: bytes | None, key: bytes | None, decoder: Decoder) -> Event | Rejected:
    """The event of a record, or why it is rejected, as a worker would decode it now."""
    return decoder.decode(topic, value, key or b"", time.time_ns() // 1_000_000)


def unknown_topic(dead_letter: DeadLetter) -> NotSent:
    """Why a dead letter whose topic is not an input can't be sent again."""
    return NotSent(
        "unknown_topic",
        f"its topic {dead_letter.topic!r} is not among {', '.join(TOPIC_BODIES)}; if it is a live source, fix its mapping, ingest "
        "it again with another --group, and dismiss the dead letter",
    )


def unsendable(
    dead_letter: DeadLetter, value: bytes | None, key: bytes | None, decoder: Decoder, force: bool = False
) -> NotSent | None:
    """Why a worker would reject a dead letter again; None if it can be sent."""
    if dead_letter.topic not in TOPIC_BODIES:
        return unknown_topic(dead_letter)
    if force:
        return None
    decoded = decode_now(dead_letter.topic, value, key, decoder)
    if isinstance(decoded, Rejected):
        return NotSent(decoded.code, decoded.detail)
    if dead_letter.reason == "too_late":
        return NotSent("too_late", "only the worker can tell whether it is still too late; --force sends it anyway")
    return None


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds Ctrl-C back until the block is done, so that events that were sent get their notes."""
    held: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if held:
        raise KeyboardInterrupt
