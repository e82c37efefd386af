"""The score card finds the known weights of made-up customers, and never has a weight of the wrong sign."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from models import load
from models.fitting.score_card import TERMS, Design, Weights, fit_card, fit_logistic
from models.risk import RiskModel

RISK = load("annual-spend").risk
DEFAULTS = Weights.of(RISK)


def customers(count: int, seed: int, complaining: float = 0.3, answering: float = 0.4) -> Design:
    """Terms such as customers have: the model's log-odds and silence go together."""
    random = np.random.default_rng(seed)
    silence = random.gamma(2, 0.5, count)
    x = random.poisson(2, count)
    terms = np.column_stack(
        (
            np.ones(count),
            random.normal(0.5, 1, count) + silence - 0.4 * np.log1p(x),
            np.log1p(silence),
            np.log1p(x),
            np.abs(random.normal(0.7, 0.3, count)),
            random.normal(0, 0.3, count),
        )
    )
    rows = np.flatnonzero(random.random(count) < complaining)
    tables = np.zeros((len(rows), 4, 4))
    tables[np.arange(len(rows)), random.integers(0, 4, len(rows)), random.integers(0, 4, len(rows))] = random.uniform(
        0.3, 1, len(rows)
    )
    answered = np.flatnonzero(random.random(count) < answering)
    return Design(terms, rows, tables, answered, random.integers(-3, 7, len(answered)).astype(float))


def outcomes(design: Design, weights: Weights, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(len(design.terms)) < expit(design.log_odds(weights))


TRUE = replace(
    DEFAULTS,
    card=np.array([-0.3, 0.6, 0.8, -0.7, -0.4, -0.5]),
    severity=np.array([0.4, 0.9, 1.5, 2.2]),
    status=np.array([1.0, 1.5, 0.6, 1.2]),
    per_ten_points=0.3,
)


def test_it_finds_the_weights_that_made_the_outcomes() -> None:
    design = customers(60_000, 1)
    found = fit_card([design], [outcomes(design, TRUE, 2)], RISK)
    assert found.card == pytest.approx(TRUE.card, abs=0.08)
    assert found.severity == pytest.approx(TRUE.severity, abs=0.25)
    assert found.status == pytest.approx(TRUE.status, abs=0.25)
    assert found.per_ten_points == pytest.approx(TRUE.per_ten_points, abs=0.03)
    assert found.kept_defaults == ()


def test_several_snapshots_are_one_large_one() -> None:
    design = customers(4000, 3)
    churned = outcomes(design, TRUE, 4)
    first = np.arange(4000) < 1500
    apart = fit_card([design.of(first), design.of(~first)], [churned[first], churned[~first]], RISK)
    together = fit_card([design], [churned], RISK)
    assert apart.card == pytest.approx(together.card, abs=1e-3)
    assert apart.severity == pytest.approx(together.severity, abs=1e-3)


def test_terms_of_which_the_log_says_nothing_keep_the_policys_defaults() -> None:
    design = customers(5000, 5, complaining=0.001, answering=0.0)
    found = fit_card([design], [outcomes(design, TRUE, 6)], RISK)
    assert found.kept_defaults == ("complaints", "satisfaction")
    assert found.severity == pytest.approx(DEFAULTS.severity)
    assert found.status == pytest.approx(DEFAULTS.status)
    assert found.per_ten_points == pytest.approx(DEFAULTS.per_ten_points)


def test_little_data_pulls_weights_only_a_little_from_the_defaults() -> None:
    design = customers(400, 7, complaining=0.1)
    found = fit_card([design], [outcomes(design, TRUE, 8)], RISK)
    assert np.abs(found.severity - DEFAULTS.severity).max() < 3 * DEFAULTS.severity.max()
    assert (found.severity >= 0).all()


def test_no_weight_has_the_wrong_sign_whatever_the_outcomes() -> None:
    design = customers(5000, 9)
    against = Weights(-TRUE.card, TRUE.severity[::-1], TRUE.status[[1, 2, 0, 2]], -TRUE.per_ten_points)
    found = fit_card([design], [outcomes(design, against, 10)], RISK)
    by_name = dict(zip(TERMS, found.card, strict=True))
    assert by_name["model"] > 0
    assert by_name["silence"] >= 0
    assert max(by_name["frequency"], by_name["spend"], by_name["basket_trend"]) <= 0
    assert min(*found.severity, *found.status, found.per_ten_points) >= 0
    assert (np.diff(found.severity) >= 0).all()
    opened, escalated, resolved, reopened = found.status
    assert 0 <= resolved <= opened <= min(escalated, reopened)


def test_calibration_matches_the_mean_outcome_and_keeps_order_and_defaults() -> None:
    design = customers(20_000, 11)
    churned = outcomes(design, TRUE, 12)
    wrong = replace(TRUE, card=TRUE.card * 2 + np.eye(6)[0], kept_defaults=("complaints", "satisfaction"))
    recalibrated = wrong.calibrated(design, churned)
    predicted = expit(design.log_odds(recalibrated))
    assert predicted.mean() == pytest.approx(churned.mean(), abs=0.005)
    assert recalibrated.card == pytest.approx(TRUE.card, abs=0.12)
    assert (recalibrated.severity == wrong.severity).all()
    assert recalibrated.per_ten_points == wrong.per_ten_points


def test_a_logistic_fit_never_slopes_down() -> None:
    score = np.linspace(-1, 1, 1000)
    assert fit_logistic(score, score < 0)[1] == 0
    assert fit_logistic(score, score > 0)[1] > 10


def test_a_risk_model_with_weights_has_these_weights() -> None:
    risk: RiskModel = TRUE.risk(RISK)
    again = Weights.of(risk)
    assert again.card == pytest.approx(TRUE.card)
    assert again.severity == pytest.approx(TRUE.severity)
    assert again.per_ten_points == pytest.approx(TRUE.per_ten_points)
