"""Loads logs into the input topics: each event keyed by its customer, in the order in which it was read."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from types import FrameType
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from models import units
from models.bodies import EVERYBODY
from models.events import Decoder, Event, Rejected
from streams.broker.librdkafka import LARGEST_BYTES, producer_options, silent_logger
from streams.engine.merge import Record
from streams.ingest.destinations import destinations
from streams.settings import Settings
from streams.topics import INPUTS

EVENTS_A_POLL: Final = 500
WAIT_SECONDS: Final = 0.1
FLUSH_SECONDS: Final = 60.0
TOGETHER_MS: Final = units.DAY_MS
"""How much later the events of one topic may be than those of another that the broker may not have yet."""


class LoadError(RuntimeError):
    """The broker does not take what is loaded; the message says what to do."""


class Stopped(Exception):
    """A signal asked the load to stop."""


class DecoderNow:
    """Decodes as the worker will, for which a record's timestamp is the time at which it was loaded."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def decode(
        self, topic: str, value: bytes | None, key: bytes | None = None, timestamp_ms: int | None = None
    ) -> Event | Rejected:
        """As `Decoder.decode`; an event that is more than a day in the future is rejected."""
        return self._decoder.decode(topic, value, key, time.time_ns() // 1_000_000)


class Loader:
    """Writes records to the input topics. Each customer's are in one partition, in their order.

    `taken` counts the records that were taken from the log since it began, and `refused` those that can't be an event, by
    reason.
    """

    def __init__(self, settings: Settings, lateness_ms: int, on_notice: Callable[[str], None]) -> None:
        """`on_notice` is called with a sentence about the log, once for each thing that the worker may refuse it for."""
        self._settings = settings
        self._topics = {name: settings.topic(name) for name in INPUTS}
        self._partitions = range(settings.partitions)
        self._lateness_ms = lateness_ms
        self._on_notice = on_notice
        options = {
            "linger.ms": 20,
            # As long as the broker may be away before the load gives up.
            "message.timeout.ms": settings.request_timeout_ms,
            "message.max.bytes": LARGEST_BYTES,
        }
        self._producer = Producer(producer_options(settings) | options, logger=silent_logger)
        self._sent: Counter[str] = Counter()
        self._messages = 0
        self._unanswered: dict[int, tuple[int, str]] = {}
        """For each message that the broker has not answered yet, the number of its record, from 0, and its topic."""
        self._failure: KafkaError | None = None
        self._is_to_stop = False
        self.taken = 0
        self.refused: Counter[str] = Counter()
        self.first_ms: int | None = None
        self.latest_ms = -1
        self.last_customer: str | None = None
        self._is_out_of_order = False
        self._span_ms = min(TOGETHER_MS, lateness_ms)
        self._together: set[str] = set()
        """The topics of the events since the broker was last waited for; the first of these is of `_together_since_ms`."""
        self._together_since_ms = 0

    @property
    def done(self) -> int:
        """How many records of the log, from its first one, are done: the broker has them, or they were refused."""
        return min((number for number, _ in self._unanswered.values()), default=self.taken)

    @property
    def loaded(self) -> Counter[str]:
        """How many events the broker has, by topic."""
        return self._sent - Counter(topic for _, topic in set(self._unanswered.values()))

    def load(
        self,
        streams: Iterable[Iterator[Record]],
        on_refused: Callable[[Record, Rejected], None],
        on_events: Callable[[int], None],
        skip: int = 0,
        rate: float | None = None,
    ) -> None:
        """Load streams of records, one after the other; of the first one not the first `skip`. At most `rate` a second.

        Counts begin again with each stream. Raises Stopped, LoadError, and LogError of the log.
        """
        for stream in streams:
            self.taken, started, number = skip, time.monotonic(), 0
            for number, record in enumerate(islice(stream, skip, None), 1):
                if isinstance(record.decoded, Rejected):
                    self.refused[record.decoded.code] += 1
                    on_refused(record, record.decoded)
                else:
                    self._look_at(record)
                    self._keep_together(record)
                    self._send(record, record.decoded.key)
                self.taken += 1
                if rate is not None:
                    self._wait_until(started + number / rate)
                if number % EVENTS_A_POLL == 0:
                    self.poll(0)
                    on_events(EVENTS_A_POLL)
            on_events(number % EVENTS_A_POLL)
            skip = 0
            self.flush()

    def poll(self, seconds: float = WAIT_SECONDS) -> None:
        """Hear what the broker answers, for so long at the most. Raises Stopped or LoadError."""
        self._producer.poll(seconds)
        self._check_answers()
        if self._is_to_stop:
            raise Stopped

    def flush(self) -> None:
        """Wait until the broker has everything. Raises LoadError."""
        deadline = time.monotonic() + FLUSH_SECONDS
        while self._producer.flush(WAIT_SECONDS):
            self._check_answers()
            if time.monotonic() > deadline:
                raise LoadError(f"the broker at {self._settings.broker} has not answered for {FLUSH_SECONDS:.0f} s")
        self._check_answers()

    def _check_answers(self) -> None:
        if self._failure is not None:
            self._producer.purge()  # so that nothing comes after the event that is missing
            raise LoadError(
                f"the broker at {self._settings.broker} did not take an event ({self._failure.str()}); is it well? "
                "tierstream doctor examines it"
            )

    def _send(self, record: Record, key: bytes) -> None:
        topic = record.topic
        for partition in destinations(topic, key, self._partitions):
            delivered = partial(self._delivered, self._messages)
            self._unanswered[self._messages] = (self.taken, topic)
            while True:
                try:
                    self._producer.produce(self._topics[topic], record.value, key, partition, on_delivery=delivered)
                    break
                except BufferError:  # the queue is full
                    self.poll()
                except KafkaException as error:
                    raise LoadError(f"{self._topics[topic]} takes no events: {error.args[0].str()}") from None
            self._messages += 1
        self._sent[topic] += 1

    def _keep_together(self, record: Record) -> None:
        """Wait until the broker has what is long before an event of another topic.

        A worker merges the topics that it reads by time, but only what it has. Were a topic far ahead of another one, its
        events would move the clock of customers beyond what comes on the other.
        """
        topics, at_ms = self._together, record.occurred_at_ms
        if topics - {record.topic} and abs(at_ms - self._together_since_ms) > self._span_ms:
            self.flush()
            topics.clear()
        if not topics:
            self._together_since_ms = at_ms
        topics.add(record.topic)

    def _delivered(self, number: int, error: KafkaError | None, _: Any) -> None:
        if error is None:
            del self._unanswered[number]
        elif self._failure is None:
            self._failure = error

    def _look_at(self, record: Record) -> None:
        """Say, once, what a worker may refuse events of this log for, as far as it can be known before."""
        at_ms = record.occurred_at_ms
        if self.first_ms is None:
            self.first_ms = at_ms
            oldest_ms = time.time_ns() // 1_000_000 - self._lateness_ms
            if self._settings.clock == "wall" and at_ms < oldest_ms:
                self._on_notice(
                    f"the log begins at {units.format_time(at_ms)}, longer ago than the policy's lateness. A worker that has "
                    "reached the present refuses such events (too_late): let one read them with TIERSTREAM_CLOCK=event; "
                    "docs/running.md, Loading history"
                )
        if at_ms < self.latest_ms - self._lateness_ms and not self._is_out_of_order:
            self._is_out_of_order = True
            self._on_notice(
                f"the log is not in the order of time: after {units.format_time(self.latest_ms)} it has an event of "
                f"{units.format_time(at_ms)}. What is later than the policy's lateness allows, the worker refuses (too_late); "
                "--sort sorts first"
            )
        self.latest_ms = max(self.latest_ms, at_ms)
        if isinstance(record.decoded, Event) and record.decoded.customer_id != EVERYBODY:
            self.last_customer = record.decoded.customer_id

    def _wait_until(self, due: float) -> None:
        while (left := due - time.monotonic()) > 0:
            self.poll(min(left, WAIT_SECONDS))

    @contextmanager
    def stopping_between_records(self) -> Iterator[None]:
        """Let Ctrl-C, or an orchestrator's signal, stop the load between two records; a second one stops it at once."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._is_to_stop = True
            signal.signal(number, kept[number])

        kept: dict[int, Any] = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)
