"""A partition folded by hand: by a command, up to given offsets and a given time, while no worker is there.

It is the worker's own way from records to a batch that is written, with a log in place of the group's consumer. Becoming
the partition's owner ends what a worker before left open, and does again what was begun.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from types import SimpleNamespace
from typing import Final

import msgspec
from faust.types import TP

from models.policy import Policy
from streams.broker.aiokafka_readers import read_to_end
from streams.engine.merge import Record
from streams.engine.table import MARKER, NO_MARKER, Marker, Partition, Restoring
from streams.settings import Settings
from streams.sources.kafka_log import KafkaLog
from streams.telemetry.stats import Stats
from streams.topics import INPUTS, changelog_topic
from streams.worker.partition import PartitionWorker
from streams.worker.transport import credentials

LAST_RECORDS: Final = 10
RECORDS_AHEAD: Final = 20_000
"""Of each input, at the most, so that memory stays bounded."""


class Alone:
    """What a partition needs of an app, where there is neither a group nor anything that watches."""

    def __init__(self, settings: Settings, policy: Policy) -> None:
        self.settings = settings
        self.policy = policy
        self.decoder = policy.decoder()
        self.stats = Stats(policy.ladder.tier_names, [level.name for level in policy.risk.levels])
        self.spans = None
        self.shadow = None
        self.rebalancing = False
        self.consumer_generation_id = 0
        self.consumer = _Nobody()
        self.conf = SimpleNamespace(
            broker_client_id="tierstream", broker_credentials=credentials(settings), ssl_context=None
        )


class _Nobody:
    """Stands where the group's consumer would."""

    def is_member(self) -> bool:
        return True

    def done(self, tp: TP, next_offset: int) -> None:
        """The group's offsets are for lag monitors, and follow when a worker is there again."""

    def release(self, tp: TP) -> None: ...

    def withhold(self, tp: TP) -> None: ...


class Stretch(KafkaLog):
    """The inputs of one partition between two positions."""

    def __init__(self, settings: Settings, number: int, after: Mapping[str, int], up_to: Mapping[str, int]) -> None:
        """The records beyond the offsets `after`, up to and with the offsets `up_to`."""
        super().__init__(settings)
        self._number = number
        self._after = {settings.topic(name): offset for name, offset in after.items()}
        self._up_to = {settings.topic(name): offset for name, offset in up_to.items()}

    def close(self) -> None:
        """Read no more."""
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


class PartitionByHand(PartitionWorker):
    """Folds one partition as its worker would, up to a position."""

    def __init__(self, settings: Settings, policy: Policy, number: int) -> None:
        super().__init__(Alone(settings, policy), number)  # type: ignore[arg-type]
        self.census = None  # lines are drawn by workers
        self._sources: dict[str, Iterator[Record]] = {}
        self._up_to_ms = -1

    async def become_owner(self) -> Marker:
        """Fence whoever wrote before, restore, and do again what was begun; gives how far the table goes then."""
        self.state = await self._restore()
        self.clock_ms = self._latest_ms = self.state.marker.clock_ms
        if self._redo:
            last = {topic: offset for entry in self._redo for topic, _, offset in entry.runs}
            await self.fold_up_to(last, self.clock_ms)
        return self.held.marker

    async def fold_up_to(self, offsets: Mapping[str, int], until_ms: int) -> Marker:
        """Fold what there is up to these offsets, advance customers to `until_ms`, publish; gives how far it goes then."""
        after = self.held.marker.offsets
        log = Stretch(self.app.settings, self.number, after, offsets)
        log.begin(INPUTS)
        self._next = {topic: after.get(topic, -1) + 1 for topic in INPUTS}
        self._sources = {name: log.records(name, self.number, self.app.decoder, lambda _: None) for name in INPUTS}
        self._up_to_ms = until_ms
        for profiles in self.profiles:
            profiles.begin_at_once()
        try:
            while self._feed() or self._is_unfinished():
                await self.step()
        finally:
            log.close()
        await self.delivery.settle()
        return self.held.marker

    def _feed(self) -> bool:
        """Have enough of each input at hand; returns whether there was more."""
        fed = False
        for name, source in list(self._sources.items()):
            fresh = list(islice(source, max(0, RECORDS_AHEAD - self.merge.size(name))))
            if fresh:
                fed = True
                self._next[name] = fresh[-1].offset + 1
                self.merge.offer(name, fresh)
            elif self.merge.size(name) < RECORDS_AHEAD:
                del self._sources[name]
        return fed

    def _is_unfinished(self) -> bool:
        state = self.held
        waits = self._redo or not self.merge.is_drained() or state.schedule.next_ms() <= self._up_to_ms
        return bool(waits or not state.review.is_over() or any(profiles.due for profiles in self.profiles))

    def is_at_end(self, topic: str) -> bool:
        """Whether all of an input that is wanted is here."""
        return topic not in self._sources

    def time_ms(self) -> int:
        """As far as everything was read; at the end the time that was asked for."""
        until_ms = self._up_to_ms if self.merge.is_drained() else min(self._up_to_ms, self._latest_ms)
        return max(self.clock_ms, until_ms)

    def read_on(self) -> None:
        """Nothing is held back."""


async def table_of(settings: Settings, policy: Policy, number: int) -> Partition:
    """A partition's table as committed now, without disturbing whoever writes it. Raises ChangelogError, KafkaError."""
    topic = changelog_topic(settings)
    restoring = Restoring(topic, number)
    async for records, _ in read_to_end(settings, topic, number):
        restoring.feed(records)
    return restoring.finished()


async def marker_of(settings: Settings, policy: Policy, number: int, end: int) -> Marker:
    """How far a partition's table goes whose changelog ends there; it is not all read, as a batch's marker is appended last."""
    latest, back = None, LAST_RECORDS
    while latest is None:
        first = max(0, end - back)
        async for records, _ in read_to_end(settings, changelog_topic(settings), number, first):
            latest = next((one.value for one in reversed(records) if one.key == MARKER), latest)
        if first == 0:
            break
        back *= 10
    return NO_MARKER if latest is None else msgspec.json.decode(latest, type=Marker)
