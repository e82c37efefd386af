"""Alerts to a webhook: from a topic, of each customer in order, as far as they are delivered or given up.

Alerts of different customers are on their way at the same time. The group commits up to the first that is still in hand, so a
process that ends anyhow sends some again and leaves none out; a receiver passes over ids that it had. What is given up goes to
the topic `undelivered`, as it was, with headers that say why.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from msgspec import Struct

from streams.envelope import Headers
from streams.kafka_log import quiet, reading, writing
from streams.lanes import STOP_SECONDS, Lanes
from streams.offsets import Offsets
from streams.settings import Settings
from streams.topics import UNDELIVERED
from streams.webhook import GivenUp, Webhook

log = logging.getLogger(__name__)

CHANGES: Final = ("opened", "updated", "woke", "breached")
"""What is sent if nothing else is asked for."""
MESSAGES_A_POLL: Final = 100
MOST_IN_HAND: Final = 1_000
IDLE_SECONDS: Final = 0.05
COMMIT_SECONDS: Final = 1.0
TELL_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 10.0
LARGEST_BYTES: Final = 64_000_000
PASSING: Final = (
    KafkaError._PARTITION_EOF,
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
)
"""Errors that the client gets over by itself."""


class PushError(Exception):
    """Something that can't be done, or a broker that fails; the message says what to do."""


class _After(Struct, gc=False):
    state: str


class Announced(Struct, gc=False):
    """What decides about a record of the topic `alerts`."""

    id: str
    customer_id: str
    seq: int
    change: str
    after: _After


class Record(NamedTuple):
    """A record as it came."""

    key: bytes
    value: bytes
    headers: dict[str, str]


Handle = Callable[[Record], Awaitable[None]]

_announced: Final = msgspec.json.Decoder(Announced)


def announced(value: bytes) -> Announced | None:
    """What a record says; None if it is no alert's."""
    try:
        return _announced.decode(value)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


class Undelivered:
    """The topic of what was given up."""

    def __init__(self, settings: Settings, group: str, webhook: Webhook) -> None:
        self.topic = settings.topic(UNDELIVERED)
        self._group = group
        self._webhook = webhook
        self._producer = Producer(writing(settings) | {"message.max.bytes": LARGEST_BYTES}, logger=quiet)

    async def put(self, record: Record, given_up: GivenUp) -> None:
        """Set a record aside. Raises PushError: then it is not committed either."""
        attempts = given_up.attempts + int(record.headers.get("attempts", "0"))
        told = {
            "group": self._group, "reason": given_up.reason, "status": given_up.status, "attempts": attempts,
            "url": self._webhook.name, "detail": given_up.detail,
        }  # fmt: skip
        headers: Headers = [(name, str(value).encode()) for name, value in told.items() if value is not None]
        error = await asyncio.to_thread(self._produce, record, headers)
        if error is not None:
            raise PushError(f"{self.topic} does not take what could not be delivered: {error.str()}")

    def _produce(self, record: Record, headers: Headers) -> KafkaError | None:
        results: list[KafkaError | None] = []
        try:
            self._producer.produce(
                self.topic,
                record.value,
                record.key,
                headers=headers,
                on_delivery=lambda error, _: results.append(error),
            )
        except KafkaException as error:
            found: KafkaError = error.args[0]
            return found
        self._producer.flush()
        return results[0] if results else None


