"""The score card: a logistic regression on a few terms that people can read, with constrained signs.

    ln(risk / (1 - risk)) = intercept + model * M + silence * ln(1 + silence / horizon) + frequency * ln(1 + x)
                          + spend * ln(1 + mean / typical) + basket_trend * ln((typical + last) / (typical + mean))
                          + complaints + satisfaction

M is MBG/NBD's log-odds of no purchase within the horizon. The risk never falls with silence or with a complaint, and
never rises with purchases: such weights are bounded at zero. A severer complaint never counts less than a milder one,
an escalated one never less than an opened one, and an opened one never less than a resolved one. The weights of
complaints and satisfaction have a prior around the policy's documented defaults, and stay there if the log has too
little data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy import optimize, special

from models.bodies import SEVERITIES, STATUSES
from models.fitting.history import Flags, Floats, Ints, Snapshot
from models.mbg_nbd import MbgNbd
from models.risk import Card, RiskModel

TERMS: Final = ("intercept", "model", "silence", "frequency", "spend", "basket_trend")
LEAST_MODEL_WEIGHT: Final = 0.01
"""A lower bound, so that the score rises with silence whatever the data are."""
OPENED: Final = STATUSES.index("opened")
FEWEST_ROWS: Final = 30
"""The least number of customers with a complaint, or with an answer, to fit their weights."""
CARD_SPREAD: Final = 10.0
"""Standard deviation of the prior on the weight of a standardised term: a very weak prior."""


@dataclass(frozen=True)
class Design:
    """The terms of all customers of a snapshot."""

    terms: Floats
    """A row per customer, a column for each of TERMS."""
    complaining: Ints
    """The rows of the customers with complaints that count."""
    complaints: Floats
    """Of each of them, by severity and status: how much of such complaints, faded and protected (docs/semantics.md)."""
    answering: Ints
    """Rows of the customers with a satisfaction that counts."""
    tens_below_neutral: Floats

    def of(self, chosen: Flags) -> Design:
        """The terms of the chosen customers."""
        row = np.cumsum(chosen) - 1
        complaining, answering = chosen[self.complaining], chosen[self.answering]
        return Design(
            self.terms[chosen],
            row[self.complaining[complaining]],
            self.complaints[complaining],
            row[self.answering[answering]],
            self.tens_below_neutral[answering],
        )

    def log_odds(self, weights: Weights) -> Floats:
        """The score of every customer."""
        found = self.terms @ weights.card
        found[self.complaining] += np.einsum("nij,i,j->n", self.complaints, weights.severity, weights.status)
        found[self.answering] += self.tens_below_neutral * weights.per_ten_points
        return found


@dataclass(frozen=True)
class Weights:
    """The weights of a score card."""

    card: Floats
    """One for each of TERMS."""
    severity: Floats
    status: Floats
    per_ten_points: float
    kept_defaults: tuple[str, ...] = ()
    """Those of "complaints" and "satisfaction" for which the log has too little data."""

    @classmethod
    def of(cls, risk: RiskModel) -> Weights:
        """The weights of a risk model."""
        card, rule = risk.card, risk.complaint_risk
        return cls(
            np.array([getattr(card, name) for name in TERMS]),
            np.array(rule.severity),
            np.array(rule.status),
            10 * risk.satisfaction_per_point,
        )

    def risk(self, like: RiskModel) -> RiskModel:
        """A risk model with these weights instead of its own."""
        rule = replace(like.complaint_risk, severity=tuple(self.severity.tolist()), status=tuple(self.status.tolist()))
        card = Card(**dict(zip(TERMS, self.card.tolist(), strict=True)), typical_minor=like.card.typical_minor)
        return replace(like, complaint_risk=rule, satisfaction_per_point=self.per_ten_points / 10, card=card)

    def calibrated(self, design: Design, churned: Flags) -> Weights:
        """The weights recalibrated to other outcomes by slope and intercept; defaults that were kept are not changed."""
        rest = replace(
            self,
            card=np.zeros(len(TERMS)),
            severity=self.severity * ("complaints" in self.kept_defaults),
            per_ten_points=self.per_ten_points * ("satisfaction" in self.kept_defaults),
        )
        kept = design.log_odds(rest)
        intercept, slope = fit_logistic(design.log_odds(self) - kept, churned, kept)
        card = self.card * slope
        card[0] += intercept
        return replace(
            self,
            card=card,
            severity=self.severity * (1.0 if "complaints" in self.kept_defaults else slope),
            per_ten_points=self.per_ten_points * (1.0 if "satisfaction" in self.kept_defaults else slope),
        )


def design(snapshot: Snapshot, risk: RiskModel) -> Design:
    """The terms of all customers of a snapshot, with the MBG/NBD, horizon, fading and typical spend of a risk model."""
    horizon, typical = risk.horizon_weeks, risk.card.typical_minor
    mean = snapshot.mean_minor()
    terms = np.column_stack(
        (
            np.ones(len(snapshot)),
            log_odds_no_purchase(risk.mbg, snapshot, horizon),
            np.log1p(snapshot.silence_weeks / horizon),
            np.log1p(snapshot.x),
            np.log1p(mean / typical),
            np.where(snapshot.last_day_minor > 0, np.log((typical + snapshot.last_day_minor) / (typical + mean)), 0.0),
        )
    )
    # The fold's own function, with all weights at one, gives how much of each complaint counts.
    ones = replace(risk.complaint_risk, severity=(1.0,) * len(SEVERITIES), status=(1.0,) * len(STATUSES))
    unit = replace(risk, complaint_risk=ones, satisfaction_per_point=0.1)
    complaining, complaints, answering, tens = [], [], [], []
    for row, facts in snapshot.others.items():
        found = unit.complaints(facts, snapshot.at_ms)
        if found:
            table = np.zeros((len(SEVERITIES), len(STATUSES)))
            for one in found:
                table[one.severity, one.status] += one.log_odds
            complaining.append(row)
            complaints.append(table)
        answer = facts.satisfaction
        if answer is not None and snapshot.at_ms < answer.at_ms + risk.satisfaction_valid_for_ms:
            answering.append(row)
            tens.append((risk.satisfaction_neutral - answer.score) / 10)
    return Design(
        terms,
        np.array(complaining, np.int64),
        np.array(complaints).reshape(-1, len(SEVERITIES), len(STATUSES)),
        np.array(answering, np.int64),
        np.array(tens),
    )


def log_odds_no_purchase(mbg: MbgNbd, snapshot: Snapshot, horizon_weeks: float) -> Floats:
    """`MbgNbd.log_odds_no_purchase` of all customers of a snapshot."""
    n, log_age = mbg.r + snapshot.x, np.log(mbg.alpha + snapshot.age_weeks)
    log_left = np.log(mbg.a / (mbg.b + snapshot.x)) + n * (log_age - np.log(mbg.alpha + snapshot.t_x_weeks))
    log_q = n * (log_age - np.log(mbg.alpha + snapshot.age_weeks + horizon_weeks))
    found: Floats = np.logaddexp(log_left, log_q) - np.log(-np.expm1(log_q))
    return found


def fit_card(designs: Sequence[Design], churned: Sequence[Flags], like: RiskModel) -> Weights:
    """The weights of maximum likelihood, with the prior that the module's docstring describes."""
    together = _together(designs)
    outcome = np.concatenate(churned)
    defaults = Weights.of(like)
    learns = {
        "complaints": len(together.complaining) >= FEWEST_ROWS,
        "satisfaction": len(together.answering) >= FEWEST_ROWS,
    }
    scale = together.terms.std(axis=0)
    scale[scale == 0] = 1.0
    scaled = replace(together, terms=together.terms / scale)
    # Severities are fitted as steps from one to the next, none of them negative.
    steps = np.maximum(np.diff(defaults.severity, prepend=0.0), 0.0)
    middle = np.concatenate(([0.0, scale[1], 0, 0, 0, 0], steps, defaults.status, [defaults.per_ten_points]))
    spread = np.concatenate(
        (
            np.full(len(TERMS), CARD_SPREAD),
            np.maximum(steps, 0.1) if learns["complaints"] else np.zeros(len(SEVERITIES)),
            np.maximum(defaults.status, 0.1) / 2 if learns["complaints"] else np.zeros(len(STATUSES)),
            [max(defaults.per_ten_points, 0.05) if learns["satisfaction"] else 0.0],
        )
    )
    opened = float(defaults.status[OPENED])
    spread[len(TERMS) + len(SEVERITIES) + OPENED] = 0.0  # an opened complaint is the unit of the other statuses
    free = spread > 0
    bounds = [
        (None, None), (LEAST_MODEL_WEIGHT * scale[1], None), (0, None), (None, 0), (None, 0), (None, 0),
        *[(0, None)] * len(SEVERITIES), *((0, opened) if name == "resolved" else (opened, None) for name in STATUSES), (0, None),
    ]  # fmt: skip

    def loss(found: Floats) -> tuple[float, Floats]:
        theta = middle.copy()
        theta[free] = found
        weights = _weights(theta)
        log_odds = scaled.log_odds(weights)
        error = special.expit(log_odds) - outcome
        of_complaining, of_answering = error[scaled.complaining], error[scaled.answering]
        gradient = np.concatenate(
            (
                scaled.terms.T @ error,
                np.einsum("n,nij,j->i", of_complaining, scaled.complaints, weights.status)[::-1].cumsum()[::-1],
                np.einsum("n,nij,i->j", of_complaining, scaled.complaints, weights.severity),
                [scaled.tens_below_neutral @ of_answering],
            )
        )
        off = (theta - middle)[free] / spread[free]
        likelihood = float(np.logaddexp(0, log_odds).sum() - log_odds[outcome].sum())
        return (likelihood + float(off @ off) / 2) / len(outcome), (gradient[free] + off / spread[free]) / len(outcome)

    result = optimize.minimize(
        loss,
        middle[free],
        jac=True,
        method="L-BFGS-B",
        bounds=[bound for bound, is_free in zip(bounds, free, strict=True) if is_free],
        options={"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-8},
    )
    theta = middle.copy()
    theta[free] = result.x
    theta[: len(TERMS)] /= scale
    kept = tuple(name for name, has_learned in learns.items() if not has_learned)
    return replace(_weights(theta), kept_defaults=kept)


def fit_logistic(score: Floats, outcome: Flags, offset: Floats | float = 0.0) -> tuple[float, float]:
    """Intercept and slope (at least 0) such that `intercept + slope * score + offset` are the outcomes' log-odds (Platt
    1999).
    """
    middle, width = score.mean(), score.std() or 1.0
    scaled = (score - middle) / width

    def loss(found: Floats) -> tuple[float, Floats]:
        log_odds = found[0] + found[1] * scaled + offset
        error = special.expit(log_odds) - outcome
        # A weak prior: where the score separates the outcomes perfectly, the likelihood alone has no maximum.
        likelihood = float(np.logaddexp(0, log_odds).sum() - log_odds[outcome].sum() + 1e-3 * found @ found / 2)
        return likelihood / len(score), (np.array([error.sum(), error @ scaled]) + 1e-3 * found) / len(score)

    result = optimize.minimize(
        loss, np.array([0.0, 1.0]), jac=True, method="L-BFGS-B", bounds=[(None, None), (0, None)]
    )
    intercept, slope = result.x
    return float(intercept - slope * middle / width), float(slope / width)


def _weights(theta: Floats) -> Weights:
    card, rest = theta[: len(TERMS)], theta[len(TERMS) :]
    return Weights(card, rest[: len(SEVERITIES)].cumsum(), rest[len(SEVERITIES) : -1], float(rest[-1]))


def _together(designs: Sequence[Design]) -> Design:
    starts = np.cumsum([0, *(len(one.terms) for one in designs[:-1])])
    return Design(
        np.concatenate([one.terms for one in designs]),
        np.concatenate([one.complaining + start for one, start in zip(designs, starts, strict=True)]),
        np.concatenate([one.complaints for one in designs]),
        np.concatenate([one.answering + start for one, start in zip(designs, starts, strict=True)]),
        np.concatenate([one.tens_below_neutral for one in designs]),
    )
