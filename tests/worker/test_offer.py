"""Records on their way from the transport to the merge: each once, none left out, whatever was under way."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

import models
from streams.engine.table import Partition
from streams.settings import load_settings
from streams.telemetry.stats import Stats
from streams.worker.app import TierstreamApp
from streams.worker.partition import PartitionWorker
from streams.worker.transport import Fetch, ReadPosition


class Consumer:
    """What a partition needs of the transport."""

    def __init__(self) -> None:
        self.rewound: list[tuple[TP, int]] = []
        self.withheld: set[TP] = set()
        self.reach: dict[TP, ReadPosition] = {}

    def withhold(self, tp: TP) -> None:
        self.withheld.add(tp)

    async def rewind(self, tp: TP, offset: int) -> None:
        self.rewound.append((tp, offset))


class App:
    """What a partition needs of the app."""

    def __init__(self) -> None:
        self.settings = load_settings(max_batch=10)
        self.policy = models.load("annual-spend")
        self.decoder = self.policy.decoder()
        self.consumer = Consumer()
        self.stats = Stats()
        self.spans: Any = None
        self.shadow: Any = None
        self.restoring = asyncio.Semaphore()
        self.spawned: list[Coroutine[Any, Any, Any]] = []

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        self.spawned.append(work)


@pytest.fixture
def worker() -> PartitionWorker:
    """A partition that folds, with nothing read so far."""
    app: Any = App()
    worker = PartitionWorker(app, 0)
    worker.state, worker.doing = Partition(), ""
    return worker


def fetched(start: int, *offsets: int) -> Fetch:
    records: Any = [SimpleNamespace(offset=offset, key=b"k", value=b"{}", timestamp=0) for offset in offsets]
    return Fetch(start, records)


def offsets(worker: PartitionWorker) -> list[int]:
    return [record.offset for record in worker.merge.take_up_to("purchases", 10**9)]


def test_records_that_follow_one_another_come_through_with_gaps_in_their_offsets(worker: PartitionWorker) -> None:
    worker.offer("purchases", fetched(0, 0, 1))
    worker.offer("purchases", fetched(2, 5, 6))
    assert offsets(worker) == [0, 1, 5, 6]


def test_records_that_come_again_are_skipped(worker: PartitionWorker) -> None:
    worker.offer("purchases", fetched(0, 0, 1))
    worker.offer("purchases", fetched(0, 0, 1, 2))
    assert offsets(worker) == [0, 1, 2]
    assert worker.app.stats.as_dict()["skipped"] == 2


def test_records_that_were_under_way_before_a_rewind_are_let_go(worker: PartitionWorker) -> None:
    worker.offer("purchases", fetched(0, 0, 1))
    worker.offer("purchases", fetched(7, 7, 8))
    worker.offer("purchases", fetched(9, 9))
    app: Any = worker.app
    assert len(app.spawned) == 1, "one rewind is enough"
    asyncio.run(app.spawned[0])
    assert app.consumer.rewound == [(TP("purchases", 0), 2)]
    worker.offer("purchases", fetched(2, 2, 3, 7, 8, 9))
    assert offsets(worker) == [0, 1, 2, 3, 7, 8, 9]


def test_nothing_is_taken_before_the_partition_is_restored(worker: PartitionWorker) -> None:
    worker.doing = "restoring"
    worker.offer("purchases", fetched(0, 0, 1))
    assert offsets(worker) == []


def test_an_input_that_runs_far_ahead_is_withheld(worker: PartitionWorker) -> None:
    worker.offer("purchases", fetched(0, *range(19)))
    assert worker.consumer.withheld == set()
    worker.offer("purchases", fetched(19, 19))
    assert worker.consumer.withheld == {TP("purchases", 0)}


def test_a_worker_that_stops_takes_no_partitions_any_more() -> None:
    app: Any = SimpleNamespace(should_stop=True, partition_workers={}, settings=load_settings())
    TierstreamApp.take_partitions(app, {TP("purchases", 0)}, 3)
    assert app.partition_workers == {}
