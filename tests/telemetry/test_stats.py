"""The page /metrics: each record has one outcome; the lags of partitions and of the view, as far as they are known."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from faust.types import TP

import models
from models.bodies import Breakpoints
from models.policy.editions import Editions
from streams.broker.embedded import EmbeddedRedis
from streams.engine.batch import Batch
from streams.engine.merge import Record
from streams.engine.plan import Plan
from streams.engine.policy_on_wire import edition_body
from streams.engine.table import Marker, Table
from streams.settings import load_settings
from streams.telemetry.stats import COMMIT, STEPS, Stats
from streams.topics import INPUTS
from streams.view.customers import RedisView
from streams.worker.fetch import ReadPosition
from streams.worker.gauges import Gauges
from streams.worker.partition import PartitionState, PartitionWorker
from streams.worker.standalone import Standalone
from streams.worker.view_feed import ViewFeed, _Waiting
from tests.builders import Wire, policy_text, purchase
from tests.running import policy_of
from tests.worker.doubles import fetched, folding

POLICY = policy_of(
    policy_text(
        tiers=[{"name": "iron", "top_share": 0.5}, {"name": "gold", "top_share": 0.2}], relative={"every": "1d"}
    )
)
SECONDS = dict.fromkeys(STEPS, 0.01)
Values = dict[tuple[str, ...], float]


def record(topic: str, value: bytes) -> Record:
    return Record(topic, 0, 0, None, value, 0, POLICY.decoder().decode(topic, value))


def bought(customer_id: str, **more: Any) -> Record:
    wire: Wire = purchase(customer_id, "60", on="2026-01-01", **more)
    return record("purchases", json.dumps({name: value for name, value in wire.items() if name != "topic"}).encode())


def edition(number: int) -> Record:
    thresholds = Breakpoints(as_of_ms=0, customers=9, top_spend_minor=[1_000, 2_000])
    return record("commands", edition_body(number, 0, thresholds))


def fold_and_count(stats: Stats, records: list[Record], seconds: dict[str, float] = SECONDS) -> None:
    """Fold a batch and count it."""
    batch, plan = Batch(Editions.from_wire(POLICY, []), {}), Plan(-1, [], [], records)
    for _ in batch.fold(plan):
        pass
    taken = {topic: sum(one.topic == topic for one in records) for topic in INPUTS}
    stats.count(batch, plan, taken, seconds)


def values(stats: Stats) -> Values:
    """The values of a scrape, by name and the values of the labels, in the order of the labels' names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for metric in stats.registry.collect()
        for sample in metric.samples
    }


# ---------------------------------------------------------------- counters
def test_each_record_of_a_batch_has_one_outcome() -> None:
    stats = Stats()
    once = bought("ada", id="once")
    fold_and_count(stats, [once, once, bought("bob"), record("purchases", b"{}"), record("complaints", b"?")])
    fold_and_count(stats, [edition(1), edition(7), bought("bob")])
    stats.count_skipped("purchases", 2)
    found = {name[1:]: value for name, value in values(stats).items() if name[0] == "tierstream_events_total" and value}
    assert found == {
        ("folded", "purchases"): 3,
        ("repeat", "purchases"): 1,
        ("dead_letter", "purchases"): 1,
        ("dead_letter", "complaints"): 1,
        ("edition", "commands"): 1,
        ("dead_letter", "commands"): 1,
        ("skipped", "purchases"): 2,
    }
    page = stats.as_dict()
    assert (page["events"], page["batches"], page["skipped"]) == (7, 2, 2)
    assert page["dead_letters"] == {"bad_edition": 1, "missing_field": 1, "not_json": 1}


def test_every_outcome_has_a_counter_from_the_start() -> None:
    found = values(Stats())
    assert all(found["tierstream_events_total", "dead_letter", topic] == 0 for topic in INPUTS)
    assert found["tierstream_interruptions_total", "fenced"] == 0


def test_moves_are_counted_by_tier_before_and_after() -> None:
    stats = Stats()
    fold_and_count(stats, [edition(1), bought("ada"), bought("bob"), bought("ada")])
    found = values(stats)
    assert found["tierstream_tier_moves_total", "gold", "member"] == 2
    assert found["tierstream_outputs_total", "upgrade", "tier-changes"] == 2


def test_all_possible_moves_have_counters_from_the_start() -> None:
    found = values(Stats(["member", "gold"], ["none", "high"]))
    moves = {name: value for name, value in found.items() if name[0].endswith("_moves_total")}
    assert moves == {
        ("tierstream_tier_moves_total", "gold", "member"): 0,
        ("tierstream_tier_moves_total", "member", "gold"): 0,
        ("tierstream_risk_moves_total", "none", "high"): 0,
        ("tierstream_risk_moves_total", "high", "none"): 0,
    }


def test_two_apps_count_for_themselves() -> None:
    one, other = Stats(), Stats()
    fold_and_count(one, [bought("ada")])
    assert one.as_dict()["events"] == 1
    assert other.as_dict()["events"] == 0


def test_histograms_have_the_seconds_of_each_step() -> None:
    stats = Stats()
    fold_and_count(stats, [bought("ada")], {COMMIT: 0.25})
    fold_and_count(stats, [bought("ada")] * 5, {COMMIT: 0.5})
    found = values(stats)
    assert found["tierstream_batch_seconds_sum", COMMIT] == 0.75
    assert found["tierstream_batch_seconds_bucket", "0.3", COMMIT] == 1
    assert found["tierstream_batch_records_sum",] == 6
    assert found["tierstream_batch_records_bucket", "1.0"] == 1


