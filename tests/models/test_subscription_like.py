"""Buyers of coffee and the like, worked out by hand.

Trailing window of 180 days, periods of 30 days from the epoch. Regular: orders in 2 periods, the last at most 90 days
ago; frequent: 3 periods, 4 orders, 60 days; devoted: 4 periods, 6 orders, 45 days and a score of 3.5. Grace 14 days,
straight down to what is deserved then, minimum hold 30 days.
"""

from __future__ import annotations

import json

import pytest

from models import load
from models.facts import Measures
from tests.builders import DAY, ms, policy_text, purchase, refund, shipped
from tests.running import Fold, policy_of

POLICY = load("subscription-like")
DAY_0 = ms("2024-01-01")


@pytest.fixture
def fold() -> Fold:
    return Fold(POLICY)


def story(fold: Fold) -> list[tuple[str, str, str]]:
    """(days since the first of January and ms, change, tier after) of tier changes."""
    found = []
    for output in fold.outputs:
        if output.topic == "tier-changes":
            days, rest_ms = divmod(output.occurred_at_ms - DAY_0, DAY)
            body = json.loads(output.body)
            found.append((f"{days}d" + (f"{rest_ms}ms" if rest_ms else ""), body["change"], body["after"]["tier"]))
    return found


def test_two_orders_in_one_period_are_no_rhythm_but_in_two_they_are(fold: Fold) -> None:
    parts_at = "2024-01-18"  # 19740 days after the epoch, 658 periods
    assert ms(parts_at) % (30 * DAY) == 0
    fold.apply(purchase("ada", "10", on="2024-01-10"))
    fold.apply(purchase("ada", "10", on=ms(parts_at) - 1))
    assert fold.customers["ada"].standing.tier == "occasional"
    fold.apply(purchase("ada", "10", on=ms(parts_at)))
    assert fold.customers["ada"].standing.tier == "regular"


def test_recency_may_be_90_days_to_the_millisecond(fold: Fold) -> None:
    fold.apply(purchase("ada", "10", on=DAY_0))
    fold.apply(purchase("ada", "10", on=DAY_0 + 20 * DAY))
    fold.advance(DAY_0 + 110 * DAY)
    assert [change for _, change, _ in story(fold)] == ["upgrade"]
    fold.advance(DAY_0 + 110 * DAY + 1)
    assert story(fold)[-1] == ("110d1ms", "downgrade_scheduled", "regular")
    assert fold.customers["ada"].standing.downgrade_at_ms == DAY_0 + 124 * DAY + 1


def test_a_devoted_customer_who_falls_silent_drops_to_what_they_qualify_for(fold: Fold) -> None:
    for number in range(9):
        fold.apply(purchase("ada", "25", on=DAY_0 + 15 * number * DAY))
    assert [tier for _, _, tier in story(fold)] == ["regular", "frequent", "devoted"]
    fold.advance(DAY_0 + 1000 * DAY)
    # The last purchase was on day 120.
    assert story(fold)[3:] == [
        ("165d1ms", "downgrade_scheduled", "devoted"),
        ("179d1ms", "downgrade", "frequent"),
        ("180d1ms", "downgrade_scheduled", "frequent"),
        ("209d1ms", "downgrade", "regular"),  # held for 30 days
        ("210d1ms", "downgrade_scheduled", "regular"),
        ("239d1ms", "downgrade", "occasional"),
    ]


def test_at_the_end_of_the_grace_more_than_one_step_may_be_lost(fold: Fold) -> None:
    for number in range(9):
        fold.apply(purchase("ada", "25", on=DAY_0 + 15 * number * DAY))
        if number < 7:
            fold.apply(refund("ada", "25", on=DAY_0 + 15 * number * DAY, of=DAY_0 + 15 * number * DAY))
    assert fold.customers["ada"].standing.tier == "devoted"
    fold.apply(purchase("ada", "0", on=DAY_0 + 121 * DAY))
    for number in range(8):
        fold.apply(refund("ada", "0", on=DAY_0 + 122 * DAY, of=DAY_0 + 15 * number * DAY, full=True))
    assert story(fold)[-1] == ("122d", "downgrade_scheduled", "devoted")
    fold.advance(DAY_0 + 200 * DAY)
    assert story(fold)[-1][1:] == ("downgrade", "occasional")


@pytest.mark.parametrize(
    ("recency_days", "orders", "spend_minor", "milli"),
    [
        (0, 9, 40_000, 5_000),
        (15, 9, 40_000, 5_000),
        (16, 9, 40_000, 4_600),
        (60, 2, 5_000, 800 + 800 + 400),
        (61, 1, 4_999, 1_000),
        (None, 0, 0, 1_000),
    ],
)
def test_the_rfm_score_is_the_weighted_sum_of_points(
    recency_days: int | None, orders: int, spend_minor: int, milli: int
) -> None:
    card = POLICY.ladder.score_card
    assert card is not None
    recency_ms = None if recency_days is None else recency_days * DAY
    assert card.score_milli(Measures(spend_minor, orders, 0, recency_ms, None)) == milli


@pytest.mark.parametrize(("min_score", "lost"), [("3.6", "130d1ms"), ("3.601", "115d1ms")])
def test_a_score_of_exactly_the_minimum_is_enough(min_score: str, lost: str) -> None:
    settings = shipped("subscription-like")
    settings["tiers"][2]["min_score"] = min_score
    fold = Fold(policy_of(policy_text(settings)))
    # Six orders for 54 dollars, the last on day 100: until 15 days after 5 x 0.4 + 4 x 0.4 + 2 x 0.2 = 4.0 points, until
    # 30 days 3.6, then 3.2.
    for number in range(6):
        fold.apply(purchase("ada", "9", on=DAY_0 + 20 * number * DAY))
    assert fold.customers["ada"].standing.tier == "devoted"
    fold.advance(DAY_0 + 131 * DAY)
    assert next(at for at, change, _ in story(fold) if change == "downgrade_scheduled") == lost
