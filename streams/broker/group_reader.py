"""Reads a topic as a member of a consumer group, and commits the records that are handled, in whatever order they
finish.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, NamedTuple

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition

from streams.broker.keyed_queues import KeyedQueues
from streams.broker.librdkafka import group_member_options, silent_logger
from streams.broker.offset_tracker import OffsetTracker
from streams.settings import Settings

log = logging.getLogger(__name__)

MESSAGES_A_POLL: Final = 100
MOST_UNFINISHED: Final = 1_000
IDLE_SECONDS: Final = 0.05
COMMIT_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 10.0
PASSING: Final = (
    KafkaError._PARTITION_EOF,
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError._MAX_POLL_EXCEEDED,
)
"""Errors from which the client recovers by itself."""


class GroupReaderError(Exception):
    """The broker fails, or a topic can't be read or written; the message says what to do."""


class Record(NamedTuple):
    """A record with its headers as text."""

    key: bytes
    value: bytes
    headers: dict[str, str]


Handle = Callable[[Record], Awaitable[None]]


class Reader:
    """Reads a topic as a member of a consumer group and puts its records into queues by key; `handle` handles each."""

    def __init__(
        self, settings: Settings, topic: str, group: str, handle: Handle, queues: KeyedQueues, *, to_end: bool
    ) -> None:
        """With `to_end` the reader begins at the topic's start and is done at its present end; else it begins at the
        present end and never is. A group that has read before continues after its last commit. Raises GroupReaderError.
        """
        self._topic = topic
        self._server = settings.broker
        self._handle = handle
        self._queues = queues
        self._to_end = to_end
        self._ours: dict[int, OffsetTracker] = {}
        self._is_paused = False
        self._commit_at = 0.0
        self._failure: Exception | None = None
        self._consumer = Consumer(group_member_options(settings, group), logger=silent_logger)
        self._ends = self._find_ends()
        self._reached: set[int] = set()

    @property
    def has_all(self) -> bool:
        """Whether no other process of the group has a partition of the topic."""
        return len(self._ours) == len(self._ends)

    async def run(self) -> None:
        """Read until cancelled; with `to_end`, until all records are handled. Raises GroupReaderError."""
        self._consumer.subscribe([self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke)
        loop = asyncio.get_running_loop()
        while not self._is_done():
            messages = self._consumer.consume(MESSAGES_A_POLL, 0)
            if self._failure is not None:
                raise self._failure
            for message in messages:
                self._take(message)
            self._pause(self._queues.unfinished >= MOST_UNFINISHED)
            if loop.time() >= self._commit_at:
                await asyncio.to_thread(self._commit)
                self._commit_at = loop.time() + COMMIT_SECONDS
            await asyncio.sleep(0 if messages else IDLE_SECONDS)

    def close(self) -> None:
        """Commit, and leave the group."""
        self._commit()
        self._consumer.close()

    def _is_done(self) -> bool:
        return self._to_end and bool(self._ours) and self._reached >= self._ours.keys() and not self._queues.unfinished

    def _take(self, message: Any) -> None:
        error, partition = message.error(), message.partition()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._reached.add(partition)
            elif error.code() not in PASSING:
                raise GroupReaderError(f"{self._topic} can't be read: {error.str()}")
            return
        offsets = self._ours.get(partition)
        if offsets is None:
            return
        if self._to_end and message.offset() >= self._ends[partition]:
            # Records from beyond the end were given up in this very run.
            self._reached.add(partition)
            return
        offsets.begin(message.offset())
        value = message.value()
        if value is None:
            offsets.finish(message.offset())
            return
        headers = {name: (text or b"").decode(errors="replace") for name, text in message.headers() or ()}
        record = Record(message.key() or b"", value, headers)
        self._queues.put(record.key, partial(self._do, record, offsets, message.offset()))

    async def _do(self, record: Record, offsets: OffsetTracker, offset: int) -> None:
        # After a rebalance another process handles the record.
        if offsets.is_ours:
            await self._handle(record)
            offsets.finish(offset)

    def _pause(self, is_wanted: bool) -> None:
        """Pause or resume fetching. A paused consumer stays in the group, however long a receiver can't be reached."""
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
                self._ours[one.partition].commit_failed()
            log.warning("offsets are not committed yet: %s", error.args[0].str())

    # ------------------------------------------------------------ Kafka
    def _find_ends(self) -> dict[int, int]:
        try:
            found = self._consumer.list_topics(self._topic, timeout=PATIENCE_SECONDS).topics[self._topic]
            if found.error is not None:
                raise GroupReaderError(
                    f"there is no topic {self._topic} at {self._server}; set TIERSTREAM_TOPIC_PREFIX if it has another name, "
                    "or make it by `tierstream topics create`"
                )
            return {number: self._edges(number)[1] for number in found.partitions}
        except KafkaException as error:
            raise GroupReaderError(
                f"no Kafka answers at {self._server} ({error.args[0].str()}). "
                "Start one with ./scripts/kafka up, or set TIERSTREAM_BROKER"
            ) from None

    def _edges(self, partition: int) -> tuple[int, int]:
        first, end = self._consumer.get_watermark_offsets(
            TopicPartition(self._topic, partition), timeout=PATIENCE_SECONDS
        )
        return first, end

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        try:
            self._begin(consumer, partitions)
        except KafkaException as error:
            # An exception that leaves this callback would be lost in the client.
            self._failure = GroupReaderError(f"{self._topic} can't be read: {error.args[0].str()}")

    def _begin(self, consumer: Any, partitions: list[Any]) -> None:
        """Continue after the group's last commit. A group without one commits where it begins, before any record is
        handled.
        """
        known = consumer.committed(partitions, timeout=PATIENCE_SECONDS)
        fresh = [one for one in known if one.offset == OFFSET_INVALID]
        for one in fresh:
            first, end = self._edges(one.partition)
            one.offset = first if self._to_end else end
        consumer.assign(known)
        if fresh:
            consumer.commit(offsets=fresh, asynchronous=False)
        self._ours = {one.partition: OffsetTracker() for one in partitions}
        log.info("reads %d of %d partitions of %s", len(self._ours), len(self._ends), self._topic)
        self._is_paused = False

    def _on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        self._commit()
        for one in partitions:
            offsets = self._ours.pop(one.partition, None)
            if offsets is not None:
                offsets.is_ours = False
