"""The loop of `tierstream ingest`: read records, map them, merge the partitions by time, write the events in a
transaction.

What is not committed is read again from the committed offsets of the group, after any failure: an outage, a rebalance,
a fenced producer. So there is one way to restart, and no event is lost or written twice.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.broker.librdkafka import group_member_options, silent_logger
from streams.engine.merge import BEFORE_ALL_MS
from streams.ingest.counts import Counts
from streams.ingest.partition_merge import PartitionMerge, Place
from streams.ingest.record_mapping import Source
from streams.ingest.record_rows import SourceRecord
from streams.ingest.schema_registry import RegistryUnavailable, Schemas
from streams.ingest.writer import TRY_SECONDS, Interrupted, Writer, give_up_if_fatal
from streams.settings import Settings

MESSAGES_A_POLL: Final = 2_000
POLL_SECONDS: Final = 0.1
SHORT_POLL_SECONDS: Final = 0.01
"""While records wait for their turn."""
LOG_SECONDS: Final = 10.0
FIRST_WAIT_SECONDS: Final = 0.5
LONGEST_WAIT_SECONDS: Final = 30.0

log = logging.getLogger("tierstream.ingest")


class Ingest:
    """Copies records of some topics to the input topics, mapped, as a member of a consumer group."""

    def __init__(
        self,
        settings: Settings,
        sources: Mapping[str, Source],
        schemas: Schemas,
        group: str,
        counts: Counts,
        is_over: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._sources = sources
        self._schemas = schemas
        self._counts = counts
        self._is_over = is_over
        self._writer = Writer(settings, group)
        self._merge = PartitionMerge(settings.max_idle / 1_000)
        self._ours: list[Place] = []
        self._next: dict[Place, int] = {}
        """The next offset to read, by partition."""
        self._latest_ms: dict[Place, int] = {}
        self._unmapped: dict[Place, list[SourceRecord]] = {}
        """Records that are not mapped yet, because the schema registry has not answered."""
        self._paused: set[Place] = set()
        self._overdue: list[Place] = []
        self._must_restart = False
        self._wait_until = 0.0
        self._wait_seconds = FIRST_WAIT_SECONDS
        self._log_at = time.monotonic() + LOG_SECONDS
        self._logged = counts.as_text()
        self._consumer = Consumer(group_member_options(settings, group), logger=silent_logger)

    # ------------------------------------------------------------ the loop
    def run(self) -> None:
        """Ingest until `is_over`. Raises IngestError."""
        self._consumer.subscribe(list(self._sources), on_assign=self._assigned, on_revoke=self._revoked)
        try:
            while not self._is_over():
                self._step()
        finally:
            self._writer.discard_producer()
            self._consumer.close()

    def _step(self) -> None:
        try:
            messages = self._poll()
            self._take(messages)
            if not self._ours or time.monotonic() < self._wait_until:
                return
            if self._must_restart:
                self._restart()
            self._map()
            self._pause()
            if len(messages) == MESSAGES_A_POLL and len(self._merge) < self._settings.max_batch:
                return  # more records are available at once, and larger batches cost less
            self._write()
            self._counts.update_caught_up(self._merge.is_drained)
            self._log_counts()
        except Interrupted as error:
            self._counts.count_interruption()
            self._wait(f"the batch is done again: {error}")
            self._must_restart = True
        except RegistryUnavailable as error:
            self._wait(str(error))

    def _poll(self) -> list[Any]:
        """The messages that have arrived; if there are none, wait for the first."""
        messages: list[Any] = self._consumer.consume(MESSAGES_A_POLL, 0)
        if not messages:
            first = self._consumer.poll(POLL_SECONDS if not self._merge else SHORT_POLL_SECONDS)
            messages = [] if first is None else [first]
        return messages

    def _take(self, messages: list[Any]) -> None:
        for message in messages:
            place = (message.topic(), message.partition())
            error = message.error()
            if error is not None:
                self._handle_error(place, error)
                continue
            if self._must_restart or message.offset() < self._next.get(place, message.offset() + 1):
                continue  # it was fetched before the offset to begin at was known
            self._next[place] = message.offset() + 1
            self._unmapped.setdefault(place, []).append(SourceRecord.of(message))
        self._update_ends()

    def _handle_error(self, place: Place, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            if place in self._next:
                self._merge.set_at_end(place, True)
            return
        give_up_if_fatal(error, f"{place[0] or 'a source'} can't be read")
        log.debug("%s: %s", place[0], error.str())  # the client recovers by itself

    def _update_ends(self) -> None:
        """Take the ends of partitions from the last fetch: they are known earlier than the broker reports an end."""
        for place, offset in self._next.items():
            if place in self._unmapped:
                end = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)[1]
                self._merge.set_at_end(place, offset >= end >= 0)

    def _map(self) -> None:
        """Map the records that were read. Raises RegistryUnavailable; the records that are not mapped then stay."""
        for place, records in list(self._unmapped.items()):
            source = self._sources[place[0]]
            self._schemas.learn(source.schema_ids(records))
            items = source.items(records, self._schemas, self._latest_ms.get(place, BEFORE_ALL_MS))
            self._latest_ms[place] = items[-1].at_ms
            self._merge.add(place, items)
            del self._unmapped[place]

    def _write(self) -> None:
        items = self._merge.take(time.monotonic(), self._settings.max_batch)
        if (overdue := self._merge.overdue) != self._overdue:
            self._overdue = overdue
            if overdue:
                log.warning("no longer waiting for partitions that have more records: %s", _by_topic(overdue))
        if not items:
            self._clear_trouble()
            return
        began = time.monotonic()
        self._writer.write(items, self._consumer.consumer_group_metadata(), self._is_over)
        self._counts.count_batch(items, time.monotonic() - began)
        self._update_lag({(item.record.topic, item.record.partition): item.record.offset + 1 for item in items})
        self._clear_trouble()

    def _update_lag(self, committed: Mapping[Place, int]) -> None:
        for place, offset in committed.items():
            end = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)[1]
            self._counts.lag[place] = max(end - offset, 0)

    def _pause(self) -> None:
        wanted = self._merge.partitions_to_pause(self._paused)
        if wanted != self._paused:
            self._consumer.resume([TopicPartition(*place) for place in self._paused - wanted])
            self._consumer.pause([TopicPartition(*place) for place in wanted - self._paused])
            self._paused = wanted

    # ------------------------------------------------------------ failures
    def _wait(self, why: str) -> None:
        """Pause all partitions for a while, but stay in the group."""
        if self._counts.trouble != why:
            log.warning("%s; trying again, and committing nothing meanwhile", why)
        self._counts.trouble = why
        self._wait_until = time.monotonic() + self._wait_seconds
        self._wait_seconds = min(2 * self._wait_seconds, LONGEST_WAIT_SECONDS)
        self._paused = set(self._ours)
        self._consumer.pause([TopicPartition(*place) for place in self._ours])

    def _clear_trouble(self) -> None:
        if self._counts.trouble is not None:
            log.info("the ingest continues")
            self._counts.trouble = None
            self._wait_seconds = FIRST_WAIT_SECONDS

    def _restart(self) -> None:
        """Continue from the committed offsets of the group, with no records in memory. Raises Interrupted or
        IngestError.
        """
        try:
            self._writer.take_over(self._ours)
            # This ends a transaction that was left open; only then the committed offsets are known.
            self._writer.begin(self._is_over)
            known = self._consumer.committed([TopicPartition(*place) for place in self._ours], timeout=TRY_SECONDS)
            for one in known:
                place = (one.topic, one.partition)
                first, end = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=TRY_SECONDS)
                if 0 <= one.offset < first:
                    log.warning(
                        "%s, partition %d: records %d to %d were deleted before they were ingested; retain them for longer",
                        one.topic, one.partition, one.offset, first - 1,
                    )  # fmt: skip
                one.offset = max(one.offset, first)
                self._counts.lag[place] = max(end - one.offset, 0)
            self._consumer.assign(known)
        except KafkaException as error:
            self._writer.discard_producer()
            give_up_if_fatal(error.args[0], "the sources can't be read")
            raise Interrupted(error.args[0].str()) from None
        self._merge.restart(self._ours)
        self._unmapped.clear()
        self._latest_ms.clear()
        self._next = {(one.topic, one.partition): one.offset for one in known}
        self._paused.clear()
        self._must_restart = False

    # ------------------------------------------------------------ rebalances
    def _assigned(self, consumer: Any, partitions: list[Any]) -> None:
        # The offsets to begin at are found later (`_restart`), once open transactions are ended. Until then nothing is
        # read.
        consumer.assign([])
        self._release()
        self._ours = sorted((one.topic, one.partition) for one in partitions)
        self._counts.caught_up = dict.fromkeys(self._ours, False)
        self._must_restart = bool(self._ours)
        self._wait_seconds, self._wait_until = FIRST_WAIT_SECONDS, 0.0
        log.info("reading %s", _by_topic(self._ours) or "nothing: there are more processes than partitions")

    def _revoked(self, consumer: Any, partitions: list[Any]) -> None:
        self._release()

    def _release(self) -> None:
        """Forget the partitions, with records that are not written: their next owner reads them again."""
        self._ours, self._next, self._must_restart = [], {}, False
        self._unmapped.clear()
        self._paused.clear()
        self._merge.restart([])
        self._counts.caught_up, self._counts.lag = None, {}

    def _log_counts(self) -> None:
        if time.monotonic() >= self._log_at:
            self._log_at = time.monotonic() + LOG_SECONDS
            if (text := self._counts.as_text()) != self._logged:
                self._logged = text
                log.info("%s; %d records behind", text, sum(self._counts.lag.values()))


def _by_topic(places: list[Place]) -> str:
    numbers: dict[str, list[int]] = defaultdict(list)
    for topic, number in places:
        numbers[topic].append(number)
    return ", ".join(f"{topic} {found}" for topic, found in numbers.items())
