"""Comparing the tables of two app versions: kinds of differences, and the report on them."""

from __future__ import annotations

import io
from collections.abc import Sequence

import orjson
from rich.console import Console

import models
from models import units
from models.policy import Policy
from streams.engine.merge import Record
from streams.settings import load_settings
from streams.versions.rebuild_report import Report
from streams.versions.table_comparison import (
    ANNOUNCED_OTHERWISE,
    EQUAL,
    FACTS,
    ONLY_NEW,
    ONLY_OLD,
    TableComparison,
    Version,
    differences,
)
from streams.workshop.replay.fold import Replay

ANNUAL, SUBSCRIPTION = models.load("annual-spend"), models.load("subscription-like")
UNTIL_MS = units.parse_time("2026-03-01T00:00:00Z")
Bought = tuple[str, str, str]
"""Customer, day and amount."""


def table(policy: Policy, bought: Sequence[Bought], looked_at: str = "") -> dict[bytes, bytes]:
    """Customers after purchases, in this order; with `looked_at`, everybody was advanced to that time before the last
    one.
    """
    replay, decoder = Replay(policy, with_recorded_thresholds=True), policy.decoder()
    records = []
    for number, (customer, day, amount) in enumerate(bought):
        body = {
            "event_id": f"{customer}-{day}-{amount}", "customer_id": customer, "kind": "purchase", "order_id": f"o{customer}{day}{amount}",
            "amount": amount, "currency": policy.currency, "occurred_at": f"{day}T00:00:00Z",
        }  # fmt: skip
        value = orjson.dumps(body)
        decoded = decoder.decode("purchases", value, customer.encode(), None)
        records.append(Record("purchases", 0, number, customer.encode(), value, None, decoded))
    turns = [records[:-1], records[-1:]] if looked_at else [records]
    for turn in turns:
        list(replay.fold(turn))
        if looked_at and turn is turns[0]:
            list(replay.finish(units.parse_time(looked_at)))
    list(replay.finish(UNTIL_MS))
    return replay.partition.customers


def compared(
    old: dict[bytes, bytes], new: dict[bytes, bytes], same_policy: bool = True
) -> tuple[TableComparison, list[str]]:
    found = TableComparison()
    return found, [one.kind for one in differences(old, new, same_policy, found)]


def report(old: dict[bytes, bytes], new: dict[bytes, bytes], policies: tuple[Policy, Policy]) -> tuple[Report, str]:
    settings = load_settings(app_version=1)
    versions = [
        Version(settings.model_copy(update={"app_version": number}), policy)
        for number, policy in enumerate(policies, 1)
    ]
    found = TableComparison()
    listed = list(differences(old, new, policies[0].ref == policies[1].ref, found))
    made, shown = Report(versions[0], versions[1], found, listed), io.StringIO()
    made.print(Console(file=shown, width=200))
    return made, shown.getvalue()


SOME: list[Bought] = [("ada", "2025-01-01", "100.00"), ("bea", "2025-02-01", "900.00"), ("ada", "2025-03-01", "50.00")]


def test_customers_with_the_same_events_are_equal_whatever_their_due_times() -> None:
    found, listed = compared(table(ANNUAL, SOME), table(ANNUAL, SOME, looked_at="2025-03-01T00:00:00Z"))
    assert (found.kinds, listed) == ({EQUAL: 2}, [])
    assert found.is_harmless


def test_a_late_record_gives_the_same_customer_with_other_announcements() -> None:
    often: list[Bought] = [("ada", f"2025-{month:02}-{day:02}", "40.00") for month in range(1, 8) for day in (1, 15)]
    # In the second table the last purchase came when she was considered silent.
    before, after = table(ANNUAL, often), table(ANNUAL, often, looked_at="2025-11-01T00:00:00Z")
    found, listed = compared(before, after)
    assert (found.kinds, listed) == ({ANNOUNCED_OTHERWISE: 1}, [])
    assert found.is_harmless


def test_events_that_one_version_did_not_count_are_another_difference() -> None:
    found, listed = compared(table(ANNUAL, SOME), table(ANNUAL, SOME[:2]))
    assert (found.kinds, listed) == ({EQUAL: 1, FACTS: 1}, [FACTS])
    assert not found.is_harmless


def test_customers_in_one_version_only_are_counted_and_named() -> None:
    old, new = table(ANNUAL, SOME[:1]), table(ANNUAL, SOME[1:2])
    found, listed = compared(old, new)
    assert (found.kinds, listed) == ({ONLY_OLD: 1, ONLY_NEW: 1}, [ONLY_OLD, ONLY_NEW])
    made, shown = report(old, new, (ANNUAL, ANNUAL))
    assert not made.is_accepted
    assert "2 of 2 customers (100.0%) are not the same in versions 1 and 2" in shown
    assert "ada: only in the old version" in shown


def test_under_another_policy_moved_customers_are_shown_and_accepted() -> None:
    bought: list[Bought] = [("ada", "2026-01-01", "10.00"), ("bea", "2026-01-01", "100000.00")]
    old, new = table(ANNUAL, bought), table(SUBSCRIPTION, bought)
    made, shown = report(old, new, (ANNUAL, SUBSCRIPTION))
    assert made.is_accepted
    moved = sum(one["customers"] for one in made.as_json()["tiers"] if one["from"] != one["to"])
    assert f"{moved:,} of them" in shown
    assert made.as_json()["customers"] == 2
    assert [orjson.loads(line)["customer_id"] for line in made.lines()] == [one.customer_id for one in made.differences]
