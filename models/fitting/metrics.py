"""Measures of how good predicted risks are, given outcomes that they were not fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from models.fitting.history import Flags, Floats


def auc(risk: Floats, churned: Flags) -> float:
    """Area under the ROC curve: how often a churned customer had a higher risk than one who stayed; ties count half.

    >>> auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.75
    """
    lost, kept = int(churned.sum()), int((~churned).sum())
    if not lost or not kept:
        return float("nan")
    return float((rankdata(risk)[churned].sum() - lost * (lost + 1) / 2) / (lost * kept))


def brier(probability: Floats, churned: Flags) -> float:
    """Brier score: the mean square of probability minus outcome.

    >>> brier(np.array([0.5, 1.0]), np.array([False, True]))
    0.125
    """
    return float(np.mean((probability - churned) ** 2))


def lift(risk: Floats, churned: Flags, share: float) -> float:
    """How much more often the `share` of customers with the highest risks churns than all do. Ties at the edge count in
    part.

    >>> lift(np.array([0.9, 0.8, 0.1, 0.1]), np.array([True, False, False, False]), 0.25)
    4.0
    """
    wanted = share * len(risk)
    edge = np.sort(risk)[len(risk) - max(int(np.ceil(wanted)), 1)]
    above, at_edge = risk > edge, risk == edge
    found = churned[above].sum() + (wanted - above.sum()) * churned[at_edge].mean()
    return float(found / wanted / churned.mean()) if churned.any() else float("nan")


@dataclass(frozen=True)
class Decile:
    """Customers of similar risk: their number, mean predicted probability, and the share that churned."""

    customers: int
    predicted: float
    churned: float


def deciles(probability: Floats, churned: Flags) -> list[Decile]:
    """Ten groups of about equal size, from the lowest probability up; equal probabilities stay together."""
    edges = np.quantile(probability, np.linspace(0, 1, 11)[1:-1])
    group = np.searchsorted(edges, probability, side="left")
    found = []
    for number in np.unique(group):
        those = group == number
        found.append(Decile(int(those.sum()), float(probability[those].mean()), float(churned[those].mean())))
    return found
