"""Stages and behaviour of single customers, worked out by hand from docs/policies.md."""

from __future__ import annotations

import json

import pytest

from models import load, profile
from tests.builders import DAY, Wire, erase, ms, policy_text, prospect, purchase, refund
from tests.running import Fold, policy_of

POLICY = policy_of(
    policy_text(
        life_cycle={"loyal_days": 3, "loyal_after": "30d", "cooling_after": "20d", "lost_after": "50d"},
        tiers=[{"name": "silver", "min_spend": "100"}],
    )
)
START_MS = ms("2024-01-01")


def day(number: int) -> int:
    return START_MS + number * DAY


def changes(log: list[Wire], until_day: int) -> list[tuple[int, str, str]]:
    """When (ms from the start), what changed and to what."""
    fold = Fold(POLICY)
    for wire in log:
        fold.apply(wire)
    fold.advance(day(until_day))
    found = []
    for output in fold.outputs:
        if output.topic == "life-cycle":
            body = json.loads(output.body)
            assert body["before"][output.change] != body["after"][output.change]
            found.append((output.occurred_at_ms - START_MS, output.change, body["after"][output.change]))
    return found


def bought(*days: int) -> list[Wire]:
    return [purchase("ada", "10", on=day(one)) for one in days]


LATER = 1 / DAY
"""A millisecond."""


def in_ms(expected: list[tuple[float, str, str]]) -> list[tuple[int, str, str]]:
    return [(round(at * DAY), change, to) for at, change, to in expected]


@pytest.mark.parametrize(
    ("days", "until", "expected"),
    [
        ((0,), 10, [(0, "stage", "new")]),
        ((0,), 400, [(0, "stage", "new"), (20 + LATER, "stage", "cooling"), (50 + LATER, "stage", "lost")]),
        ((0, 0, 0), 19, [(0, "stage", "new")]),
        ((0, 5), 19, [(0, "stage", "new"), (5, "behaviour", "high-frequency"), (5, "stage", "active")]),
        (
            (0, 15, 30),
            31,
            [(0, "stage", "new"), (15, "behaviour", "active"), (15, "stage", "active"), (30, "stage", "loyal")],
        ),
        # Three days, but not yet thirty days apart.
        ((0, 15, 29), 30, [(0, "stage", "new"), (15, "behaviour", "active"), (15, "stage", "active")]),
        # Cooling, and bought again in time: nothing special.
        (
            (0, 25),
            26,
            [(0, "stage", "new"), (20 + LATER, "stage", "cooling"), (25, "behaviour", "active"), (25, "stage", "active")],
        ),
        # Lost and won back, until the purchase after that.
        (
            (0, 60, 65),
            66,
            [
                (0, "stage", "new"), (20 + LATER, "stage", "cooling"), (50 + LATER, "stage", "lost"),
                (60, "behaviour", "regular"), (60, "stage", "won-back"), (65, "stage", "loyal"),
            ],
        ),
        # Won back, and gone again.
        (
            (0, 60),
            120,
            [
                (0, "stage", "new"), (20 + LATER, "stage", "cooling"), (50 + LATER, "stage", "lost"),
                (60, "behaviour", "regular"), (60, "stage", "won-back"), (80 + LATER, "stage", "cooling"),
                (110 + LATER, "stage", "lost"),
            ],
        ),
        ((0, 200), 201, [
            (0, "stage", "new"), (20 + LATER, "stage", "cooling"), (50 + LATER, "stage", "lost"), (200, "stage", "won-back"),
        ]),
    ],
)  # fmt: skip
def test_stages_and_behaviour(days: tuple[int, ...], until: int, expected: list[tuple[float, str, str]]) -> None:
    assert changes(bought(*days), until) == in_ms(expected)


def test_a_refund_or_a_complaint_is_no_purchase() -> None:
    log = [*bought(0), refund("ada", "10", on=day(30), full=True)]
    assert changes(log, 31) == in_ms([(0, "stage", "new"), (20 + LATER, "stage", "cooling")])
    assert changes([refund("ada", "10", on=day(30))], 60) == []


