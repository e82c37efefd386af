"""Test doubles for the group and the broker. The context is `streams.worker.standalone.Standalone`."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import models
from models.policy import Policy
from models.policy.editions import Editions
from streams.engine.journal import Entry
from streams.engine.table import Marker, RestoredTable, Table, changelog_records
from streams.settings import CARRIED, Settings, load_settings
from streams.topics import JOURNAL, changelog_topic, shadow_changelog_topic
from streams.worker.context import Outgoing
from streams.worker.fetch import Fetch
from streams.worker.flow import Flow
from streams.worker.partition import PartitionState, PartitionWorker
from streams.worker.standalone import Standalone

KeyAndValue = tuple[bytes | None, bytes | None]


class ReadRecord(NamedTuple):
    """A record as a consumer gives it."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = -1
    headers: tuple[tuple[str, bytes], ...] = ()


class MemoryDelivery:
    """Delivery into lists, by the topic's name: all of a batch or nothing, or step by step. A step may be made to
    fail.
    """

    def __init__(self, settings: Settings, topics: dict[str, list[KeyAndValue]] | None = None, number: int = 0) -> None:
        self.settings = settings
        self.topics: dict[str, list[KeyAndValue]] = defaultdict(list) if topics is None else topics
        self.number = number
        self.generation = self.journal_position = 0
        self.is_exactly_once = settings.delivery == "exactly-once"
        self.fails: dict[str, BaseException] = {}
        self._open: list[tuple[str, KeyAndValue]] = []

    def step(self, name: str) -> None:
        """Begin a step; raises the error that a test put into `fails`."""
        if name in self.fails:
            raise self.fails.pop(name)

    async def open(self) -> None:
        self.step("open")

    async def close(self) -> None:
        self._open.clear()

    async def end_undecided(self, as_committed: bool) -> None:
        self.step("end_undecided")

    async def begin(self, topics: Iterable[str] = ()) -> None:
        self.step("begin")
        self._open.clear()

    async def settle(self) -> None: ...

    async def append_journal(self, entry: Entry) -> None:
        self._append("append_journal", JOURNAL, [(self.settings.table_app_id.encode(), entry.encode())])
        self.journal_position = len(self.topics[JOURNAL]) + (1 if self.is_exactly_once else 0)

    async def append_outputs(self, outputs: Mapping[str, Iterable[Outgoing]]) -> None:
        self.step("append_outputs")
        for name, records in outputs.items():
            self._append("append_outputs", name, [(key, value) for key, value, _ in records])

    async def append_carried(self, records: Mapping[int, Iterable[Outgoing]]) -> None:
        self.step("append_carried")
        name = self.settings.topic(CARRIED)
        for home, found in records.items():
            self._append("append_carried", f"{name}/{home}", [(key, value) for key, value, _ in found])

    async def append_shadow(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        self._append("append_shadow", shadow_changelog_topic(self.settings), records)

    async def append_state(self, changed: Mapping[bytes, bytes], marker: Marker) -> None:
        self._append("append_state", changelog_topic(self.settings), changelog_records(changed, marker))

    async def commit(self, offsets: Mapping[str, int]) -> None:
        self.step("commit")
        for topic, record in self._open:
            self.topics[topic].append(record)
        self._open.clear()

    async def publish(self, name: str, records: Iterable[Outgoing]) -> None:
        await self.append_outputs({name: records})
        await self.commit({})

    async def publish_everywhere(self, name: str, value: bytes) -> None:
        self._append("publish_everywhere", name, [(None, value)])
        await self.commit({})

    def _append(self, step: str, topic: str, records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
        self.step(step)
        for record in records:
            if self.is_exactly_once:
                self._open.append((topic, record))
            else:
                self.topics[topic].append(record)


def standalone(policy: Policy | None = None, **settings: Any) -> Standalone:
    """A context with a shipped policy."""
    return Standalone(
        load_settings(**{"max_batch": 10, "partitions": 1} | settings),
        models.load("annual-spend") if policy is None else policy,
    )


def folding(worker: PartitionWorker) -> PartitionWorker:
    """The partition as if it had been restored without customers."""
    policy, settings = worker.context.policy, worker.context.settings
    table = Table(RestoredTable(), Editions.of(policy), settings.clock == "event")
    worker.flow = Flow(
        worker.context,
        worker.number,
        table,
        deque(),
        policy.ref,
        worker.inputs,
        worker.delivery,
        worker.shadow,
        worker.spans,
    )
    worker.state = PartitionState.FOLDING
    return worker


def fetched(start: int, *offsets: int) -> Fetch:
    """A fetch of records with empty bodies."""
    return Fetch(start, [ReadRecord(offset, b"k", b"{}", 0) for offset in offsets])
