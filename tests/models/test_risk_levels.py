"""Churn risk of single customers, worked out by hand from the formulas in docs/semantics.md."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from models import load
from tests.builders import DAY, complaint, feedback, ms, policy_text, purchase
from tests.running import Fold, policy_of

POLICY = load("annual-spend")
START_MS = ms("2024-01-01")
HORIZON = 90 / 7


@pytest.fixture
def fold() -> Fold:
    return Fold(POLICY)


def alerts(fold: Fold) -> list[dict[str, Any]]:
    return [json.loads(output.body) for output in fold.outputs if output.topic == "churn-risk"]


def term(body: dict[str, Any], name: str) -> float:
    return next(one["log_odds"] for one in body["contributions"] if one["term"] == name)


def of_purchases(x: int, t_x: float, age: float) -> float:
    """M(x, t_x, T) of the page, with the shipped parameters."""
    left = 0.891 / (1.614 + x) * ((6.183 + age) / (6.183 + t_x)) ** (0.525 + x)
    silent = ((6.183 + age) / (6.183 + age + HORIZON)) ** (0.525 + x)
    return math.log((left + silent) / (1 - silent))


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


# ---------------------------------------------------------------- silence
def test_silence_raises_the_level_at_the_millisecond_the_score_reaches_the_threshold(fold: Fold) -> None:
    for number in range(4):
        fold.apply(purchase("ada", "10", on=START_MS + 14 * number * DAY))
    fold.advance(START_MS + 400 * DAY)
    bodies = alerts(fold)
    assert [(body["change"], body["after"]["level"]) for body in bodies] == [
        ("raised", "watch"),
        ("escalated", "high"),
        ("escalated", "critical"),
    ]
    for body, threshold in zip(bodies, (0.80, 0.90, 0.97), strict=True):
        at_ms = ms(body["occurred_at"])

        def score(at_ms: int) -> float:
            return of_purchases(3, 6.0, (at_ms - START_MS) / (7 * DAY))

        assert score(at_ms - 1) < logit(threshold) <= score(at_ms)
        assert body["cause"] == "clock"
        assert body["after"]["probability"] == threshold
        assert body["main_cause"] == "silence"


def test_a_purchase_clears_the_alert(fold: Fold) -> None:
    for number in range(4):
        fold.apply(purchase("ada", "10", on=START_MS + 14 * number * DAY))
    step = fold.apply(purchase("ada", "10", on=START_MS + 200 * DAY, id="back"))
    assert [body["change"] for body in alerts(fold)][-1] == "cleared"
    body = alerts(fold)[-1]
    assert (body["cause"], body["after"]["level"], body["action"]) == ("back", "none", None)
    assert step.customer.standing.risk_level == "none"


def test_a_level_eases_only_below_a_lower_threshold_than_it_was_raised_at(fold: Fold) -> None:
    # One purchase: base 0.9084 log-odds. Watch is raised at 1.3863 and eases below 1.0986.
    fold.apply(purchase("ada", "10", on=START_MS))
    fold.apply(complaint("ada", on=START_MS, severity="medium"))  # 0.9084 + 0.5 = 1.4084
    assert [body["change"] for body in alerts(fold)] == ["raised"]
    fold.apply(feedback("ada", 80, on=START_MS))  # - 0.15 = 1.2584: not low enough
    assert [body["change"] for body in alerts(fold)] == ["raised"]
    fold.apply(feedback("ada", 95, on=START_MS))  # - 0.375 = 1.0334
    assert [body["change"] for body in alerts(fold)] == ["raised", "cleared"]


def test_a_customer_who_never_bought_is_never_at_risk(fold: Fold) -> None:
    fold.apply(complaint("ada", on=START_MS, severity="critical", status="escalated"))
    fold.advance(START_MS + 1000 * DAY)
    assert alerts(fold) == []


# ---------------------------------------------------------------- complaints
def test_what_complaints_add_to_the_score(fold: Fold) -> None:
    fold.apply(purchase("ada", "10", on=START_MS))
    fold.apply(purchase("ada", "10", on=START_MS + 7 * DAY))
    fold.apply(complaint("ada", "c1", on=START_MS + 7 * DAY, severity="high"))
    fold.apply(complaint("ada", "c2", on=START_MS + 7 * DAY, severity="critical"))
    protection = 1 + 0.25 * math.log(2)
    expected = (0.9 + 1.4 * 1.5) / protection
    body = alerts(fold)[-1]
    assert body["main_cause"] == "complaints"
    assert term(body, "complaints") == pytest.approx(expected, abs=1e-9)
    assert body["after"]["log_odds"] == pytest.approx(of_purchases(1, 1.0, 1.0) + expected, abs=1e-9)
    first, second = body["contributions"][3]["complaints"]
    assert (first["complaint_id"], first["repeated"], second["repeated"]) == ("c1", False, True)


@pytest.mark.parametrize(("days", "repeated"), [(60, True), (61, False)])
def test_a_complaint_is_repeated_if_opened_within_60_days_of_the_one_before(days: int, repeated: bool) -> None:
    policy = POLICY
    fold = Fold(policy)
    fold.apply(purchase("ada", "10", on=START_MS))
    fold.apply(complaint("ada", "c1", on=START_MS))
    customer = fold.apply(complaint("ada", "c2", on=START_MS + days * DAY)).customer
    found = policy.risk.complaints(customer.facts, customer.clock_ms)
    assert [one.repeated for one in found] == [False, repeated]


def test_a_complaint_halves_in_60_days_by_weekly_steps_and_ends_after_365_days(fold: Fold) -> None:
    fold.apply(purchase("ada", "10", on=START_MS))
    facts = fold.apply(complaint("ada", on=START_MS, severity="high")).customer.facts

    def adds(at_ms: int) -> float:
        return sum(one.log_odds for one in POLICY.risk.complaints(facts, at_ms))

    assert adds(START_MS) == 0.9
    assert adds(START_MS + 7 * DAY - 1) == 0.9
    assert adds(START_MS + 7 * DAY) == pytest.approx(0.9 * 2 ** (-7 / 60))
    assert adds(START_MS + 60 * DAY) == pytest.approx(0.9 * 2 ** (-56 / 60))
    assert adds(START_MS + 365 * DAY - 1) > 0
    assert adds(START_MS + 365 * DAY) == 0


def test_resolving_a_complaint_eases_it_and_reopening_makes_it_worse_than_new(fold: Fold) -> None:
    fold.apply(purchase("ada", "10", on=START_MS))
    scores = []
    for number, status in enumerate(["opened", "escalated", "resolved", "reopened"]):
        customer = fold.apply(complaint("ada", on=START_MS + number, status=status, severity="high")).customer
        scores.append(sum(one.log_odds for one in POLICY.risk.complaints(customer.facts, customer.clock_ms)))
    assert scores == pytest.approx([0.9, 0.9 * 1.4, 0.9 * 0.35, 0.9 * 1.4])


def test_the_severity_of_a_complaint_is_the_highest_of_its_steps(fold: Fold) -> None:
    fold.apply(purchase("ada", "10", on=START_MS))
    fold.apply(complaint("ada", on=START_MS, severity="critical"))
    customer = fold.apply(complaint("ada", on=START_MS + 1, severity="low", status="resolved")).customer
    (found,) = POLICY.risk.complaints(customer.facts, customer.clock_ms)
    assert found.log_odds == pytest.approx(1.4 * 0.35)


def test_the_alert_about_a_complaint_is_cleared_at_the_step_at_which_it_faded_enough() -> None:
    level = {"name": "watch", "raise_at": 0.90, "ease_below": 0.87}
    fold = Fold(policy_of(policy_text(risk={"levels": [level], "complaints": {"half_life": "7d"}})))
    fold.apply(purchase("ada", "10", on=START_MS))
    fold.apply(complaint("ada", on=START_MS, severity="critical"))
    assert of_purchases(0, 0.0, 0.0) + 1.4 >= logit(0.90)
    assert of_purchases(0, 0.0, 1.0) + 1.4 >= logit(0.87) > of_purchases(0, 0.0, 1.0) + 0.7
    fold.advance(START_MS + 7 * DAY - 1)
    assert [body["change"] for body in alerts(fold)] == ["raised"]
    fold.advance(START_MS + 7 * DAY)
    assert [(body["change"], body["cause"]) for body in alerts(fold)][1:] == [("cleared", "clock")]
    assert ms(alerts(fold)[1]["occurred_at"]) == START_MS + 7 * DAY


# ---------------------------------------------------------------- satisfaction, stakes, actions
@pytest.mark.parametrize(("score", "adds"), [(70, 0.0), (40, 0.45), (100, -0.45), (0, 1.05)])
def test_an_answer_moves_the_score_by_0_15_per_ten_points_from_70(score: int, adds: float) -> None:
    fold = Fold(POLICY)
    fold.apply(purchase("ada", "10", on=START_MS))
    facts = fold.apply(feedback("ada", score, on=START_MS)).customer.facts
    assert POLICY.risk.score(facts, START_MS).satisfaction == pytest.approx(adds)
    assert POLICY.risk.score(facts, START_MS + 365 * DAY - 1).satisfaction == pytest.approx(adds)
    assert POLICY.risk.score(facts, START_MS + 365 * DAY).satisfaction == 0


def test_the_value_at_stake_is_expected_purchases_times_mean_net_spend_an_order(fold: Fold) -> None:
    fold.apply(purchase("ada", "30", on=START_MS))
    fold.apply(purchase("ada", "10", on=START_MS + 14 * DAY))
    fold.advance(START_MS + 200 * DAY)
    body = alerts(fold)[0]
    age = (ms(body["occurred_at"]) - START_MS) / (7 * DAY)
    expected = POLICY.risk.mbg.expected_purchases_if_alive(1, age, HORIZON) * 20
    assert float(body["value_at_stake"]) == pytest.approx(expected, abs=0.005)


def test_the_first_row_of_the_table_that_matches_says_what_to_do_and_by_when(fold: Fold) -> None:
    fold.apply(purchase("ada", "250", on=START_MS))
    step = fold.apply(complaint("ada", on=START_MS, severity="critical"))
    (body,) = [body for body in step.bodies if "action" in body]
    assert body["tier"] == "gold"
    assert body["action"] == {
        "do": "Call from service: resolve the complaint first, then compensate",
        "do_zh": "客服致电：先解决投诉，再给予补偿",
        "before": "2024-01-02T00:00:00Z",
    }


def test_no_term_is_written_as_minus_zero(fold: Fold) -> None:
    for day in (0, 32):
        step = fold.apply(purchase("ada", "10", on=START_MS + day * DAY))
    assert "cleared" in step.changes
    zeros = [one["log_odds"] for one in alerts(fold)[-1]["contributions"] if one["log_odds"] == 0]
    assert zeros
    assert all(math.copysign(1, zero) == 1 for zero in zeros)


def test_the_same_step_of_a_complaint_under_two_event_ids_is_one(fold: Fold) -> None:
    fold.apply(complaint("ada", on=START_MS, id="one"))
    facts = fold.apply(complaint("ada", on=START_MS, id="two")).customer.facts
    assert len(facts.complaints) == 1
