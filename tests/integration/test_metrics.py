"""The page /metrics of a worker on a real Kafka, compared with what was produced and with what the worker wrote."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import orjson
import pytest

from models.outputs import ANNOUNCEMENTS
from streams.broker.embedded import EmbeddedRedis
from streams.telemetry.stats import STEPS
from streams.topics import INPUTS, OUTPUTS
from tests.builders import Wire, complaint, policy_text, purchase
from tests.integration.conftest import Broker
from tests.integration.harness import InputRecord, site, wait_until
from tests.observability import names_used

CUSTOMERS = [f"customer-{number:03d}" for number in range(40)]
PARTITIONS = 2


def inputs_of(wires: list[Wire]) -> list[InputRecord]:
    return [(one["topic"], {name: value for name, value in one.items() if name != "topic"}) for one in wires]


def inputs_to_produce() -> list[InputRecord]:
    """All customers buy three times, and every tenth complains. Five purchases are repeated, and three are invalid."""
    bought = [
        purchase(customer_id, 30 + number, on=f"2026-0{month}-01", id=f"{customer_id}-{month}")
        for month in (1, 2, 3)
        for number, customer_id in enumerate(CUSTOMERS)
    ]
    complained = [complaint(customer_id, on="2026-04-01", severity="critical") for customer_id in CUSTOMERS[::10]]
    return [*inputs_of(bought), *inputs_of(complained), *inputs_of(bought[-5:]), *[("purchases", b"{}")] * 3]


@pytest.mark.kafka
def test_the_metrics_say_what_was_folded_and_announced(
    real_broker: Broker, redis: EmbeddedRedis, tmp_path: Path
) -> None:
    policy = tmp_path / "small.toml"
    policy.write_text(policy_text())
    shadow = tmp_path / "shadow.toml"
    shadow.write_text(policy_text().replace("version = 1", "version = 2", 1))
    inputs = inputs_to_produce()
    with site(
        real_broker.address, tmp_path, partitions=PARTITIONS, policy=str(policy), shadow=str(shadow), clock="event",
        until="2028-01-01T00:00:00Z", redis_url=redis.url,
    ) as here:  # fmt: skip
        here.produce(inputs)
        worker = here.start()
        here.wait_until_drained(len(inputs))
        found, stats = worker.metrics(), worker.stats()

        events = {name: value for name, value in found.items() if name[0] == "tierstream_events_total" and value}
        assert events == {
            ("tierstream_events_total", "folded", "purchases"): 120,
            ("tierstream_events_total", "repeat", "purchases"): 5,
            ("tierstream_events_total", "dead_letter", "purchases"): 3,
            ("tierstream_events_total", "folded", "complaints"): 4,
        }
        assert found["tierstream_dead_letters_total", "missing_field", "purchases"] == 3
        assert found["tierstream_batch_records_sum",] == len(inputs) == stats["events"]

        announced = {name: [orjson.loads(one.value()) for one in here.read(name)] for name in ANNOUNCEMENTS}
        changes = Counter((body["change"], topic) for topic, bodies in announced.items() for body in bodies)
        assert {("upgrade", "tier-changes"), ("downgrade", "tier-changes"), ("raised", "churn-risk")} <= set(changes)
        outputs = {name[1:]: value for name, value in found.items() if name[0] == "tierstream_outputs_total"}
        assert outputs == changes
        assert sum(outputs.values()) == sum(stats["changes"].values())

        tiers = Counter((one["after"]["tier"], one["before"]["tier"]) for one in announced["tier-changes"])
        levels = Counter((one["after"]["level"], one["before"]["level"]) for one in announced["churn-risk"])
        for name, moves in (("tier_moves", tiers), ("risk_moves", levels)):
            counted = {key[1:]: value for key, value in found.items() if key[0] == f"tierstream_{name}_total" and value}
            assert counted == {move: count for move, count in moves.items() if move[0] != move[1]}

        assert sum(found["tierstream_customers", str(number)] for number in range(PARTITIONS)) == len(CUSTOMERS)
        assert all(
            found["tierstream_lag_records", str(number), topic] == 0 for topic in INPUTS for number in range(PARTITIONS)
        )
        assert all(found["tierstream_due_customers", str(number)] == 0 for number in range(PARTITIONS))
        assert all(found["tierstream_unprofiled_customers", str(number)] == 0 for number in range(PARTITIONS))
        batches = stats["batches"]
        assert batches == found["tierstream_batch_records_count",] > 0
        assert all(found["tierstream_batch_seconds_count", step] == batches for step in STEPS)
        assert found["tierstream_ready",] == found["tierstream_redis_up",] == 1
        assert found["tierstream_rebalances_total",] >= 1
        assert found["tierstream_restore_seconds_count",] == PARTITIONS

        shadowed = {name[1:]: value for name, value in found.items() if name[0] == "tierstream_shadow_outputs_total"}
        assert shadowed == {name: float(count) for name, count in changes.items()}, (
            "the shadow is the same policy with another version"
        )
        shadow_customers = [found["tierstream_shadow_customers", str(number)] for number in range(PARTITIONS)]
        assert sum(shadow_customers) == len(CUSTOMERS)
        assert all(found["tierstream_shadow_unjudged_customers", str(number)] == 0 for number in range(PARTITIONS))

        wait_until(lambda: not view_lag(worker.metrics()), 30, "Redis to have everything")
        assert sum(value for name, value in found.items() if name[0] == "tierstream_view_customers") == len(CUSTOMERS)
        assert names_used() - {name for name, *_ in found} == set(), "dashboard and alerts use no other names"
        assert worker.stop() == 0


def view_lag(found: dict[tuple[str, ...], float]) -> float:
    lags = [value for name, value in found.items() if name[0] == "tierstream_view_lag_records"]
    assert len(lags) == len(OUTPUTS) * PARTITIONS
    return sum(lags)
