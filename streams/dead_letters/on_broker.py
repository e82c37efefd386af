"""Dead letters on the broker: read, sent again and settled; what they are is in streams/dead_letters/ledger.py.

The topic is its own ledger. A letter is open until a note settles it: a record in the same partition with the letter's
key, no value, and headers that say which letter (`settles`) and how. Whoever reads dead letters passes over notes; they
have no header `reason`.
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
from streams.broker.librdkafka import LARGEST_BYTES, PATIENCE_SECONDS, Spans, quiet, reading, records_in, writing
from streams.dead_letters.ledger import Address, Cut, DeadLettersError, Ledger, Letter
from streams.engine.envelope import Headers
from streams.settings import Settings

MESSAGES_A_POLL: Final = 100
LETTERS_A_BATCH: Final = 500
BYTES_A_BATCH: Final = 8_000_000
"""Letters in hand at once, when many are sent."""
SENDING_SECONDS: Final = 30.0


class Left(NamedTuple):
    """Why a letter was not sent again: a reason code, `cut`, or `unknown_topic`; and a sentence."""

    code: str
    detail: str


class Sending(NamedTuple):
    """A letter's event on its way."""

    letter: Letter
    letter_key: bytes | None
    """The letter's own key, for its note."""
    key: bytes | None
    value: bytes | None


class _Outgoing(NamedTuple):
    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers


Told = Callable[[int, int], None]
"""Is told how much is done, and of how much."""


class DeadLetters:
    """The dead letters on an installation's broker. Whatever fails raises DeadLettersError."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.topic = settings.topic(DEAD_LETTERS)

    def ledger(self, partitions: Collection[int] | None, told: Told) -> Ledger:
        """The ledger, read in one pass; of some partitions only, or of all (None)."""
        ledger = Ledger()
        spans = self._spans(partitions)
        total = sum(end - first for first, end in spans.values())
        for done, message in enumerate(self._read(self.topic, spans), 1):
            address = message.partition(), message.offset()
            ledger.take(address, message.timestamp()[1], message.key(), headers_of(message))
            if done % MESSAGES_A_POLL == 0:
                told(done, total)
        return ledger

    def records(self, letters: Collection[Letter]) -> Generator[tuple[Letter, Any]]:
        """The letters with their records on the broker, read in one pass; partition by partition in order."""
        wanted = {letter.address: letter for letter in letters}
        spans: Spans = {}
        for partition, offset in wanted:
            first, end = spans.get(partition, (offset, offset + 1))
            spans[partition] = min(first, offset), max(end, offset + 1)
        for message in self._read(self.topic, spans):
            letter = wanted.get((message.partition(), message.offset()))
            if letter is not None:
                yield letter, message

    def record(self, letter: Letter) -> Any:
        """A letter's record on the broker."""
        for _, message in self.records([letter]):
            return message
        raise DeadLettersError(f"the dead letter {letter.name} is no longer in {self.topic}")

    def original(self, letter: Letter, value: bytes | None) -> bytes | None:
        """The whole original value; where the letter has only its beginning, from the source topic. Raises Cut."""
        if letter.value_bytes is None or value is None:
            return value
        if letter.source is not None:
            topic, partition, offset = letter.source
            for message in self._read(self._settings.topic(topic), {partition: (offset, offset + 1)}):
                whole: bytes = message.value() or b""
                # A topic that was made anew has another record there.
                if len(whole) == letter.value_bytes and whole.startswith(value):
                    return whole
        raise Cut(
            f"{letter.name}: only {len(value)} of its {letter.value_bytes} bytes were kept, and {letter.where} is no "
            "longer there; repair it with --file, or dismiss it"
        )

    def resend(
        self, letters: Collection[Letter], decoder: Decoder, by: str, *, force: bool = False, dry_run: bool = False
    ) -> Iterator[tuple[Letter, Left | None]]:
        """Send the original bytes again, in batches; yields each letter once it is settled, or why it was left."""
        batch: list[Sending] = []
        size = 0

        def send() -> Iterator[tuple[Letter, None]]:
            with uninterrupted():
                if not dry_run:
                    self._send(batch, "resent", by)
                yield from ((sending.letter, None) for sending in batch)
            batch.clear()

        with closing(self.records(letters)) as records:
            for letter, message in records:
                if letter.topic not in TOPIC_BODIES:
                    yield letter, foreign(letter)
                    continue
                try:
                    value = self.original(letter, message.value())
                except Cut as error:
                    yield letter, Left("cut", str(error))
                    continue
                left = unsendable(letter, value, message.key(), decoder, force)
                if left is not None:
                    yield letter, left
                    continue
                batch.append(Sending(letter, message.key(), message.key(), value))
                size += len(value or b"")
                if len(batch) >= LETTERS_A_BATCH or size >= BYTES_A_BATCH:
                    yield from send()
                    size = 0
            yield from send()

    def repair(self, sending: Sending, by: str) -> str:
        """Send a mended event and settle its letter; returns topic:partition:offset of the event."""
        with uninterrupted():
            [place] = self._send([sending], "repaired", by)
        return place

    def _send(self, batch: Sequence[Sending], how: str, by: str) -> list[str]:
        """Produce the events and, once they are acknowledged, the notes that settle their letters.

        A crash in between leaves letters open whose events went out; sent again, those are taken for the repetitions
        they are.
        """
        results = self._produce([self._event(sending) for sending in batch])
        sent = [
            (sending, f"{sending.letter.topic}:{result[0]}:{result[1]}")
            for sending, result in zip(batch, results, strict=True)
            if not isinstance(result, KafkaError)
        ]
        notes = self._produce([self._note(one.letter, one.letter_key, how, by, to=place) for one, place in sent])
        for sending, result in zip(batch, results, strict=True):
            if isinstance(result, KafkaError):
                raise DeadLettersError(f"{sending.letter.name} was not sent: {result.str()}; it stays open")
        self._check_notes([sending.letter for sending, _ in sent], notes)
        return [place for _, place in sent]

    def dismiss(self, letters: Collection[Letter], by: str, note: str) -> None:
        """Settle letters without sending anything."""
        found = [(letter, message.key()) for letter, message in self.records(letters)]
        with uninterrupted():
            notes = self._produce([self._note(letter, key, "dismissed", by, note=note) for letter, key in found])
        self._check_notes([letter for letter, _ in found], notes)

    def _event(self, sending: Sending) -> _Outgoing:
        headers = [("dead_letter", sending.letter.name.encode())]
        return _Outgoing(self._settings.topic(sending.letter.topic), None, sending.key, sending.value, headers)

    def _note(
        self, letter: Letter, key: bytes | None, how: str, by: str, note: str | None = None, to: str | None = None
    ) -> _Outgoing:
        told = {"settles": letter.name, "how": how, "by": by, "note": note, "to": to}
        headers = [(name, text.encode()) for name, text in told.items() if text is not None]
        return _Outgoing(self.topic, letter.address[0], key, None, headers)

    def _check_notes(self, letters: Sequence[Letter], results: Sequence[Address | KafkaError]) -> None:
        for letter, result in zip(letters, results, strict=True):
            if isinstance(result, KafkaError):
                raise DeadLettersError(
                    f"the note that settles {letter.name} was refused: {result.str()}; it stays open"
                )

    # ------------------------------------------------------------ Kafka
    def _spans(self, partitions: Collection[int] | None) -> Spans:
        """From where to where the topic goes now."""
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

    def _read(self, topic: str, spans: Spans) -> Iterator[Any]:
        """The records in the spans; each partition in order."""
        with closing(self._consumer()) as consumer:
            yield from records_in(consumer, topic, spans, DeadLettersError, MESSAGES_A_POLL)

    def _consumer(self) -> Any:
        options = {"queued.max.messages.kbytes": 16_384, "fetch.wait.max.ms": 100}
        return Consumer(reading(self._settings, "tierstream-dead-letters") | options, logger=quiet)

    @cached_property
    def _producer(self) -> Any:
        options = {
            "message.max.bytes": LARGEST_BYTES,
            "message.timeout.ms": int(SENDING_SECONDS * 1_000),
        }
        return Producer(writing(self._settings) | options, logger=quiet)

    def _produce(self, records: Sequence[_Outgoing]) -> list[Address | KafkaError]:
        """Produce and wait; per record the partition and offset it got, or why it got none."""
        results: list[Any] = [None] * len(records)

        def note_result(number: int) -> Callable[[KafkaError | None, Any], None]:
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
                    on_delivery=note_result(number),
                    **where,
                )
            except KafkaException as error:
                results[number] = error.args[0]
        # Ends within message.timeout.ms: by then every record is acknowledged or given up.
        self._producer.flush()
        return results


