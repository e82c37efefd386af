"""Folds a partition in a command, up to given offsets and a given time, while no worker runs.

It uses the worker's own code from records to written batches (worker/flow.py), with a log instead of the group's
consumer. Its first step, becoming the partition's owner, ends an open transaction of an earlier worker and folds
unfinished batches again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

import msgspec

from models.outputs import PROFILES
from models.policy import Policy
from streams.broker.aiokafka_readers import read_to_end
from streams.engine.merge import Record
from streams.engine.table import MARKER, NO_MARKER, Marker, RestoredTable, Table, TableRestorer
from streams.settings import Settings
from streams.sources.kafka_log import KafkaLog
from streams.topics import FOLDED, changelog_topic
from streams.worker.delivery import Delivery
from streams.worker.flow import Flow
from streams.worker.inputs import Inputs
from streams.worker.profiles import Profiles
from streams.worker.restoring import PartitionRestorer
from streams.worker.standalone import Standalone

TO_THE_END: Final = 2**62
"""An offset beyond the end of every topic."""
LAST_RECORDS: Final = 10
RECORDS_AHEAD: Final = 20_000
"""How many records of each input are buffered at most."""


class LogBetween(KafkaLog):
    """The inputs of one partition between two positions."""

    def __init__(self, settings: Settings, number: int, after: Mapping[str, int], up_to: Mapping[str, int]) -> None:
        """The records after the offsets `after`, up to and including the offsets `up_to`."""
        super().__init__(settings)
        self._number = number
        self._after = {settings.topic(name): offset for name, offset in after.items()}
        self._up_to = {settings.topic(name): offset for name, offset in up_to.items()}

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def _find_ends(self, names: Iterable[str]) -> None:
        super()._find_ends(names)
        for tp in list(self._next):
            topic, number = tp
            if number != self._number:
                del self._next[tp], self._ends[tp], self._waiting[tp]
                continue
            self._next[tp] = max(self._next[tp], self._after.get(topic, -1) + 1)
            self._ends[tp] = min(self._ends[tp], self._up_to.get(topic, -1) + 1)


class LogInputs(Inputs):
    """The inputs of one partition, fed from a log between two positions."""

    def __init__(self, context: Standalone, number: int) -> None:
        self._sources: dict[str, Iterator[Record]] = {}
        super().__init__(context, number)

    def read_from(self, log: KafkaLog) -> None:
        """Read the inputs from a log."""
        log.begin(FOLDED)
        decoder = self._context.decoder
        self._sources = {name: log.placed_records(name, self._number, decoder, lambda _: None) for name in FOLDED}

    def feed(self) -> bool:
        """Fill the buffer of each input; returns whether there were more records."""
        fed = False
        for name, source in list(self._sources.items()):
            fresh = list(islice(source, max(0, RECORDS_AHEAD - self.merge.size(name))))
            if fresh:
                fed = True
                self.next_offsets[name] = fresh[-1].offset + 1
                self.merge.offer(name, fresh)
            elif self.merge.size(name) < RECORDS_AHEAD:
                del self._sources[name]
        return fed

    def is_at_end(self, topic: str) -> bool:
        """Whether all wanted records of an input have been buffered."""
        return topic not in self._sources


class FlowUpTo(Flow):
    """A flow whose time ends at `up_to_ms`."""

    up_to_ms = -1

    def time_ms(self) -> int:
        """The latest event folded; `up_to_ms` once everything is folded."""
        until_ms = self.up_to_ms if self._inputs.merge.is_drained() else min(self.up_to_ms, self.table.latest_ms)
        return max(self.table.clock_ms, until_ms)


class OfflinePartition:
    """Folds one partition as a worker would, up to a position. It computes no thresholds from all customers: workers do
    that.
    """

    def __init__(self, settings: Settings, policy: Policy, number: int) -> None:
        self._context = Standalone(settings, policy)
        self._number = number
        self.delivery = Delivery(self._context, number)
        self._inputs = LogInputs(self._context, number)
        self._flow: FlowUpTo | None = None
        interval_seconds = settings.profile_interval / 1000
        self._profiles = Profiles(PROFILES, self.delivery, lambda: self.table, interval_seconds)

    @property
    def table(self) -> Table | None:
        """The partition's customers; None before `become_owner`."""
        return None if self._flow is None else self._flow.table

    async def become_owner(self) -> Marker:
        """Fence an earlier owner, restore, and fold unfinished batches again; returns the table's marker."""
        await self.delivery.open()
        found = await PartitionRestorer(self._context, self._number, self.delivery).restore()
        self._flow = FlowUpTo(self._context, self._number, *found, self._inputs, self.delivery)
        if found.unfinished:
            last = {topic: offset for entry in found.unfinished for topic, _, offset in entry.runs}
            await self.fold_up_to(last, found.table.clock_ms)
        return found.table.marker

    async def fold_up_to(self, offsets: Mapping[str, int], until_ms: int) -> Marker:
        """Fold all records up to these offsets, advance customers to `until_ms`, publish profiles; returns the table's
        marker.
        """
        assert self._flow is not None, "become_owner comes first"
        flow, folded = self._flow, self._flow.table.marker.offsets
        self._inputs.begin_after(folded)
        log = LogBetween(self._context.settings, self._number, folded, offsets)
        self._inputs.read_from(log)
        flow.up_to_ms = until_ms
        self._profiles.skip_interval()
        try:
            while self._inputs.feed() or self._is_unfinished(flow):
                did_fold = await flow.fold_next_batch()
                await self._profiles.take_turn(idle=not did_fold and self._inputs.merge.is_drained())
        finally:
            log.close()
        await self.delivery.settle()
        return flow.table.marker

    async def release(self) -> None:
        """Close the producer and drop the table."""
        self._flow = None
        await self.delivery.close()

    def _is_unfinished(self, flow: FlowUpTo) -> bool:
        table = flow.table
        waits = flow.unfinished or not self._inputs.merge.is_drained() or table.schedule.next_ms() <= flow.up_to_ms
        return bool(waits or not table.review.is_over() or self._profiles.due)


async def read_table(settings: Settings, number: int) -> RestoredTable:
    """A partition's table as it is committed now; its owner is not disturbed. Raises ChangelogError, KafkaError."""
    topic = changelog_topic(settings)
    restoring = TableRestorer(topic, number)
    async for records, _ in read_to_end(settings, topic, number):
        restoring.feed(records)
    return restoring.finish()


async def read_marker(settings: Settings, number: int, end: int) -> Marker:
    """The latest marker of a partition's table whose changelog ends at `end`. Only the last records are read, as a
    batch's marker is appended last.
    """
    latest, back = None, LAST_RECORDS
    while latest is None:
        first = max(0, end - back)
        async for records, _ in read_to_end(settings, changelog_topic(settings), number, first):
            latest = next((one.value for one in reversed(records) if one.key == MARKER), latest)
        if first == 0:
            break
        back *= 10
    return NO_MARKER if latest is None else msgspec.json.decode(latest, type=Marker)
