"""Fits all parameters to a history: the purchase process, the score card to outcomes, its calibration to later
outcomes, spend.

No step uses what happened after its own instant. With several horizons in the log the card is fitted to the outcomes of
all but the latest, and calibrated and judged on the latest; MBG/NBD is fitted to what was known at the last of the
instants whose outcomes the card is fitted to. A log with only one horizon of outcomes is split by customers instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.special import expit

from models import parameters, units
from models.bodies import SEVERITIES, STATUSES
from models.fitting import metrics
from models.fitting.history import Flags, Floats, History, Snapshot
from models.fitting.maximum_likelihood import FitError
from models.fitting.purchase_process import Fit, fit_purchase_process
from models.fitting.score_card import TERMS, Design, Weights, design, fit_card, fit_logistic
from models.fitting.spend import SpendFit, fit_spend
from models.mbg_nbd import MbgNbd
from models.policy import Policy
from models.risk import RiskModel
from models.units import format_duration, format_time

SHORTEST_PAST_MS: Final = 28 * units.DAY_MS
MOST_ORIGINS: Final = 4
FOLDS: Final = 5
FEWEST_OUTCOMES: Final = 50
"""The least number of customers who churned, and of customers who did not."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Origins:
    """The instants whose outcomes are used: earlier ones to fit to, the latest to calibrate and judge on."""

    fit_ms: tuple[int, ...]
    """Earliest first; empty if the log has only one horizon of outcomes."""
    judge_ms: int


@dataclass(frozen=True)
class RiskFit:
    """A risk model fitted to outcomes, and its predictions for outcomes that it was not fitted to."""

    risk: RiskModel
    purchases: Fit
    weights: Weights
    origins: Origins
    churned: Flags
    """Which of the judged customers churned."""
    probability: Floats
    """Their predicted probabilities, from a model that was not fitted to their outcomes."""


def origins(begins_ms: int, ends_ms: int, horizon_ms: int) -> Origins:
    """Instants one horizon apart; the outcomes of the last end at `ends_ms`. Raises FitError if the log is too short."""
    past_ms = shortest_past_ms(horizon_ms)
    judge_ms = ends_ms - horizon_ms
    if judge_ms - begins_ms < past_ms:
        length, wanted = format_duration(ends_ms - begins_ms), format_duration(past_ms + horizon_ms)
        raise FitError(
            f"the log is {length} long; for a horizon of {format_duration(horizon_ms)} it takes {wanted}: "
            "give a longer log or a shorter --horizon"
        )
    return Origins(earlier_origins(begins_ms, judge_ms, horizon_ms), judge_ms)


