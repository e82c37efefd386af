"""A backtest: what models would have predicted at instants of the past, compared with what happened then.

At every origin a contender learns from what was known then, including the outcomes of earlier origins, and predicts for
every customer the probability of no purchase within the horizon. A log too short for an earlier origin is split by
customers instead: a customer's prediction is learned from the outcomes of others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.special import expit

from models import units
from models.fitting import metrics
from models.fitting.fit import (
    SHORTEST_PAST_MS,
    Say,
    check_outcomes,
    earlier_origins,
    folds,
    shortest_past_ms,
    with_typical_spend,
)
from models.fitting.history import Flags, Floats, History, Snapshot
from models.fitting.maximum_likelihood import FitError
from models.fitting.purchase_process import fit_purchase_process
from models.fitting.score_card import Weights, design, fit_card, fit_logistic, log_odds_no_purchase
from models.mbg_nbd import MbgNbd
from models.policy import Policy
from models.risk import RiskModel


@dataclass(frozen=True)
class Lesson:
    """Customers as they were known at an instant, and which of them then churned."""

    snapshot: Snapshot
    churned: Flags


Predictor = Callable[[Snapshot], Floats]
"""Predicts, for the customers of a snapshot, the probability of no purchase within the horizon."""


class Contender(Protocol):
    """A model in a backtest."""

    @property
    def name(self) -> str:
        """Its name in the report."""

    @property
    def is_baseline(self) -> bool:
        """Whether it is a rule of thumb that a model has to beat."""

    @property
    def fitted_until_ms(self) -> int:
        """The end of the log that it was fitted to before the backtest; -1 if it was not."""

    def learn(self, past: History, lessons: Sequence[Lesson], horizon_ms: int) -> Predictor:
        """A predictor learned from the past; `lessons` are of earlier origins, or of other customers."""


class LookAhead(AssertionError):
    """A contender's prediction depends on what happened later."""


@dataclass(frozen=True)
class Baseline:
    """A rule of thumb: customers ranked by one number, turned into probabilities by the outcomes of the lessons."""

    name: str
    rank: Callable[[Snapshot], Floats]
    is_baseline: bool = True
    fitted_until_ms: int = -1

    def learn(self, past: History, lessons: Sequence[Lesson], horizon_ms: int) -> Predictor:
        """Learns how often customers of a rank churned."""
        ranks = np.concatenate([self.rank(lesson.snapshot) for lesson in lessons])
        intercept, slope = fit_logistic(ranks, np.concatenate([lesson.churned for lesson in lessons]))
        return lambda snapshot: expit(intercept + slope * self.rank(snapshot))


def silence_by_rhythm(snapshot: Snapshot) -> Floats:
    """How many of their own usual gaps a customer has been silent; a customer who bought once gets the median gap of
    all.
    """
    again = snapshot.x > 0
    usual = float(np.median(snapshot.t_x_weeks[again] / snapshot.x[again])) if again.any() else 1.0
    gaps = np.where(again, snapshot.t_x_weeks / np.maximum(snapshot.x, 1), usual)
    return np.log1p(snapshot.silence_weeks / np.maximum(gaps, 1 / 7))


BASELINES = (
    Baseline("recency", lambda snapshot: np.log1p(snapshot.silence_weeks)),
    Baseline("own rhythm", silence_by_rhythm),
    Baseline("frequency", lambda snapshot: -np.log1p(snapshot.x)),
)
"""Longer silence; longer silence by the customer's own usual gap (Wuebben and von Wangenheim 2008); fewer purchases."""


@dataclass(frozen=True)
class PolicyAsItIs:
    """A policy's own risk model with its parameters, for the backtest's horizon."""

    policy: Policy
    is_baseline: bool = False

    @property
    def name(self) -> str:
        """The policy's reference."""
        return self.policy.ref

    @property
    def fitted_until_ms(self) -> int:
        """The end of the log that its parameters were fitted to, if the policy has it."""
        return self.policy.fitted_until_ms

    def learn(self, past: History, lessons: Sequence[Lesson], horizon_ms: int) -> Predictor:
        """Learns nothing: the policy's parameters are used as they are."""
        risk = replace(self.policy.risk, horizon_ms=horizon_ms)
        return lambda snapshot: expit(design(snapshot, risk).log_odds(Weights.of(risk)))