class Sender:
    """Delivers or gives up, and counts."""

    def __init__(self, webhook: Webhook, undelivered: Undelivered) -> None:
        self._webhook = webhook
        self._undelivered = undelivered
        self.counts: Counter[str] = Counter()

    async def send(self, record: Record, record_id: str) -> None:
        """Returns once a record is delivered, or set aside."""
        given_up = await self._webhook.deliver(record_id, record.value)
        if given_up is None:
            self.counts["delivered"] += 1
            return
        await self._undelivered.put(record, given_up)
        self.counts["given up"] += 1
        log.warning("given up, %s after %d attempts: %s", given_up.reason, given_up.attempts, given_up.detail)

    async def send_chosen(self, changes: Collection[str], record: Record) -> None:
        """Send a record of the topic `alerts` if its change is one of these."""
        found = announced(record.value)
        if found is None or found.change not in changes:
            self.counts["passed over"] += 1
        else:
            await self.send(record, found.id)

    async def send_again(self, group: str, record: Record) -> None:
        """Send a record of the topic `undelivered`, if it is from this webhook."""
        found = announced(record.value)
        if found is None or record.headers.get("group") != group:
            self.counts["passed over"] += 1
        else:
            await self.send(record, found.id)


class Reader:
    """Reads a topic as a consumer group and gives the records to lanes."""

    def __init__(
        self, settings: Settings, topic: str, group: str, handle: Handle, lanes: Lanes, *, to_end: bool
    ) -> None:
        """With `to_end` from the beginning to where the topic ends now, else from now on for as long as it takes; after a
        first time from where the group was.
        """
        self._topic = topic
        self._server = settings.broker
        self._handle = handle
        self._lanes = lanes
        self._to_end = to_end
        self._ours: dict[int, Offsets] = {}
        self._is_paused = False
        self._commit_at = 0.0
        self._failure: Exception | None = None
        options = {"session.timeout.ms": settings.session_timeout, "queued.max.messages.kbytes": 16_384}
        self._consumer = Consumer(reading(settings, group) | options, logger=quiet)
        self._ends = self._find_ends()
        self._reached: set[int] = set()

    @property
    def has_all(self) -> bool:
        """Whether no other process of the group has a part of the topic."""
        return len(self._ours) == len(self._ends)

    async def run(self) -> None:
        """Read until cancelled, or until everything is done that was there. Raises PushError."""
        self._consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked)
        loop = asyncio.get_running_loop()
        while not self._is_done():
            messages = self._consumer.consume(MESSAGES_A_POLL, 0)
            if self._failure is not None:
                raise self._failure
            for message in messages:
                self._take(message)
            self._pause(self._lanes.in_hand >= MOST_IN_HAND)
            if loop.time() >= self._commit_at:
                await asyncio.to_thread(self._commit)
                self._commit_at = loop.time() + COMMIT_SECONDS
            await asyncio.sleep(0 if messages else IDLE_SECONDS)

    def close(self) -> None:
        """Commit, and leave the group."""
        self._commit()
        self._consumer.close()

    def _is_done(self) -> bool:
        return self._to_end and bool(self._ours) and self._reached >= self._ours.keys() and not self._lanes.in_hand

    def _take(self, message: Any) -> None:
        error, partition = message.error(), message.partition()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._reached.add(partition)
            elif error.code() not in PASSING:
                raise PushError(f"{self._topic} can't be read: {error.str()}")
            return
        offsets = self._ours.get(partition)
        if offsets is None:
            return
        if self._to_end and message.offset() >= self._ends[partition]:
            # What is given up now comes after the end.
            self._reached.add(partition)
            return
        offsets.begin(message.offset())
        value = message.value()
        if value is None:
            offsets.end(message.offset())
            return
        headers = {name: (text or b"").decode(errors="replace") for name, text in message.headers() or ()}
        record = Record(message.key() or b"", value, headers)
        self._lanes.put(record.key, partial(self._do, record, offsets, message.offset()))

    async def _do(self, record: Record, offsets: Offsets, offset: int) -> None:
        # After a rebalance another process has it.
        if offsets.is_ours:
            await self._handle(record)
            offsets.end(offset)

    def _pause(self, is_wanted: bool) -> None:
        """Who only pauses stays in the group, however long a receiver is away."""
        if is_wanted != self._is_paused:
            (self._consumer.pause if is_wanted else self._consumer.resume)(self._consumer.assignment())
            self._is_paused = is_wanted

    def _commit(self) -> None:
        found = [
            TopicPartition(self._topic, partition, offset)
            for partition, offsets in self._ours.items()
            if (offset := offsets.to_commit()) is not None
        ]
        if not found:
            return
        try:
            self._consumer.commit(offsets=found, asynchronous=False)
        except KafkaException as error:
            for one in found:
                self._ours[one.partition].not_committed()
            log.warning("not committed yet: %s", error.args[0].str())

    # ------------------------------------------------------------ Kafka
    def _find_ends(self) -> dict[int, int]:
        try:
            found = self._consumer.list_topics(self._topic, timeout=PATIENCE_SECONDS).topics[self._topic]
            if found.error is not None:
                raise PushError(
                    f"there is no topic {self._topic} at {self._server}; set TIERSTREAM_TOPIC_PREFIX if it has another name, "
                    "or make it by `tierstream topics create`"
                )
            return {number: self._edges(number)[1] for number in found.partitions}
        except KafkaException as error:
            raise PushError(
                f"no Kafka answers at {self._server} ({error.args[0].str()}). "
                "Start one with ./scripts/kafka up, or set TIERSTREAM_BROKER"
            ) from None

    def _edges(self, partition: int) -> tuple[int, int]:
        first, end = self._consumer.get_watermark_offsets(
            TopicPartition(self._topic, partition), timeout=PATIENCE_SECONDS
        )
        return first, end

    def _assigned(self, consumer: Any, partitions: list[Any]) -> None:
        try:
            self._begin(consumer, partitions)
        except KafkaException as error:
            # An exception from here would get lost in the client.
            self._failure = PushError(f"{self._topic} can't be read: {error.args[0].str()}")

    def _begin(self, consumer: Any, partitions: list[Any]) -> None:
        """Go on where the group was. A group that never was anywhere notes where it begins, before anything is done."""
        known = consumer.committed(partitions, timeout=PATIENCE_SECONDS)
        fresh = [one for one in known if one.offset == OFFSET_INVALID]
        for one in fresh:
            first, end = self._edges(one.partition)
            one.offset = first if self._to_end else end
        consumer.assign(known)
        if fresh:
            consumer.commit(offsets=fresh, asynchronous=False)
        self._ours = {one.partition: Offsets() for one in partitions}
        log.info("reads %d of %d partitions of %s", len(self._ours), len(self._ends), self._topic)
        self._is_paused = False

    def _revoked(self, consumer: Any, partitions: list[Any]) -> None:
        self._commit()
        for one in partitions:
            offsets = self._ours.pop(one.partition, None)
            if offsets is not None:
                offsets.is_ours = False


