"""Members of the programme by annual spend, worked out by hand.

Calendar year; silver from $75, gold from $200, platinum from $500 with four orders. A tier earned in one year is kept
until the end of the next, and lost one step at a time.
"""

from __future__ import annotations

import json

import pytest

from models import load
from tests.builders import feedback, lock, ms, policy_text, purchase, shipped, unlock
from tests.running import Fold, policy_of

CALENDAR = load("annual-spend")


def fold_of(**window: str) -> Fold:
    return Fold(policy_of(policy_text(shipped("annual-spend"), window=window)))


def story(fold: Fold) -> list[tuple[str, str, str]]:
    """(instant, change, tier after) of tier changes."""
    bodies = [json.loads(output.body) for output in fold.outputs if output.topic == "tier-changes"]
    return [(body["occurred_at"].removesuffix("T00:00:00Z"), body["change"], body["after"]["tier"]) for body in bodies]


def last_needs(fold: Fold) -> str:
    return json.loads([output for output in fold.outputs if output.topic == "tier-changes"][-1].body)["needs"]["text"]


@pytest.mark.parametrize(
    ("amount", "expected"),
    [("74.99", "member"), ("75", "silver"), ("199.99", "silver"), ("200", "gold"), ("500", "gold")],
)
def test_a_threshold_is_met_exactly_and_missed_by_one_cent(amount: str, expected: str) -> None:
    fold = Fold(CALENDAR)
    fold.apply(purchase("ada", amount, on="2023-05-01"))
    assert fold.customers["ada"].standing.tier == expected


def test_platinum_takes_four_orders_besides_the_spend() -> None:
    fold = Fold(CALENDAR)
    for month in (1, 2, 3):
        fold.apply(purchase("ada", "200", on=f"2023-0{month}-10"))
    assert fold.customers["ada"].standing.tier == "gold"
    assert fold.apply(purchase("ada", "0", on="2023-04-10")).changes[0] == "upgrade"
    assert fold.customers["ada"].standing.tier == "platinum"


def test_a_tier_earned_in_one_year_is_kept_until_the_end_of_the_next_and_lost_softly() -> None:
    fold = Fold(CALENDAR)
    fold.apply(purchase("ada", "200", on="2023-05-01"))
    fold.advance(ms("2030-01-01"))
    assert story(fold) == [
        ("2023-05-01", "upgrade", "gold"),
        ("2024-01-01", "downgrade_scheduled", "gold"),
        ("2025-01-01", "downgrade", "silver"),
        ("2025-01-01", "downgrade_scheduled", "silver"),
        ("2026-01-01", "downgrade", "member"),
    ]


def test_what_keeps_the_tier_is_said_in_words() -> None:
    fold = Fold(CALENDAR)
    fold.apply(purchase("ada", "200", on="2023-05-01"))
    assert last_needs(fold) == "$200.00 from 2024-01-01 by 2024-12-31 keeps gold"
    fold.advance(ms("2024-01-01"))
    assert last_needs(fold) == "$200.00 by 2024-12-31 keeps gold"
    fold.advance(ms("2025-01-01"))
    assert last_needs(fold) == "$75.00 by 2025-12-31 keeps silver"


def test_the_last_millisecond_of_the_year_averts_and_the_next_year_asks_again() -> None:
    fold = Fold(CALENDAR)
    fold.apply(purchase("ada", "200", on="2023-05-01"))
    fold.apply(purchase("ada", "200", on="2024-12-31T23:59:59.999Z"))
    fold.advance(ms("2025-01-01"))
    assert story(fold)[-2:] == [
        ("2024-12-31T23:59:59.999Z", "downgrade_averted", "gold"),
        ("2025-01-01", "downgrade_scheduled", "gold"),
    ]
    assert fold.customers["ada"].standing.downgrade_at_ms == ms("2026-01-01")


def test_a_cent_too_little_in_the_year_does_not_keep_the_tier() -> None:
    fold = Fold(CALENDAR)
    fold.apply(purchase("ada", "200", on="2023-05-01"))
    fold.apply(purchase("ada", "199.99", on="2024-06-01"))
    fold.advance(ms("2025-01-01"))
    assert story(fold)[-2:] == [("2025-01-01", "downgrade", "silver"), ("2025-01-01", "downgrade_scheduled", "silver")]


def test_midnight_parts_the_years() -> None:
    fold = Fold(CALENDAR)
    fold.apply(purchase("ada", "50", on="2023-12-31T23:59:59.999Z"))
    fold.apply(purchase("ada", "50", on="2024-01-01T00:00:00Z"))
    assert story(fold) == []
    fold.apply(purchase("ada", "25", on="2023-12-31T23:00:00Z"))
    assert story(fold) == []  # 75 in 2023, but judged in 2024
    fold.apply(purchase("ada", "25", on="2024-01-02"))
    assert story(fold) == [("2024-01-02", "upgrade", "silver")]


def test_the_year_begins_at_local_midnight() -> None:
    fold = fold_of(utc_offset="+08:00")
    fold.apply(purchase("ada", "75", on="2023-05-01"))
    fold.advance(ms("2023-12-31T16:00:00Z") - 1)
    assert story(fold) == [("2023-05-01", "upgrade", "silver")]
    fold.advance(ms("2023-12-31T16:00:00Z"))
    assert story(fold)[-1] == ("2023-12-31T16:00:00Z", "downgrade_scheduled", "silver")
    assert fold.customers["ada"].standing.downgrade_at_ms == ms("2024-12-31T16:00:00Z")


def test_the_anniversary_year_begins_on_the_day_of_the_first_purchase() -> None:
    fold = fold_of(kind="anniversary-year")
    fold.apply(purchase("ada", "200", on="2023-05-10T15:00:00Z"))
    fold.apply(purchase("ada", "75", on="2025-05-09T23:59:59.999Z"))
    fold.advance(ms("2026-12-31"))
    assert story(fold) == [
        ("2023-05-10T15:00:00Z", "upgrade", "gold"),
        ("2024-05-10", "downgrade_scheduled", "gold"),
        ("2025-05-10", "downgrade", "silver"),
        ("2025-05-10", "downgrade_scheduled", "silver"),
        ("2026-05-10", "downgrade", "member"),
    ]


def test_a_customer_since_29_february_has_the_28th_for_an_anniversary() -> None:
    fold = fold_of(kind="anniversary-year")
    fold.apply(purchase("ada", "75", on="2024-02-29T12:00:00Z"))
    fold.advance(ms("2026-12-31"))
    assert story(fold)[1:] == [("2025-02-28", "downgrade_scheduled", "silver"), ("2026-02-28", "downgrade", "member")]


def test_a_late_first_purchase_moves_the_anniversary() -> None:
    fold = fold_of(kind="anniversary-year")
    fold.apply(purchase("ada", "75", on="2023-05-10"))
    fold.apply(purchase("ada", "1", on="2023-03-01"))
    fold.advance(ms("2024-06-01"))
    assert story(fold)[-1] == ("2024-03-01", "downgrade_scheduled", "silver")


def test_without_a_purchase_the_anniversary_year_is_the_calendar_year() -> None:
    fold = fold_of(kind="anniversary-year")
    fold.apply(feedback("ada", 90, on="2023-05-10"))
    fold.apply(lock("ada", "gold", on="2023-05-11"))
    unlocked = fold.apply(unlock("ada", on="2023-05-12"))
    assert unlocked.changes == ["unlock", "downgrade_scheduled"]
    assert unlocked.customer.standing.downgrade_at_ms == ms("2024-01-01")
