"""Customers of the retailer with 150 stores, worked out by hand.

Trailing window of 365 days; mass from 20,000 yuan, middle from 50,000 with a satisfaction of 80, high-end from
100,000 with 90; a customer without an answer counts as 80. Grace 60 days, one step down at a time, minimum hold 180 days.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from models import buckets, load
from tests.builders import DAY, HOUR, complaint, erase, feedback, lock, ms, purchase, refund, rfc3339, unlock
from tests.running import Fold

POLICY = load("retail-three-tier")


@pytest.fixture
def fold() -> Fold:
    return Fold(POLICY)


def tier_changes(fold: Fold) -> list[tuple[str, str, str]]:
    """(instant, change, tier after) of tier changes."""
    bodies = [json.loads(output.body) for output in fold.outputs if output.topic == "tier-changes"]
    return [(body["occurred_at"].removesuffix("T00:00:00Z"), body["change"], body["after"]["tier"]) for body in bodies]


def buys(amount: str, on: str | int, **more: Any) -> dict[str, Any]:
    return purchase("ada", amount, on=on, currency="CNY", **more)


def tier(fold: Fold) -> str:
    return fold.customers["ada"].standing.tier


# ---------------------------------------------------------------- thresholds
@pytest.mark.parametrize(
    ("amount", "expected"),
    [("19999.99", "none"), ("20000", "mass"), ("49999.99", "mass"), ("50000.00", "middle"), ("99999.99", "middle")],
)
def test_a_threshold_is_met_exactly_and_missed_by_one_cent(fold: Fold, amount: str, expected: str) -> None:
    fold.apply(buys(amount, "2024-01-01"))
    assert tier(fold) == expected


def test_a_customer_never_asked_counts_as_content_but_not_as_delighted(fold: Fold) -> None:
    fold.apply(buys("100000", "2024-01-01"))
    assert tier(fold) == "middle"


@pytest.mark.parametrize(
    ("score", "expected"), [(69, "none"), (70, "mass"), (79, "mass"), (80, "middle"), (90, "high-end")]
)
def test_satisfaction_decides_besides_spend(fold: Fold, score: int, expected: str) -> None:
    fold.apply(feedback("ada", score, on="2024-01-01"))
    fold.apply(buys("100000", "2024-01-02"))
    assert tier(fold) == expected


def test_the_purchase_that_reaches_the_tier_is_the_cause_and_its_instant_the_time(fold: Fold) -> None:
    fold.apply(buys("10000", "2024-01-01"))
    upgrade = fold.apply(buys("10000", "2024-01-15T08:30:00Z", id="the-one")).bodies[0]
    assert (upgrade["change"], upgrade["cause"], upgrade["occurred_at"]) == (
        "upgrade",
        "the-one",
        "2024-01-15T08:30:00Z",
    )
    assert (upgrade["before"]["tier"], upgrade["after"]["tier"]) == ("none", "mass")
    assert upgrade["policy"] == "retail-three-tier@1"
    assert upgrade["rule"]["requirements"][0] == {
        "measure": "spend",
        "needed": "20000.00",
        "actual": "20000.00",
        "met": True,
    }


def test_dollars_count_at_the_fixed_rate(fold: Fold) -> None:
    fold.apply(purchase("ada", "2816.90", on="2024-01-01", currency="USD"))  # x 7.10 = 19,999.99
    assert (fold.customers["ada"].facts.spend_minor, tier(fold)) == (1999999, "none")
    fold.apply(purchase("eve", "2816.91", on="2024-01-01", currency="USD"))  # 20,000.061
    assert fold.customers["eve"].facts.spend_minor == 2000006


# ---------------------------------------------------------------- losing a tier
def test_a_tier_is_lost_softly_one_step_at_a_time(fold: Fold) -> None:
    fold.apply(feedback("ada", 95, on="2024-01-01"))
    fold.apply(buys("100000", "2024-01-01"))
    fold.advance(ms("2027-01-01"))
    assert tier_changes(fold) == [
        ("2024-01-01", "upgrade", "high-end"),
        ("2024-12-31", "downgrade_scheduled", "high-end"),  # 365 days later, 2024 being a leap year
        ("2025-03-01", "downgrade", "middle"),  # 60 days of grace
        ("2025-03-01", "downgrade_scheduled", "middle"),
        ("2025-08-28", "downgrade", "mass"),  # held for 180 days
        ("2025-08-28", "downgrade_scheduled", "mass"),
        ("2026-02-24", "downgrade", "none"),
    ]


def test_the_customer_is_due_at_the_millisecond_the_purchase_leaves_the_window(fold: Fold) -> None:
    fold.apply(buys("20000", "2024-01-01T10:59:59.999Z"))
    leaves_ms = ms("2024-01-01T10:00:00Z") + 365 * DAY  # with its hour
    fold.advance(leaves_ms - 1)
    assert "downgrade_scheduled" not in [one.change for one in fold.outputs]
    fold.advance(leaves_ms)
    assert fold.outputs[-1].change == "downgrade_scheduled"
    assert fold.outputs[-1].occurred_at_ms == leaves_ms


def test_a_downgrade_is_averted_in_the_last_millisecond_of_the_grace(fold: Fold) -> None:
    fold.apply(buys("20000", "2024-01-01"))
    fold.apply(buys("20000", ms("2025-03-01") - 1, id="just-in-time"))
    assert tier_changes(fold)[-2:] == [
        ("2024-12-31", "downgrade_scheduled", "mass"),
        ("2025-02-28T23:59:59.999Z", "downgrade_averted", "mass"),
    ]
    assert fold.customers["ada"].standing.tier_since_ms == ms("2024-01-01")


def test_at_the_end_of_the_grace_a_downgrade_precedes_the_upgrade_by_a_purchase(fold: Fold) -> None:
    fold.apply(buys("20000", "2024-01-01"))
    fold.apply(buys("20000", "2025-03-01", id="too-late"))
    assert tier_changes(fold)[-2:] == [("2025-03-01", "downgrade", "none"), ("2025-03-01", "upgrade", "mass")]
    causes = [json.loads(output.body)["cause"] for output in fold.outputs if output.topic == "tier-changes"]
    assert causes[-2:] == ["clock", "too-late"]


def test_a_cent_too_little_does_not_avert_a_downgrade(fold: Fold) -> None:
    fold.apply(buys("20000", "2024-01-01"))
    fold.apply(buys("19999.99", "2025-02-01"))
    fold.advance(ms("2025-03-01"))
    assert tier_changes(fold)[-1] == ("2025-03-01", "downgrade", "none")


def test_a_tier_is_held_for_180_days_even_when_all_is_refunded_the_next_day(fold: Fold) -> None:
    fold.apply(buys("20000", "2024-01-01"))
    step = fold.apply(refund("ada", "20000", on="2024-01-02", of="2024-01-01", full=True, currency="CNY"))
    assert step.changes == ["downgrade_scheduled"]
    assert step.customer.standing.downgrade_at_ms == ms("2024-01-01") + 180 * DAY
    assert fold.customers["ada"].due_at_ms <= ms("2024-01-01") + 180 * DAY
    fold.advance(ms("2024-01-01") + 180 * DAY - 1)
    assert tier(fold) == "mass"
    fold.advance(ms("2024-01-01") + 180 * DAY)
    assert tier(fold) == "none"


def test_after_the_hold_the_grace_counts_from_the_day_the_customer_stops_qualifying(fold: Fold) -> None:
    fold.apply(buys("20000", "2024-01-01"))
    step = fold.apply(refund("ada", "0.01", on="2024-06-20", of="2024-01-01", currency="CNY"))
    assert step.customer.standing.downgrade_at_ms == ms("2024-06-20") + 60 * DAY


def test_an_answer_counts_for_365_days_and_then_80_is_assumed_again(fold: Fold) -> None:
    fold.apply(feedback("ada", 100, on="2024-01-01"))
    fold.apply(buys("100000", "2024-06-01"))
    ends_ms = ms("2024-01-01") + 365 * DAY
    fold.advance(ends_ms)
    assert tier_changes(fold)[-1] == (rfc3339(ends_ms)[:10], "downgrade_scheduled", "high-end")


def test_a_bad_answer_costs_the_tier_and_its_expiry_restores_it(fold: Fold) -> None:
    fold.apply(buys("25000", "2024-01-01"))
    fold.apply(feedback("ada", 10, on="2024-01-10"))
    fold.apply(buys("25000", "2024-12-30"))
    assert tier_changes(fold)[1:3] == [
        ("2024-01-10", "downgrade_scheduled", "mass"),
        ("2024-06-29", "downgrade", "none"),
    ]
    # On 9 January the answer is a year old; of the two purchases the first left the window on 31 December.
    fold.advance(ms("2025-01-09"))
    assert tier_changes(fold)[-1] == ("2025-01-09", "upgrade", "mass")


def test_the_score_that_comes_with_a_complaint_is_an_answer(fold: Fold) -> None:
    fold.apply(buys("50000", "2024-01-01"))
    fold.apply(complaint("ada", on="2024-01-10", severity="low", satisfaction=60))
    assert tier_changes(fold)[-1] == ("2024-01-10", "downgrade_scheduled", "middle")


# ---------------------------------------------------------------- refunds
def spend_at(fold: Fold, at: str) -> int:
    return POLICY.view(fold.customers["ada"].facts, ms(at)).at(ms(at)).spend_minor


def test_a_refund_is_booked_in_the_bucket_of_the_purchase_it_reverses(fold: Fold) -> None:
    fold.apply(buys("20000", "2024-01-10T10:30:00Z"))
    fold.apply(buys("500", "2024-05-01"))
    fold.apply(refund("ada", "12000", on="2024-06-01", of="2024-01-10T10:59:00Z", currency="CNY"))
    january, may = buckets.unpack(fold.customers["ada"].facts.buckets)
    assert january.number * HOUR == ms("2024-01-10T10:00:00Z")
    assert (january.purchases, january.orders, january.spend_minor) == (1, 1, 800_000)
    assert may.spend_minor == 50_000
    assert spend_at(fold, "2024-12-31") == 850_000
    assert spend_at(fold, "2025-02-01") == 50_000


def test_a_full_refund_takes_the_order_back_but_not_the_day_of_purchase(fold: Fold) -> None:
    fold.apply(buys("20000", "2024-01-10"))
    fold.apply(refund("ada", "20000", on="2024-06-01", of="2024-01-10", full=True, currency="CNY"))
    facts = fold.customers["ada"].facts
    assert (facts.orders, facts.spend_minor, facts.purchase_days) == (0, 0, 1)
    assert (facts.first_purchase_ms, facts.last_purchase_ms) == (ms("2024-01-10"), ms("2024-01-10"))
    assert [(one.purchases, one.orders, one.spend_minor) for one in buckets.unpack(facts.buckets)] == [(1, 0, 0)]


def test_a_refund_without_its_purchases_time_counts_at_its_own_time(fold: Fold) -> None:
    fold.apply(buys("20000", "2024-01-10"))
    fold.apply(refund("ada", "12000", on="2024-06-01", currency="CNY"))
    assert spend_at(fold, "2024-12-31") == 800_000
    assert spend_at(fold, "2025-02-01") == -1_200_000


def test_a_refund_that_leaves_the_window_lifts_the_customer_by_time_alone(fold: Fold) -> None:
    fold.apply(refund("ada", "10000", on="2024-01-01", currency="CNY"))
    fold.apply(buys("25000", "2024-06-01"))
    assert tier(fold) == "none"
    fold.advance(ms("2024-12-31"))
    assert tier_changes(fold) == [("2024-12-31", "upgrade", "mass")]


# ---------------------------------------------------------------- late events
def test_a_late_purchase_goes_where_it_belongs_and_is_judged_at_the_clock(fold: Fold) -> None:
    fold.apply(buys("10000", "2024-06-01"))
    late = fold.apply(buys("10000", "2024-03-01", id="late"))
    body = next(body for body in late.bodies if body["change"] == "upgrade")
    assert (body["occurred_at"], body["cause"]) == ("2024-06-01T00:00:00Z", "late")
    assert late.customer.clock_ms == ms("2024-06-01")
    assert late.customer.facts.first_purchase_ms == ms("2024-03-01")
    fold.advance(ms("2025-03-01") - 1)
    assert tier_changes(fold) == [("2024-06-01", "upgrade", "mass")]
    fold.advance(ms("2025-03-01"))
    assert tier_changes(fold)[-1] == ("2025-03-01", "downgrade_scheduled", "mass")


def test_an_event_as_late_as_allowed_counts_and_one_a_millisecond_later_does_not(fold: Fold) -> None:
    clock_ms = ms("2024-06-01")
    fold.apply(buys("1", clock_ms))
    before = fold.customers["ada"]
    refused = fold.apply(buys("1", clock_ms - 365 * DAY - 1))
    assert refused.rejected is not None
    assert refused.rejected.code == "too_late"
    assert fold.customers["ada"] == before
    assert fold.apply(buys("1", clock_ms - 365 * DAY)).rejected is None
    assert fold.customers["ada"].facts.orders == 2


def test_a_late_purchase_does_not_undo_a_downgrade_but_upgrades_from_now(fold: Fold) -> None:
    fold.apply(buys("20000", "2024-01-01"))
    fold.apply(buys("1", "2025-03-02"))
    assert tier(fold) == "none"
    fold.apply(buys("20000", "2024-12-01", id="late"))
    assert tier_changes(fold)[-1] == ("2025-03-02", "upgrade", "mass")
    assert fold.customers["ada"].standing.tier_since_ms == ms("2025-03-02")


# ---------------------------------------------------------------- commands
def test_a_locked_tier_stays_until_it_is_unlocked_and_is_then_judged(fold: Fold) -> None:
    locked = fold.apply(lock("ada", "high-end", on="2024-01-01", reason="the owner's friend", actor="mia")).bodies[0]
    assert (locked["change"], locked["before"]["tier"], locked["after"]["tier"]) == ("lock", "none", "high-end")
    assert locked["after"]["lock"] == {"since": "2024-01-01T00:00:00Z", "reason": "the owner's friend", "actor": "mia"}
    fold.apply(buys("10", "2024-01-02"))
    fold.advance(ms("2026-01-01"))
    assert tier(fold) == "high-end"
    unlocked = fold.apply(unlock("ada", on="2026-01-02"))
    assert unlocked.changes == ["unlock", "downgrade_scheduled"]
    assert unlocked.customer.standing.downgrade_at_ms == ms("2026-01-02") + 60 * DAY


def test_a_lock_takes_a_pending_downgrade_away(fold: Fold) -> None:
    fold.apply(buys("20000", "2024-01-01"))
    fold.apply(lock("ada", "mass", on="2025-01-15"))
    assert tier_changes(fold)[-2:] == [("2024-12-31", "downgrade_scheduled", "mass"), ("2025-01-15", "lock", "mass")]
    fold.advance(ms("2030-01-01"))
    assert tier(fold) == "mass"
    assert fold.customers["ada"].standing.tier_since_ms == ms("2024-01-01")


def test_a_purchase_does_not_lift_a_locked_customer(fold: Fold) -> None:
    fold.apply(lock("ada", "mass", on="2024-01-01"))
    fold.apply(buys("60000", "2024-01-02"))
    assert tier(fold) == "mass"
    assert fold.apply(unlock("ada", on="2024-01-03")).changes == ["unlock", "upgrade"]


def test_unlocking_a_customer_without_a_lock_announces_nothing(fold: Fold) -> None:
    fold.apply(buys("10", "2024-01-01"))
    assert fold.apply(unlock("ada", on="2024-01-02")).changes == []


def test_erasing_forgets_all_but_the_numbering(fold: Fold) -> None:
    fold.apply(buys("60000", "2024-01-01", id="gone"))
    erased = fold.apply(erase("ada", on="2024-01-05"))
    assert [(body["change"], body["before"], body["after"]) for body in erased.bodies] == [
        ("erase", {"tier": "middle"}, None)
    ]
    assert erased.customer.facts == type(erased.customer.facts)()
    assert erased.customer.standing.tier == "none"
    assert fold.advance(ms("2030-01-01")) == []
    assert fold.apply(buys("60000", "2024-01-01", id="gone")).outputs == []
    assert fold.apply(buys("60000", "2024-01-05", id="other")).outputs == []
    back = fold.apply(buys("60000", ms("2024-01-05") + 1))
    assert back.changes == ["upgrade"]
    assert back.outputs[0].seq == erased.outputs[0].seq + 1


def test_orders_in_the_window_are_never_negative(fold: Fold) -> None:
    fold.apply(refund("ada", "1", on="2024-01-01", full=True, currency="CNY"))
    customer = fold.apply(refund("ada", "1", on="2024-01-02", full=True, currency="CNY")).customer
    measures = POLICY.view(customer.facts, customer.clock_ms).at(customer.clock_ms)
    assert (measures.orders, measures.spend_minor) == (0, -200)
    assert customer.facts.orders == -2
