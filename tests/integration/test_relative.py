"""Thresholds that depend on all customers, on a real Kafka: all partitions take the census, one worker computes the
thresholds, and every partition judges its customers once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from models.outputs import TIER_CHANGES
from streams.cli import app
from tests.integration.conftest import Broker
from tests.integration.harness import InputRecord, Site, site, wait_until
from tests.integration.test_recovery import announced, replayed_by_journal
from tests.integration.test_worker import purchase
from tests.models.test_parameters import FITTED

DELIVERIES = ("exactly-once", "at-least-once")
PARTITIONS = 2


def bought(day: int, customers: int, first: int, times: int = 1) -> list[InputRecord]:
    """Purchases on a day of January 2026: customer n spends n + 1 dollars, times `times`."""
    return [
        ("purchases", purchase(first + n, f"c{n}", f"2026-01-{day:02}T10:00:00Z", amount=f"{(n + 1) * times}.00", currency="USD"))
        for n in range(customers)
    ]  # fmt: skip


def editions(here: Site) -> dict[int, list[tuple[int, dict[str, Any]]]]:
    """By edition, the partitions of `commands` that have it, each with its body."""
    found: dict[int, list[tuple[int, dict[str, Any]]]] = {}
    for record in here.read("commands"):
        body = json.loads(record.value() or b"")
        found.setdefault(body["edition"], []).append((record.partition(), body))
    return found


def wait_for_edition(here: Site, number: int) -> dict[str, Any]:
    """Wait until an edition is in every partition; returns its body, which is the same in each."""
    wait_until(lambda: len({at for at, _ in editions(here).get(number, [])}) == PARTITIONS, 60, f"edition {number}")
    bodies = [body for _, body in editions(here)[number]]
    assert all(body == bodies[0] for body in bodies)
    return bodies[0]


def tiers(here: Site) -> dict[str, str]:
    return {name: json.loads(body)["tier"] for name, body in here.latest("profiles").items()}


@pytest.mark.kafka
@pytest.mark.parametrize("delivery", DELIVERIES)
def test_each_edition_judges_every_customer_once_and_the_journal_repeats_it(
    delivery: str, real_broker: Broker, tmp_path: Path
) -> None:
    with site(
        real_broker.address, tmp_path, partitions=PARTITIONS, clock="event", policy="pyramid", delivery=delivery
    ) as here:
        here.produce(bought(1, 200, 0))
        first = here.start()
        here.wait_until_drained(200)
        breakpoints = wait_for_edition(here, 1)["breakpoints"]
        assert breakpoints["customers"] == 200
        # The top 40, 10 and 2 of 200 who spent 1 to 200 dollars; the sketch is exact for so few.
        assert breakpoints["top_spend_minor"] == [16100, 19100, 19900]
        wait_until(lambda: sum(name != "lead" for name in tiers(here).values()) == 40, 60, "all customers to be judged")
        assert sorted(name for name, tier in tiers(here).items() if tier == "platinum") == ["c198", "c199"]
        changes = [json.loads(body) for bodies in here.by_customer(TIER_CHANGES).values() for body in bodies]
        assert {change["cause"] for change in changes} == {"edition-1"}
        assert {change["policy"] for change in changes} == {"pyramid@1/1"}

        # A day later customers who spent little spend a lot. A second worker takes a partition; the first is killed.
        here.produce(bought(2, 30, 1000, times=100))
        second = here.start()
        wait_until(lambda: second.stats().get("customers", 0) > 0, 60, "the second worker to have a partition")
        first.process.kill()
        first.process.wait()
        assert wait_for_edition(here, 2)["breakpoints"]["customers"] == 200
        here.wait_until_drained(0)
        wait_until(lambda: tiers(here)["c29"] == "platinum", 60, "the new thresholds to be used")
        assert replayed_by_journal(here, tmp_path / "replayed") == announced(here)


@pytest.mark.kafka
def test_other_parameters_begin_with_a_command_and_every_score_that_changes_says_so(
    real_broker: Broker, tmp_path: Path
) -> None:
    inputs = bought(1, 50, 0)
    with site(real_broker.address, tmp_path, partitions=PARTITIONS, clock="event", policy="annual-spend") as here:
        here.produce(inputs)
        here.start()
        here.wait_until_drained(50)
        (tmp_path / "params.toml").write_text(FITTED.as_toml())
        output = activate(here, tmp_path / "params.toml")
        assert output == "edition 1 has begun; every customer is judged under it as their turn comes\n"
        wait_until(lambda: all(one.endswith("/1") for one in policies(here)), 60, "all customers to be judged again")
        here.produce(bought(20, 5, 500))
        here.wait_until_drained(55)
        causes = {json.loads(one)["cause"] for bodies in here.by_customer("churn-risk").values() for one in bodies}
        assert "edition-1" in causes
        assert policies(here) == {"annual-spend@1/1"}
        # The same parameters again are a further edition, under which nothing changes.
        announcements = announced(here)
        assert activate(here, tmp_path / "params.toml").startswith("edition 2")
        wait_until(lambda: policies(here) == {"annual-spend@1/2"}, 60, "all customers to be judged again")
        assert announced(here) == announcements
        assert not here.read("dead-letters")
        assert replayed_by_journal(here, tmp_path / "replayed") == announced(here)


def activate(here: Site, parameters: Path) -> str:
    """Run `tierstream policy activate`; returns its output."""
    settings = here.settings
    environment = {
        "TIERSTREAM_BROKER": settings.broker, "TIERSTREAM_TOPIC_PREFIX": settings.topic_prefix,
        "TIERSTREAM_APP_ID": settings.app_id, "TIERSTREAM_PARTITIONS": str(settings.partitions), "TIERSTREAM_POLICY": settings.policy,
    }  # fmt: skip
    result = CliRunner().invoke(app, ["policy", "activate", "--parameters", str(parameters)], env=environment)
    assert result.exit_code == 0, result.output
    return result.output


def policies(here: Site) -> set[str]:
    return {json.loads(one)["policy"] for one in here.latest("profiles").values()}
