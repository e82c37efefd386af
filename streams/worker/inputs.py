"""The inputs of one partition: fetched records, decoded once, buffered by topic and merged by the time of their
events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from faust.types import TP

from streams.engine.merge import Merge, carried_records_of, records_of
from streams.settings import CARRIED
from streams.topics import COMMANDS, FOLDED
from streams.worker.context import PartitionContext
from streams.worker.fetch import Fetch

if TYPE_CHECKING:
    from streams.telemetry.spans import PartitionSpans


class Inputs:
    """The records of one partition's input topics that were read and are not folded yet."""

    def __init__(self, context: PartitionContext, number: int, spans: PartitionSpans | None = None) -> None:
        self._context = context
        self._number = number
        self._spans = spans
        self._placement = context.settings.placement
        self.tps = {topic: TP(context.settings.topic(topic), number) for topic in FOLDED}
        self.next_offsets = dict.fromkeys(FOLDED, 0)
        """Per input topic, the offset of the next record to be offered."""
        self.arrived = asyncio.Event()
        """Set when there is something new to fold."""
        self._ends = dict.fromkeys(FOLDED, 0)
        """Where the inputs ended when the partition was taken."""
        self._rewinding: set[str] = set()
        self.merge = self._new_merge()

    def _new_merge(self) -> Merge:
        return Merge(FOLDED, self.is_at_end, self._context.settings.max_idle / 1000)

    # ------------------------------------------------------------ where to read
    def begin_after(self, folded: Mapping[str, int]) -> None:
        """Drop all records, and continue after the last offset folded of each input topic."""
        self.next_offsets = {topic: folded.get(topic, -1) + 1 for topic in FOLDED}
        self.merge = self._new_merge()

    async def rewind(self) -> None:
        """Have the consumer seek to `next_offsets`, and record where the inputs end now."""
        for topic, tp in self.tps.items():
            await self._context.consumer.rewind(tp, self.next_offsets[topic])
        ends = await self._context.consumer.highwaters(*self.tps.values())
        self._ends = {topic: ends[tp] for topic, tp in self.tps.items()}

    def mark_done(self, folded: Mapping[str, int]) -> None:
        """Have the group commit that everything up to the last offset folded of each input topic is done."""
        for topic, last in folded.items():
            self._context.consumer.mark_done(self.tps[topic], last + 1)

    def withhold(self) -> None:
        """Pause reading all inputs."""
        for tp in self.tps.values():
            self._context.consumer.withhold(tp)

    def release(self) -> None:
        """Resume reading the inputs that have less than a batch buffered."""
        for topic, tp in self.tps.items():
            if self.merge.size(topic) < self._context.settings.max_batch:
                self._context.consumer.release(tp)

    # ------------------------------------------------------------ records in
    def offer(self, topic: str, fetch: Fetch, may_withhold: bool) -> None:
        """Take records from the transport; records that were taken before are skipped."""
        next_offset = self.next_offsets[topic]
        found = fetch.records_from(next_offset)
        if found is None:
            self._fill_gap(topic, next_offset)
            return
        if self._spans is not None and topic == COMMANDS:
            self._spans.remember_senders(found)
        decode = carried_records_of if topic == CARRIED else records_of
        fresh = decode(found, topic, self._number, self._context.decoder, self._placement)
        self._context.stats.count_skipped(topic, len(fetch.records) - len(fresh))
        if fresh:
            self.next_offsets[topic] = fresh[-1].offset + 1
            if self.merge.offer(topic, fresh) >= 2 * self._context.settings.max_batch and may_withhold:
                self._context.consumer.withhold(self.tps[topic])
        self.arrived.set()

    def _fill_gap(self, topic: str, next_offset: int) -> None:
        """Seek back to the missing records: the fetch was in progress before a rewind, or something made the consumer
        jump.
        """

        async def rewind() -> None:
            try:
                await self._context.consumer.rewind(self.tps[topic], next_offset)
            finally:
                self._rewinding.discard(topic)

        if topic not in self._rewinding:
            self._rewinding.add(topic)
            self._context.spawn(rewind())

    # ------------------------------------------------------------ progress
    def is_at_end(self, topic: str) -> bool:
        """Whether every record of an input that the broker has, as far as it reported, has been offered."""
        read = self._context.consumer.positions.get(self.tps[topic])
        if read is None or read.end is None:
            return False
        return self.next_offsets[topic] >= read.delivered and read.position >= read.end

    def has_caught_up(self, folded: Mapping[str, int]) -> bool:
        """Whether everything that the inputs had when the partition was taken is folded; later records may not be."""
        return all(
            folded.get(topic, -1) + 1 >= end or (self.is_at_end(topic) and not self.merge.size(topic))
            for topic, end in self._ends.items()
        )

    def lag(self, topic: str, folded: Mapping[str, int]) -> int | None:
        """How many offsets the table is behind the end of an input; None if the broker did not report the end yet."""
        read = self._context.consumer.positions.get(self.tps[topic])
        if read is None or read.end is None:
            return None
        following = folded.get(topic, -1) + 1
        # After the last record there may be offsets without records: the ends of a producer's transactions.
        is_folded = following >= self.next_offsets[topic] and self.is_at_end(topic)
        return 0 if is_folded else max(0, read.end - following)

    def waits_for(self) -> list[str]:
        """What is still to be read or folded, in words; empty if nothing is."""
        found = [f"{topic} is not read to its end" for topic in FOLDED if not self.is_at_end(topic)]
        return found + [f"{self.merge.size(topic)} records of {topic}" for topic in FOLDED if self.merge.size(topic)]
