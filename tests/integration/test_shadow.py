"""A shadow policy on real workers: it announces what it would announce alone; the first policy announces the same as
ever.
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
from tests.integration.harness import Line, Site, site, wait_until
from tests.integration.test_recovery import DELIVERIES, announced, replayed_by_journal
from tests.integration.test_worker import purchase
from tests.models.test_editions import records

CUSTOMERS, PURCHASES = 120, 3_000
UNTIL_MS = ms("2026-06-01")


def in_order() -> list[Line]:
    """Two years of purchases, so that customers come and go, some to higher tiers under one policy only."""
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


def alone(policy: str, lines: list[Line]) -> dict[str, list[Any]]:
    """What a policy says of a log by itself, by customer."""
    found = defaultdict(list)
    replay = Replay(load(policy))
    log = [{"topic": topic, **body} for topic, body in lines if isinstance(body, dict)]
    for batch in (*replay.fold(records(load(policy), log)), *replay.finish(UNTIL_MS)):
        for output in batch.outputs:
            found[output.customer_id].append(untitled(output.body))
    return dict(found)


def untitled(body: bytes) -> Any:
    """An announcement but for the policy's name, which says how it came into force, and the id made of it."""
    return {name: value for name, value in json.loads(body).items() if name not in ("policy", "id")}


def shadowed(here: Site) -> dict[str, list[Any]]:
    """The announcements under the shadow policy, by customer; repeats once."""
    found: dict[str, dict[int, Any]] = defaultdict(dict)
    for topic in ANNOUNCEMENTS:
        for customer, bodies in here.by_customer(shadow_of(topic)).items():
            for body in bodies:
                announcement = untitled(body)
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
    lines = in_order()
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
        here.produce(lines)
        first = here.start()
        wait_until(lambda: first.stats().get("events", 0) > 500, 60, "some are folded")
        first.process.kill()
        first.process.wait()
        here.start()
        here.wait_until_drained(0)
        stats = here.workers[-1].stats()
        assert stats["shadow"] == {"policy": "annual-spend@2", "customers": CUSTOMERS, "off": []}

        found = announced(here)
        assert found == replayed_by_journal(here, tmp_path / "journal")
        assert shadowed(here) == alone(str(other), lines)
        assert len(here.latest(shadow_of("profiles"))) == len(here.latest("profiles"))
        assert shadowed(here) != alone("annual-spend", lines)
