"""A shadow policy on real workers: it announces what it would announce alone, and what the policy in force announces
does not change.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from models import load, units
from models.outputs import ANNOUNCEMENTS
from streams.topics import shadow_of
from streams.workshop.replay.fold import Replay
from tests.builders import DAY, ms, shipped_text
from tests.integration.conftest import Broker
from tests.integration.harness import InputRecord, Site, site, wait_until
from tests.integration.test_recovery import DELIVERIES, announced, replayed_by_journal
from tests.integration.test_worker import purchase
from tests.models.test_editions import records

CUSTOMERS, PURCHASES = 120, 3_000
UNTIL_MS = ms("2026-06-01")


def purchases_in_order() -> list[InputRecord]:
    """Two years of purchases, in which customers rise and fall, some to higher tiers under only one of the policies."""
    start = ms("2024-01-01")
    return [
        (
            "purchases",
            purchase(
                n,
                f"c{n * 7_919 % 9_973 % CUSTOMERS}",
                units.format_time(start + n * 700 * DAY // PURCHASES),
                amount=f"{5 + n % 60}.00",
                currency="USD",
            ),
        )
        for n in range(PURCHASES)
    ]


def announced_alone(policy: str, inputs: list[InputRecord]) -> dict[str, list[Any]]:
    """What a policy announces in a replay without a shadow, by customer."""
    found = defaultdict(list)
    replay = Replay(load(policy))
    log = [{"topic": topic, **body} for topic, body in inputs if isinstance(body, dict)]
    for batch in (*replay.fold(records(load(policy), log)), *replay.finish(UNTIL_MS)):
        for output in batch.outputs:
            found[output.customer_id].append(without_policy(output.body))
    return dict(found)


def without_policy(body: bytes) -> Any:
    """An announcement without the policy's name, which has the edition in it, and without the id that depends on it."""
    return {name: value for name, value in json.loads(body).items() if name not in ("policy", "id")}


def announced_by_shadow(here: Site) -> dict[str, list[Any]]:
    """The announcements under the shadow policy, by customer, without repeats."""
    found: dict[str, dict[int, Any]] = defaultdict(dict)
    for topic in ANNOUNCEMENTS:
        for customer, bodies in here.by_customer(shadow_of(topic)).items():
            for body in bodies:
                announcement = without_policy(body)
                assert found[customer].setdefault(announcement["seq"], announcement) == announcement
    return {customer: [by_seq[number] for number in sorted(by_seq)] for customer, by_seq in found.items()}


@pytest.mark.kafka
@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_shadow_announces_what_its_policy_would_alone_though_a_worker_is_killed(
    delivery: str, real_broker: Broker, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    text = shipped_text("annual-spend").replace("version = 1", "version = 2", 1)
    other.write_text(
        text.replace('min_spend = "200.00"', 'min_spend = "260.00"').replace('"75.00"', '"60.00"'), "utf-8"
    )
    inputs = purchases_in_order()
    with site(
        real_broker.address,
        tmp_path,
        partitions=2,
        policy="annual-spend",
        shadow=str(other),
        clock="event",
        until=units.format_time(UNTIL_MS),
        delivery=delivery,
        max_batch=100,
    ) as here:
        here.produce(inputs)
        first = here.start()
        wait_until(lambda: first.stats().get("events", 0) > 500, 60, "some events to be folded")
        first.process.kill()
        first.process.wait()
        here.start()
        here.wait_until_drained(0)
        stats = here.workers[-1].stats()
        assert stats["shadow"] == {"policy": "annual-spend@2", "customers": CUSTOMERS, "off": []}

        found = announced(here)
        assert found == replayed_by_journal(here, tmp_path / "journal")
        assert announced_by_shadow(here) == announced_alone(str(other), inputs)
        assert len(here.latest(shadow_of("profiles"))) == len(here.latest("profiles"))
        assert announced_by_shadow(here) != announced_alone("annual-spend", inputs)
