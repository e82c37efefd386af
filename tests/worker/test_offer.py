"""Records offered by the transport reach the merge: each once, none left out, whichever fetches were in progress."""

from __future__ import annotations

import asyncio

import pytest
from faust.types import TP

import models
from streams.settings import load_settings
from streams.worker.app import create_app
from streams.worker.partition import PartitionState, PartitionWorker
from streams.worker.standalone import Standalone
from tests.worker.doubles import fetched, folding, standalone


@pytest.fixture
def worker() -> PartitionWorker:
    """A partition that folds, with nothing read so far."""
    return folding(PartitionWorker(standalone(), 0))


def offsets(worker: PartitionWorker) -> list[int]:
    return [record.offset for record in worker.inputs.merge.take_up_to("purchases", 10**9)]


def test_consecutive_records_are_taken_although_their_offsets_have_gaps(worker: PartitionWorker) -> None:
    worker.offer("purchases", fetched(0, 0, 1))
    worker.offer("purchases", fetched(2, 5, 6))
    assert offsets(worker) == [0, 1, 5, 6]


def test_records_that_come_again_are_skipped(worker: PartitionWorker) -> None:
    worker.offer("purchases", fetched(0, 0, 1))
    worker.offer("purchases", fetched(0, 0, 1, 2))
    assert offsets(worker) == [0, 1, 2]
    assert worker.context.stats.as_dict()["skipped"] == 2


def test_records_that_were_fetched_before_a_rewind_are_dropped(worker: PartitionWorker) -> None:
    worker.offer("purchases", fetched(0, 0, 1))
    worker.offer("purchases", fetched(7, 7, 8))
    worker.offer("purchases", fetched(9, 9))
    context = worker.context
    assert isinstance(context, Standalone)
    assert len(context.spawned) == 1, "one rewind is enough"
    asyncio.run(context.spawned[0])
    assert context.consumer.rewound == [(TP("purchases", 0), 2)]
    worker.offer("purchases", fetched(2, 2, 3, 7, 8, 9))
    assert offsets(worker) == [0, 1, 2, 3, 7, 8, 9]


def test_nothing_is_taken_before_the_partition_is_restored(worker: PartitionWorker) -> None:
    worker.state = PartitionState.RESTORING
    worker.offer("purchases", fetched(0, 0, 1))
    assert offsets(worker) == []


def test_an_input_that_runs_far_ahead_is_withheld(worker: PartitionWorker) -> None:
    worker.offer("purchases", fetched(0, *range(19)))
    context = worker.context
    assert isinstance(context, Standalone)
    assert context.consumer.withheld == set()
    worker.offer("purchases", fetched(19, 19))
    assert context.consumer.withheld == {TP("purchases", 0)}


def test_a_worker_that_stops_takes_no_partitions_any_more() -> None:
    async def take() -> int:
        app = create_app(load_settings(), models.load("annual-spend"))
        app._stopped.set()  # not stop(): that ends the process, should it take too long
        app.take_partitions({TP("purchases", 0)}, 3)
        return len(app.partition_workers)

    assert asyncio.run(take()) == 0
