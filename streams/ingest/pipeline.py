"""The loop of `tierstream ingest`: read, map, put in order, write in a transaction.

What is not committed is read again from where the group is, whatever went wrong: an outage, a rebalance, a fence. So there is one
way to begin anew, and an event is neither lost nor there twice.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.broker.librdkafka import quiet, tailing
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
PATIENT_POLL_SECONDS: Final = 0.01
"""While records are in hand whose turn has not come."""
TELL_SECONDS: Final = 10.0
FIRST_WAIT_SECONDS: Final = 0.5
LONGEST_WAIT_SECONDS: Final = 30.0

log = logging.getLogger("tierstream.ingest")


class Ingest:
    """Carries records of some topics into the input topics, as a member of a consumer group."""

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
        self._pace = PartitionMerge(settings.max_idle / 1_000)
        self._ours: list[Place] = []
        self._next: dict[Place, int] = {}
        """Of each partition the offset that is read next."""
        self._latest_ms: dict[Place, int] = {}
        self._unmapped: dict[Place, list[SourceRecord]] = {}
        """What waits for the registry."""
        self._paused: set[Place] = set()
        self._left_aside: list[Place] = []
        self._must_begin = False
        self._waits_until = 0.0
        self._wait_seconds = FIRST_WAIT_SECONDS
        self._tell_at = time.monotonic() + TELL_SECONDS
        self._told = counts.in_words()
        self._consumer = Consumer(tailing(settings, group), logger=quiet)

    # ------------------------------------------------------------ the loop
    def run(self) -> None:
        """Carry until it is over. Raises IngestError."""
        self._consumer.subscribe(list(self._sources), on_assign=self._assigned, on_revoke=self._revoked)
        try:
            while not self._is_over():
                self._step()
        finally:
            self._writer.drop()
            self._consumer.close()

    def _step(self) -> None:
        try:
            messages = self._poll()
            self._take(messages)
            if not self._ours or time.monotonic() < self._waits_until:
                return
            if self._must_begin:
                self._begin()
            self._map()
            self._pause()
            if len(messages) == MESSAGES_A_POLL and len(self._pace) < self._settings.max_batch:
                return  # there is more at once: larger batches take less time
            self._write()
            self._counts.note_caught_up(self._pace.drained)
            self._tell()
        except Interrupted as error:
            self._counts.interrupted()
            self._wait(f"begun anew: {error}")
            self._must_begin = True
        except RegistryUnavailable as error:
            self._wait(str(error))

    def _poll(self) -> list[Any]:
        """What is here, at once; else the first that comes."""
        messages: list[Any] = self._consumer.consume(MESSAGES_A_POLL, 0)
        if not messages:
            first = self._consumer.poll(POLL_SECONDS if not self._pace else PATIENT_POLL_SECONDS)
            messages = [] if first is None else [first]
        return messages

    def _take(self, messages: list[Any]) -> None:
        for message in messages:
            place = (message.topic(), message.partition())
            error = message.error()
            if error is not None:
                self._note_error(place, error)
                continue
            if self._must_begin or message.offset() < self._next.get(place, message.offset() + 1):
                continue  # on its way before it was known where to begin
            self._next[place] = message.offset() + 1
            self._unmapped.setdefault(place, []).append(SourceRecord.of(message))
        self._note_ends()

    def _note_error(self, place: Place, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            if place in self._next:
                self._pace.note_end(place, True)
            return
        give_up_if_fatal(error, f"{place[0] or 'a source'} can't be read")
        log.debug("%s: %s", place[0], error.str())  # the client gets over it by itself

    def _note_ends(self) -> None:
        """Ends as the broker told them with the last fetch: sooner than it says that nothing more is there."""
        for place, offset in self._next.items():
            if place in self._unmapped:
                end = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)[1]
                self._pace.note_end(place, offset >= end >= 0)

    def _map(self) -> None:
        """Raises RegistryUnavailable; what is not mapped then stays."""
        for place, records in list(self._unmapped.items()):
            source = self._sources[place[0]]
            self._schemas.learn(source.schema_ids(records))
            items = source.items(records, self._schemas, self._latest_ms.get(place, BEFORE_ALL_MS))
            self._latest_ms[place] = items[-1].at_ms
            self._pace.add(place, items)
            del self._unmapped[place]

    def _write(self) -> None:
        items = self._pace.take(time.monotonic(), self._settings.max_batch)
        if (left_aside := self._pace.left_aside) != self._left_aside:
            self._left_aside = left_aside
            if left_aside:
                log.warning("not waited for any longer, though there is more of it: %s", _by_topic(left_aside))
        if not items:
            self._all_well()
            return
        began = time.monotonic()
        self._writer.write(items, self._consumer.consumer_group_metadata(), self._is_over)
        self._counts.written(items, time.monotonic() - began)
        self._note_lag({(item.record.topic, item.record.partition): item.record.offset + 1 for item in items})
        self._all_well()

    def _note_lag(self, committed: Mapping[Place, int]) -> None:
        for place, offset in committed.items():
            end = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)[1]
            self._counts.lag[place] = max(end - offset, 0)

    def _pause(self) -> None:
        wanted = self._pace.to_pause(self._paused)
        if wanted != self._paused:
            self._consumer.resume([TopicPartition(*place) for place in self._paused - wanted])
            self._consumer.pause([TopicPartition(*place) for place in wanted - self._paused])
            self._paused = wanted

    # ------------------------------------------------------------ what goes wrong
    def _wait(self, why: str) -> None:
        """Do nothing for a while, but stay in the group."""
        if self._counts.trouble != why:
            log.warning("%s; tried again, and nothing is committed meanwhile", why)
        self._counts.trouble = why
        self._waits_until = time.monotonic() + self._wait_seconds
        self._wait_seconds = min(2 * self._wait_seconds, LONGEST_WAIT_SECONDS)
        self._paused = set(self._ours)
        self._consumer.pause([TopicPartition(*place) for place in self._ours])

    def _all_well(self) -> None:
        if self._counts.trouble is not None:
            log.info("it goes on")
            self._counts.trouble = None
            self._wait_seconds = FIRST_WAIT_SECONDS

    def _begin(self) -> None:
        """Read on from where the group is, with nothing in hand. Raises Interrupted or IngestError."""
        try:
            self._writer.own(self._ours)
            # Ends what was left open: only then it is known how far it was committed.
            self._writer.begin(self._is_over)
            known = self._consumer.committed([TopicPartition(*place) for place in self._ours], timeout=TRY_SECONDS)
            for one in known:
                place = (one.topic, one.partition)
                first, end = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=TRY_SECONDS)
                if 0 <= one.offset < first:
                    log.warning(
                        "%s, partition %d: records %d to %d were deleted before they were ingested; keep them for longer",
                        one.topic, one.partition, one.offset, first - 1,
                    )  # fmt: skip
                one.offset = max(one.offset, first)
                self._counts.lag[place] = max(end - one.offset, 0)
            self._consumer.assign(known)
        except KafkaException as error:
            self._writer.drop()
            give_up_if_fatal(error.args[0], "the sources can't be read")
            raise Interrupted(error.args[0].str()) from None
        self._pace.begin(self._ours)
        self._unmapped.clear()
        self._latest_ms.clear()
        self._next = {(one.topic, one.partition): one.offset for one in known}
        self._paused.clear()
        self._must_begin = False

    # ------------------------------------------------------------ partitions come and go
    def _assigned(self, consumer: Any, partitions: list[Any]) -> None:
        # Where each begins is found out after this, when what somebody else left open is ended. Till then nothing is read.
        consumer.assign([])
        self._let_go()
        self._ours = sorted((one.topic, one.partition) for one in partitions)
        self._counts.caught_up = dict.fromkeys(self._ours, False)
        self._must_begin = bool(self._ours)
        self._wait_seconds, self._waits_until = FIRST_WAIT_SECONDS, 0.0
        log.info("reads %s", _by_topic(self._ours) or "nothing: there are more processes than partitions")

    def _revoked(self, consumer: Any, partitions: list[Any]) -> None:
        self._let_go()

    def _let_go(self) -> None:
        """What is in hand and not written is the next owner's."""
        self._ours, self._next, self._must_begin = [], {}, False
        self._unmapped.clear()
        self._paused.clear()
        self._pace.begin([])
        self._counts.caught_up, self._counts.lag = None, {}

    def _tell(self) -> None:
        if time.monotonic() >= self._tell_at:
            self._tell_at = time.monotonic() + TELL_SECONDS
            if (words := self._counts.in_words()) != self._told:
                self._told = words
                log.info("%s; %d to go", words, sum(self._counts.lag.values()))


def _by_topic(places: list[Place]) -> str:
    numbers: dict[str, list[int]] = defaultdict(list)
    for topic, number in places:
        numbers[topic].append(number)
    return ", ".join(f"{topic} {found}" for topic, found in numbers.items())