def headers_of(message: Any) -> dict[str, str]:
    """A record's headers as text."""
    return {name: (value or b"").decode(errors="replace") for name, value in message.headers() or ()}


def judge(topic: str, value: bytes | None, key: bytes | None, decoder: Decoder) -> Event | Rejected:
    """What a worker would make of a record that is produced now."""
    return decoder.decode(topic, value, key or b"", time.time_ns() // 1_000_000)


def foreign(letter: Letter) -> Left:
    """Why a letter of somebody else's topic can't be sent again."""
    return Left(
        "unknown_topic",
        f"its topic {letter.topic!r} is not among {', '.join(TOPIC_BODIES)}; if it is a live source, mend its mapping, ingest "
        "it again with another --group, and dismiss the letter",
    )


def unsendable(
    letter: Letter, value: bytes | None, key: bytes | None, decoder: Decoder, force: bool = False
) -> Left | None:
    """Why a letter would only come back; None if it can be sent again."""
    if letter.topic not in TOPIC_BODIES:
        return foreign(letter)
    if force:
        return None
    judged = judge(letter.topic, value, key, decoder)
    if isinstance(judged, Rejected):
        return Left(judged.code, judged.detail)
    if letter.reason == "too_late":
        return Left("too_late", "only the customer's clock can tell whether it still is; --force sends it all the same")
    return None


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds Ctrl-C back until the block is done: events that went out get their notes."""
    held: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if held:
        raise KeyboardInterrupt
