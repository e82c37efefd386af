"""What a customer is worth, worked out by hand from docs/risk.md."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scipy.special import hyp2f1

from models import Policy, profile
from tests.builders import DAY, complaint, ms, policy_text, purchase
from tests.running import Fold, policy_of

START_MS = ms("2024-01-01")
R, ALPHA, A, B = 0.525, 6.183, 0.891, 1.614
YEAR_WEEKS = 365.25 / 7


def policy(**value: Any) -> Policy:
    risk = {"r": R, "alpha_weeks": ALPHA, "a": A, "b": B, "horizon": "90d"}
    tiers = [{"name": "silver", "min_spend": "50"}, {"name": "gold", "min_spend": "100"}]
    return policy_of(policy_text(window={"length": "365d"}, tiers=tiers, risk=risk, value=value))


def bought_twice(chosen: Policy) -> Fold:
    """30 and 60, four weeks apart; now at six weeks."""
    fold = Fold(chosen)
    fold.apply(purchase("ada", "30", on=START_MS))
    fold.apply(purchase("ada", "60", on=START_MS + 28 * DAY))
    return fold


def worth(fold: Fold, at_ms: int) -> tuple[float, float]:
    """At stake and over a lifetime, in minor units."""
    customer, chosen = fold.customers["ada"], fold.policy
    rank = chosen.ladder.rank_of(customer.standing.tier)
    return (
        chosen.value.at_stake_minor(chosen.risk, customer.facts, rank, at_ms),
        chosen.value.lifetime_minor(chosen.risk, customer.facts, rank, at_ms),
    )


def purchases_if_alive(age: float, horizon: float, x: int = 1) -> float:
    """Wagner and Hoppe (2008), as printed."""
    z = horizon / (ALPHA + age + horizon)
    rest = ((ALPHA + age) / (ALPHA + age + horizon)) ** (R + x)
    return (A + B + x) / (A - 1) * (1 - rest * hyp2f1(R + x, B + x + 1, A + B + x, z))


def p_alive(age: float, t_x: float = 4.0, x: int = 1) -> float:
    return 1 / (1 + A / (B + x) * ((ALPHA + age) / (ALPHA + t_x)) ** (R + x))


AT_MS = START_MS + 42 * DAY


def test_by_default_it_is_expected_purchases_of_the_risks_horizon_times_mean_spend() -> None:
    at_stake, lifetime = worth(bought_twice(policy()), AT_MS)
    expected = purchases_if_alive(6, 90 / 7) * 4500
    assert at_stake == pytest.approx(expected, abs=0.5)
    assert lifetime == pytest.approx(p_alive(6) * expected, abs=0.5)


def test_spend_is_drawn_towards_what_all_spend_where_the_policy_has_gamma_gamma() -> None:
    at_stake, _ = worth(bought_twice(policy(spend={"p": 6.25, "q": 3.74, "v": 15.44})), AT_MS)
    spend = 6.25 * (1544 + 2 * 4500) / (6.25 * 2 + 3.74 - 1)
    assert at_stake == pytest.approx(purchases_if_alive(6, 90 / 7) * spend, abs=0.5)


def test_margin_costs_and_discount_are_taken_off() -> None:
    chosen = policy(
        horizon="364d", margin=0.4, annual_discount=0.1, cost_to_serve={"silver": "3.00", "gold": "9.00"},
        complaint_cost={"low": "1.00", "high": "5.00"},
    )  # fmt: skip
    fold = bought_twice(chosen)
    assert fold.customers["ada"].standing.tier == "silver"
    fold.apply(complaint("ada", "c1", on=START_MS + 29 * DAY, severity="high"))
    fold.apply(complaint("ada", "c2", on=START_MS + 30 * DAY, severity="low"))
    fold.apply(complaint("ada", "c2", on=START_MS + 31 * DAY, severity="low", status="resolved"))
    earned = 0.0
    for quarter in range(4):
        more = purchases_if_alive(6, 13 * (quarter + 1)) - (purchases_if_alive(6, 13 * quarter) if quarter else 0)
        earned += more * 1.1 ** (-(13 * quarter + 6.5) / YEAR_WEEKS)
    if_they_stay = 0.4 * 4500 * earned - 300 * 52 / YEAR_WEEKS * 1.1 ** (-26 / YEAR_WEEKS)
    at_stake, lifetime = worth(fold, AT_MS)
    assert at_stake == pytest.approx(if_they_stay, abs=0.5)
    assert lifetime == pytest.approx(p_alive(6) * if_they_stay - 500, abs=0.5)


def test_a_years_benefit_is_the_margin_less_the_costs_of_tier_and_open_complaints() -> None:
    value = policy(margin=0.4, cost_to_serve={"gold": "9.00"}, complaint_cost={"low": "1.00", "high": "5.00"}).value
    base, gold = 0, 2
    assert value.yearly_cost_minor(gold) == 900
    assert value.yearly_benefit_minor(10_000, gold, [0, 2, 2]) == 4000 - 900 - 100 - 2 * 500
    assert value.yearly_benefit_minor(0, base, []) == 0


def test_a_customer_who_costs_more_than_they_earn_has_nothing_at_stake() -> None:
    fold = bought_twice(policy(cost_to_serve={"silver": "1000.00"}))
    at_stake, lifetime = worth(fold, AT_MS)
    assert at_stake == 0 > lifetime


def test_both_are_in_alerts_and_in_the_profile() -> None:
    fold = bought_twice(policy())
    fold.advance(START_MS + 300 * DAY)
    alert = next(json.loads(one.body) for one in fold.outputs if one.topic == "churn-risk")
    assert float(alert["value_at_stake"]) > float(alert["lifetime_value"]) > 0
    written = profile(fold.customers["ada"], "ada", fold.policy)
    assert written is not None
    risk = json.loads(written)["risk"]
    assert float(risk["value_at_stake"]) > float(risk["lifetime_value"]) > 0