def test_an_erased_customer_begins_anew() -> None:
    assert changes([*bought(0, 5), erase("ada", on=day(6)), *bought(7)], 8)[-1] == (7 * DAY, "stage", "new")


def test_the_profile_has_stage_behaviour_and_whether_the_next_tier_is_likely() -> None:
    fold = Fold(POLICY)
    for one in bought(0, 5, 10, 15):
        fold.apply(one)
    written = profile(fold.customers["ada"], "ada", POLICY)
    assert written is not None
    body = json.loads(written)
    assert body["life_cycle"] == {"stage": "active", "since": "2024-01-06T00:00:00Z", "behaviour": "high-frequency"}
    potential = body["potential"]
    assert (potential["tier"], potential["within"]) == ("silver", "90d")
    chosen, facts, now_ms = POLICY, fold.customers["ada"].facts, day(15)
    alive = chosen.risk.p_alive(facts, now_ms)
    purchases = chosen.risk.mbg.expected_purchases_if_alive(3, 15 / 7, 90 / 7)
    assert float(potential["expected_spend"]) == pytest.approx(alive * purchases * 10, abs=0.01)


@pytest.mark.parametrize(
    ("asks", "likely"),
    [({"min_spend": "45"}, True), ({"min_spend": "400"}, False), ({"min_orders": 5}, True), ({"min_orders": 40}, False),
     ({"min_spend": "45", "min_satisfaction": 80}, False)],
)  # fmt: skip
def test_a_customer_expected_to_buy_what_is_missing_is_likely_to_reach_the_tier(asks: Wire, likely: bool) -> None:
    policy = policy_of(policy_text(tiers=[{"name": "silver", **asks}]))
    fold = Fold(policy)
    for one in bought(0, 5, 10, 15):
        fold.apply(one)
    written = profile(fold.customers["ada"], "ada", policy)
    assert written is not None
    assert json.loads(written)["potential"]["likely"] is likely


def test_a_prospect_is_qualified_by_three_marks_and_becomes_a_customer_by_purchase() -> None:
    log = [
        prospect("ada", on=day(0), money=False, authority=False),
        prospect("ada", on=day(1), money=False),
        # The same again says nothing new, an older word does not count.
        prospect("ada", on=day(2), authority=False),
        prospect("ada", on=day(1), need=False, money=False, authority=False),
        prospect("ada", on=day(3)),
        purchase("ada", "10", on=day(4)),
        prospect("ada", on=day(5), need=False),
    ]
    assert changes(log, 6) == in_ms(
        [
            (0, "qualification", "automate"),
            (1, "qualification", "nurture"),
            (3, "qualification", "qualified"),
            (4, "stage", "new"),
        ]
    )
    fold = Fold(POLICY)
    for wire in log:
        fold.apply(wire)
    last = json.loads(fold.outputs[-1].body)
    assert last["before"] == {"stage": "prospect", "since": "2024-01-01T00:00:00Z"}
    written = profile(fold.customers["ada"], "ada", POLICY)
    assert written is not None
    assert json.loads(written)["life_cycle"]["qualification"] == "qualified"


def test_the_profile_of_a_prospect_has_no_risk() -> None:
    fold = Fold(POLICY)
    fold.apply(prospect("ada", on=day(0), money=False, authority=False, need=False))
    written = profile(fold.customers["ada"], "ada", POLICY)
    assert written is not None
    body = json.loads(written)
    assert body["life_cycle"]["qualification"] == "not-a-target"
    assert (body["risk"]["probability"], body["recency"], body["potential"]) == (None, None, None)


def test_a_policy_without_a_life_cycle_says_nothing_of_it() -> None:
    fold = Fold(load("annual-spend"))
    fold.apply(purchase("ada", "10", on=day(0)))
    fold.advance(day(900))
    assert {output.topic for output in fold.outputs} == {"churn-risk", "alerts"}
    written = profile(fold.customers["ada"], "ada", fold.policy)
    assert written is not None
    assert "life_cycle" not in json.loads(written)