@dataclass(frozen=True)
class FittedModel:
    """MBG/NBD alone, fitted again at every origin."""

    name: str = "MBG/NBD, fitted"
    is_baseline: bool = False
    fitted_until_ms: int = -1

    def learn(self, past: History, lessons: Sequence[Lesson], horizon_ms: int) -> Predictor:
        """Fits the parameters to the past."""
        mbg, weeks = _fitted(past), horizon_ms / units.WEEK_MS
        return lambda snapshot: expit(log_odds_no_purchase(mbg, snapshot, weeks))


@dataclass(frozen=True)
class FittedCard:
    """The score card as `tierstream policy fit` makes it, fitted again at every origin; complaints and satisfaction count as
    in a policy.
    """

    like: RiskModel
    name: str = "score card, fitted"
    is_baseline: bool = False
    fitted_until_ms: int = -1

    def learn(self, past: History, lessons: Sequence[Lesson], horizon_ms: int) -> Predictor:
        """Fits MBG/NBD to what was known before the lessons, and the weights to the lessons; with several, calibrates
        on the latest.
        """
        first = past.known_at(lessons[0].snapshot.at_ms)
        risk = with_typical_spend(self.like, _fitted(first), first.snapshot(lessons[0].snapshot.at_ms), horizon_ms)
        designs = [design(lesson.snapshot, risk) for lesson in lessons]
        outcomes = [lesson.churned for lesson in lessons]
        if len(lessons) == 1:
            weights = fit_card(designs, outcomes, risk)
        else:
            weights = fit_card(designs[:-1], outcomes[:-1], risk).calibrated(designs[-1], outcomes[-1])
        return lambda snapshot: expit(design(snapshot, risk).log_odds(weights))


@dataclass(frozen=True)
class Forecast:
    """A contender's predictions at an origin, and the outcomes."""

    at_ms: int
    probability: Floats
    churned: Flags


@dataclass(frozen=True)
class Result:
    """A contender's predictions at all origins; its measures are means over the origins, weighted by their customers."""

    name: str
    is_baseline: bool
    fitted_until_ms: int
    forecasts: tuple[Forecast, ...]

    @property
    def is_out_of_sample(self) -> bool:
        """Whether it was fitted to none of the outcomes that it is judged by."""
        return self.fitted_until_ms <= self.forecasts[0].at_ms

    @property
    def auc(self) -> float:
        """Area under the ROC curve, computed per origin."""
        return self._mean(metrics.auc)

    @property
    def brier(self) -> float:
        """Brier score: the mean square of probability minus outcome."""
        return self._mean(metrics.brier)

    def lift(self, share: float) -> float:
        """How much more often the `share` of customers with the highest risks churns than all do."""
        return self._mean(lambda probability, churned: metrics.lift(probability, churned, share))

    @property
    def pooled(self) -> tuple[Floats, Flags]:
        """Probabilities and outcomes of all origins."""
        return (
            np.concatenate([one.probability for one in self.forecasts]),
            np.concatenate([one.churned for one in self.forecasts]),
        )

    def _mean(self, measure: Callable[[Floats, Flags], float]) -> float:
        found = [measure(one.probability, one.churned) for one in self.forecasts]
        return float(np.average(found, weights=[len(one.churned) for one in self.forecasts]))


@dataclass(frozen=True)
class Backtest:
    """All contenders at the same origins."""

    horizon_ms: int
    origins_ms: tuple[int, ...]
    is_by_customers: bool
    """Whether contenders learned from other customers' outcomes, because there are no earlier ones."""
    customers: int
    """The number of predictions: customers, summed over the origins."""
    churned: float
    """The share of them that churned."""
    results: tuple[Result, ...]

    @property
    def best_baseline(self) -> Result:
        """The rule of thumb with the highest AUC."""
        return max((one for one in self.results if one.is_baseline), key=lambda one: one.auc)

    @property
    def beaten(self) -> list[Result]:
        """The models whose AUC is no higher than that of the best rule of thumb."""
        return [one for one in self.results if not one.is_baseline and one.auc <= self.best_baseline.auc]


def origins(history: History, horizon_ms: int, every_ms: int) -> tuple[int, ...]:
    """The origins of a backtest: `every_ms` apart, the last one horizon before the log's end. Before the first one
    there is one horizon of outcomes to learn from. Raises FitError if the log is too short.
    """
    first_ms = history.begins_ms + shortest_past_ms(horizon_ms) + horizon_ms
    last_ms = history.ends_ms - horizon_ms
    if last_ms < first_ms:
        wanted = units.format_duration(first_ms - history.begins_ms + horizon_ms)
        raise FitError(
            f"the log is {units.format_duration(history.ends_ms - history.begins_ms)} long; to roll an origin through it "
            f"with a horizon of {units.format_duration(horizon_ms)} takes {wanted}: give a longer log, a shorter --horizon, "
            "or one --cut DATE, which is tested by customers"
        )
    return tuple(reversed(range(last_ms, first_ms - 1, -every_ms)))