# ---------------------------------------------------------------- gauges
class Watched(Standalone):
    """The part of an app that the gauges read, without a group."""

    def __init__(self) -> None:
        super().__init__(load_settings(max_batch=10, clock="event", partitions=1), models.load("annual-spend"))
        self.feed: ViewFeed | None = None
        self.partition_workers: dict[int, PartitionWorker] = {}
        self.gauges = Gauges(self)
        self.stats.registry.register(self.gauges)

    def is_ready(self) -> bool:
        return True

    def editions_held(self) -> list[Editions]:
        tables = [worker.table for worker in self.partition_workers.values()]
        return [table.editions for table in tables if table is not None]

    def add_partition(self) -> PartitionWorker:
        """Add partition 0, which folds and is empty."""
        worker = self.partition_workers[0] = folding(PartitionWorker(self, 0))
        return worker

    def set_read_position(self, tp: TP, delivered: int, position: int, end: int | None) -> None:
        """Set how far the consumer has read a partition."""
        self.consumer.positions[tp] = ReadPosition(delivered, position, end)


def table(worker: PartitionWorker) -> Table:
    assert worker.table is not None
    return worker.table


@pytest.fixture
def app() -> Watched:
    return Watched()


def lag_of(app: Watched) -> float | None:
    return values(app.stats).get(("tierstream_lag_records", "0", "purchases"))


def test_the_lag_counts_records_not_folded_whether_read_or_not(app: Watched) -> None:
    worker = app.add_partition()
    assert lag_of(app) is None, "the end of the log is not known yet"
    worker.offer("purchases", fetched(0, 0, 1, 2))
    app.set_read_position(worker.inputs.tps["purchases"], 3, 3, 50)
    assert lag_of(app) == 50
    table(worker).marker = Marker(1, {"purchases": 2}, 0, "", True)
    assert lag_of(app) == 47


def test_offsets_without_records_at_the_end_are_no_lag(app: Watched) -> None:
    worker = app.add_partition()
    worker.offer("purchases", fetched(0, 0, 1, 2))
    app.set_read_position(worker.inputs.tps["purchases"], 3, 5, 5)
    assert lag_of(app) == 5
    table(worker).marker = Marker(1, {"purchases": 2}, 0, "", True)
    assert lag_of(app) == 0


def test_a_partition_that_is_being_restored_has_no_other_values(app: Watched) -> None:
    worker = app.add_partition()
    app.set_read_position(worker.inputs.tps["purchases"], 0, 0, 5)
    assert values(app.stats)["tierstream_partition_folding", "0"] == 1
    worker.state, worker.flow = PartitionState.RESTORING, None
    found = values(app.stats)
    assert found["tierstream_partition_folding", "0"] == 0
    assert ("tierstream_customers", "0") not in found
    assert lag_of(app) is None


def test_the_watermark_delay_is_the_age_of_the_latest_event(app: Watched) -> None:
    worker = app.add_partition()
    assert ("tierstream_watermark_delay_seconds", "0") not in values(app.stats), "no event has set the time yet"
    table(worker).clock_ms = time.time_ns() // 1_000_000 - 3_600_000
    assert 3_600 <= values(app.stats)["tierstream_watermark_delay_seconds", "0"] < 4_000


def test_the_lag_of_the_view_counts_what_redis_lacks(app: Watched) -> None:
    feed = app.feed = ViewFeed(app, RedisView("redis://127.0.0.1:1/0"), app.editions_held)
    tp = TP("tier-changes", 0)
    feed._waiting[tp] = waiting = _Waiting()
    app.set_read_position(tp, 10, 10, 12)
    assert not feed.lag(), "the position in Redis is not known yet"
    waiting.positioned, waiting.applied, waiting.next_offset = True, 4, 10
    waiting.updates = [(9, None)]
    assert values(app.stats)["tierstream_view_lag_records", "0", "tier-changes"] == 8
    waiting.updates, waiting.applied = [], 10
    app.set_read_position(tp, 10, 12, 12)
    assert values(app.stats)["tierstream_view_lag_records", "0", "tier-changes"] == 0


def test_sizes_of_the_view_come_from_redis_and_are_left_out_without_it(app: Watched, tmp_path: Path) -> None:
    async def look(url: str) -> Values:
        feed = app.feed = ViewFeed(app, RedisView(url), app.editions_held)
        await app.gauges.ask_redis()
        await feed.view.redis.aclose()
        return values(app.stats)

    with EmbeddedRedis(tmp_path) as server:

        async def fill() -> None:
            view = RedisView(server.url)
            await view.redis.zadd("tierstream:tier:gold", {"ada": 1, "bob": 2})
            await view.redis.zadd("tierstream:at-risk", {"ada": 1})
            await view.redis.aclose()

        asyncio.run(fill())
        found = asyncio.run(look(server.url))
        assert found["tierstream_redis_up",] == 1
        assert found["tierstream_view_customers", "gold"] == 2
        assert found["tierstream_view_at_risk_customers",] == 1
    found = asyncio.run(look(f"unix://{tmp_path}/nobody.sock"))
    assert found["tierstream_redis_up",] == 0
    assert ("tierstream_view_customers", "gold") not in found