def shortest_past_ms(horizon_ms: int) -> int:
    """How much of the log must come before the first instant whose outcomes are used."""
    return max(horizon_ms // 2, SHORTEST_PAST_MS)


def earlier_origins(begins_ms: int, at_ms: int, horizon_ms: int) -> tuple[int, ...]:
    """The latest instants, one horizon apart, whose outcomes are known at `at_ms`; earliest first."""
    earlier = range(at_ms - horizon_ms, begins_ms + shortest_past_ms(horizon_ms) - 1, -horizon_ms)
    return tuple(reversed(earlier[:MOST_ORIGINS]))


def fit_risk(history: History, like: RiskModel, horizon_ms: int, at: Origins, say: Say) -> RiskFit:
    """A risk model fitted to a history. Raises FitError if there is too little data."""
    past = history.snapshot(at.fit_ms[-1] if at.fit_ms else at.judge_ms)
    say(f"MBG/NBD on {len(past):,} customers known at {format_time(past.at_ms)}")
    purchases = fit_purchase_process(past.x, past.t_x_weeks, past.age_weeks, "mbg-nbd")
    mbg = MbgNbd(*(_short(value) for value in purchases.parameters))
    base = with_typical_spend(like, mbg, past, horizon_ms)

    judged = history.snapshot(at.judge_ms)
    churned = ~history.buys_within(judged, horizon_ms)
    check_outcomes(churned)
    judged_design = design(judged, base)
    if at.fit_ms:
        say(f"score card on the outcomes after {', '.join(format_time(one)[:10] for one in at.fit_ms)}")
        designs, outcomes = [], []
        for at_ms in at.fit_ms:
            snapshot = history.snapshot(at_ms)
            designs.append(design(snapshot, base))
            outcomes.append(~history.buys_within(snapshot, horizon_ms))
        raw = fit_card(designs, outcomes, base)
        say(f"calibration on the outcomes after {format_time(at.judge_ms)[:10]}")
        weights = raw.calibrated(judged_design, churned)
        probability = _cross_calibrated(judged_design.log_odds(raw), churned)
    else:
        say("score card, tested by customers: the log has one horizon of outcomes only")
        weights = fit_card([judged_design], [churned], base)
        probability = _cross_validated(judged_design, churned, base)
    weights = _rounded(weights)
    return RiskFit(weights.risk(base), purchases, weights, at, churned, probability)


def with_typical_spend(like: RiskModel, mbg: MbgNbd, past: Snapshot, horizon_ms: int) -> RiskModel:
    """A risk model with this MBG/NBD and horizon, and the typical spend of a snapshot."""
    spends = past.mean_minor()
    spends = spends[spends > 0]
    typical_minor = max(round(float(np.median(spends))), 1) if len(spends) else 1
    return replace(like, mbg=mbg, horizon_ms=horizon_ms, card=replace(like.card, typical_minor=typical_minor))


def fit(history: History, policy: Policy, horizon_ms: int, log: Sequence[str], say: Say) -> parameters.Parameters:
    """All parameters that a policy can take from a log. Raises FitError if there is too little data."""
    found = fit_risk(history, policy.risk, horizon_ms, origins(history.begins_ms, history.ends_ms, horizon_ms), say)
    spend = _spend(history, policy, say)
    weights, purchases, churned = found.weights, found.purchases, found.churned
    kept = [*weights.kept_defaults, *(["spend"] if spend is None else [])]
    mbg = found.risk.mbg
    return parameters.Parameters(
        form=parameters.FORM,
        fit=parameters.About(
            log=list(log),
            events=history.events,
            customers=len(history.customers),
            begins=format_time(history.begins_ms),
            ends=format_time(history.ends_ms),
            horizon=format_duration(horizon_ms),
            origins=[format_time(at_ms) for at_ms in found.origins.fit_ms or (found.origins.judge_ms,)],
            calibrated_at=format_time(found.origins.judge_ms),
            kept_defaults=kept,
        ),
        metrics=parameters.Metrics(
            customers=len(churned),
            churned=_short(float(churned.mean())),
            auc=_short(metrics.auc(found.probability, churned)),
            brier=_short(metrics.brier(found.probability, churned)),
            brier_of_base_rate=_short(float(churned.mean() * (1 - churned.mean()))),
        ),
        purchases=parameters.Purchases(
            r=mbg.r,
            alpha_weeks=mbg.alpha,
            a=mbg.a,
            b=mbg.b,
            log_likelihood=round(purchases.log_likelihood, 3),
            standard_errors=[_short(value) for value in purchases.standard_errors],
        ),
        card=parameters.CardTable(
            **dict(zip(TERMS, weights.card.tolist(), strict=True)),
            typical_spend=units.format_minor(found.risk.card.typical_minor, policy.decimals),
        ),
        spend=spend,
        complaints=None if "complaints" in kept else _complaints(weights),
        satisfaction=None if "satisfaction" in kept else parameters.Satisfaction(per_ten_points=weights.per_ten_points),
    )


def _spend(history: History, policy: Policy, say: Say) -> parameters.Spend | None:
    now = history.snapshot(history.ends_ms)
    mean = now.mean_minor()
    spent = mean > 0
    say(f"Gamma-Gamma on {int(spent.sum()):,} customers")
    try:
        found: SpendFit = fit_spend(now.x[spent] + 1, mean[spent])
    except FitError as error:
        say(f"no Gamma-Gamma: {error}")
        return None
    unit = 10**policy.decimals
    p, q, v = found.parameters.p, found.parameters.q, found.parameters.v
    errors = found.standard_errors
    return parameters.Spend(
        currency=policy.currency,
        p=_short(p),
        q=_short(q),
        v=_short(v / unit),
        log_likelihood=round(found.log_likelihood + found.customers * float(np.log(unit)), 3),
        standard_errors=[_short(errors.p), _short(errors.q), _short(errors.v / unit)],
    )


def _complaints(weights: Weights) -> parameters.Complaints:
    return parameters.Complaints(
        severity=dict(zip(SEVERITIES, weights.severity.tolist(), strict=True)),
        status=dict(zip(STATUSES, weights.status.tolist(), strict=True)),
    )


def check_outcomes(churned: Flags) -> None:
    """Raises FitError if too few customers churned, or too few did not."""
    lost, kept = int(churned.sum()), int((~churned).sum())
    if min(lost, kept) < FEWEST_OUTCOMES:
        raise FitError(
            f"within the horizon {kept} customers bought again and {lost} did not; a score card takes at least "
            f"{FEWEST_OUTCOMES} of either: give a log with more customers, or another --horizon"
        )


def folds(count: int) -> list[Flags]:
    """The customers that each fold of a cross-validation tests; the same for the same number of customers."""
    fold = np.random.default_rng(count).integers(0, FOLDS, count)
    return [fold == number for number in range(FOLDS)]


def _cross_validated(of_all: Design, churned: Flags, like: RiskModel) -> Floats:
    """Each customer's probability, by a card fitted to the customers in other folds."""
    probability = np.zeros(len(churned))
    for tested in folds(len(churned)):
        weights = fit_card([of_all.of(~tested)], [churned[~tested]], like)
        probability[tested] = expit(of_all.of(tested).log_odds(weights))
    return probability


def _cross_calibrated(log_odds: Floats, churned: Flags) -> Floats:
    """Each customer's probability, calibrated on the customers in other folds."""
    probability = np.zeros(len(churned))
    for tested in folds(len(churned)):
        intercept, slope = fit_logistic(log_odds[~tested], churned[~tested])
        probability[tested] = expit(intercept + slope * log_odds[tested])
    return probability


def _rounded(weights: Weights) -> Weights:
    return replace(
        weights,
        card=np.array([_short(value) for value in weights.card]),
        severity=np.array([_short(value) for value in weights.severity]),
        status=np.array([_short(value) for value in weights.status]),
        per_ten_points=_short(weights.per_ten_points),
    )


def _short(value: float) -> float:
    """Rounded to six significant digits, so that the file shows exactly the values that are used."""
    return float(f"{value:.6g}") + 0.0