def single_origin(history: History, horizon_ms: int, at_ms: int) -> tuple[int, ...]:
    """A single origin. Raises FitError if the log has too little before it, or less than a horizon after it."""
    first_ms, last_ms = history.begins_ms + SHORTEST_PAST_MS, history.ends_ms - horizon_ms
    if not first_ms <= at_ms <= last_ms:
        span = f"between {units.format_time(first_ms)[:10]} and {units.format_time(last_ms)[:10]}"
        raise FitError(
            f"with a horizon of {units.format_duration(horizon_ms)} this log can be cut {span}, not at "
            f"{units.format_time(at_ms)[:10]}"
            if first_ms <= last_ms
            else f"the log is too short for a horizon of {units.format_duration(horizon_ms)}: give a longer log or a shorter one"
        )
    return (at_ms,)


def backtest(
    history: History,
    contenders: Callable[[History], Sequence[Contender]],
    origins_ms: Sequence[int],
    horizon_ms: int,
    say: Say,
) -> Backtest:
    """Compare all contenders at all origins. Raises FitError, and LookAhead if a contender uses the future."""
    forecasts: dict[str, list[Forecast]] = {}
    models = contenders(history)
    is_by_customers = False
    for at_ms in origins_ms:
        say(f"origin {units.format_time(at_ms)[:10]}")
        snapshot = history.snapshot(at_ms)
        churned = ~history.buys_within(snapshot, horizon_ms)
        check_outcomes(churned)
        lessons = _lessons(history, at_ms, horizon_ms)
        if lessons:
            said = _predict(models, history, lessons, at_ms, horizon_ms)
            if at_ms == origins_ms[-1]:
                say("the same with another future: nobody may look ahead")
                another = history.with_another_future(at_ms)
                _check_same(said, _predict(contenders(another), another, lessons, at_ms, horizon_ms), at_ms)
        else:
            is_by_customers = True
            said = _predict_by_customers(models, history.known_at(at_ms), snapshot, churned, horizon_ms)
        for name, probability in said.items():
            forecasts.setdefault(name, []).append(Forecast(at_ms, probability, churned))
    results = tuple(
        Result(one.name, one.is_baseline, one.fitted_until_ms, tuple(forecasts[one.name])) for one in models
    )
    outcomes = np.concatenate([one.churned for one in results[0].forecasts])
    return Backtest(horizon_ms, tuple(origins_ms), is_by_customers, len(outcomes), float(outcomes.mean()), results)


def _predict(
    models: Sequence[Contender], history: History, lessons: Sequence[Lesson], at_ms: int, horizon_ms: int
) -> dict[str, Floats]:
    """Each contender's predictions for all customers at an origin, from what was known then."""
    past = history.known_at(at_ms)
    return {one.name: one.learn(past, lessons, horizon_ms)(past.snapshot(at_ms)) for one in models}


def _predict_by_customers(
    models: Sequence[Contender], past: History, snapshot: Snapshot, churned: Flags, horizon_ms: int
) -> dict[str, Floats]:
    """Each contender's predictions for every customer, learned from the outcomes of other customers."""
    said = {one.name: np.zeros(len(snapshot)) for one in models}
    for tested in folds(len(snapshot)):
        lesson = Lesson(snapshot.of(~tested), churned[~tested])
        for one in models:
            said[one.name][tested] = one.learn(past, [lesson], horizon_ms)(snapshot.of(tested))
    return said


def _lessons(history: History, at_ms: int, horizon_ms: int) -> list[Lesson]:
    """The outcomes of earlier origins that are known at `at_ms`, earliest first."""
    snapshots = [history.snapshot(one) for one in earlier_origins(history.begins_ms, at_ms, horizon_ms)]
    return [Lesson(one, ~history.buys_within(one, horizon_ms)) for one in snapshots]


def _check_same(said: dict[str, Floats], with_another_future: dict[str, Floats], at_ms: int) -> None:
    for name, probability in said.items():
        differ = int((probability != with_another_future[name]).sum())
        if differ:
            raise LookAhead(
                f"{name}: what it says at {units.format_time(at_ms)} of {differ} of {len(probability)} customers depends "
                "on what came later"
            )


def _fitted(past: History) -> MbgNbd:
    now = past.snapshot(past.ends_ms)
    found = fit_purchase_process(now.x, now.t_x_weeks, now.age_weeks, "mbg-nbd").parameters
    return MbgNbd(*found)