async def run(reader: Reader, lanes: Lanes, sender: Sender, stop: asyncio.Event, *others: Awaitable[None]) -> None:
    """Push until told to stop, until the reader is done, or until something fails, which is raised."""
    working = asyncio.ensure_future(lanes.run())
    tasks = [asyncio.ensure_future(one) for one in (stop.wait(), reader.run(), working, _tell(sender, lanes), *others)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    lanes.stop()
    for task in set(tasks) - {working}:
        task.cancel()
    await asyncio.wait({working}, timeout=STOP_SECONDS)
    working.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(reader.close)
    for task in done:
        error = task.exception()
        if isinstance(error, BaseExceptionGroup):
            raise error.exceptions[0]
        if error is not None:
            raise error


async def _tell(sender: Sender, lanes: Lanes) -> None:
    told: Counter[str] = Counter()
    while True:
        await asyncio.sleep(TELL_SECONDS)
        if sender.counts != told or lanes.in_hand:
            told = Counter(sender.counts)
            log.info("%s; %d in hand", in_words(told), lanes.in_hand)


def in_words(counts: Counter[str]) -> str:
    """What was done.

    >>> in_words(Counter({"delivered": 1200}))
    '1,200 delivered, 0 given up, 0 passed over'
    """
    return ", ".join(f"{counts[name]:,} {name}" for name in ("delivered", "given up", "passed over"))
