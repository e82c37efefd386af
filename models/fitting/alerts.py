"""A policy's alerts as a retention team would have seen them: how many, how many were right, how many losses they
caught, how early.

A customer is *lost* at the end of a horizon without a purchase. A loss is *caught* if an alert was open, or was raised,
before that. An alert is *right* if the customer bought nothing within the horizon after it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models import units
from models.fitting.history import History


@dataclass(frozen=True)
class CustomerAnnouncements:
    """What a policy announced about one customer over a whole log."""

    alerts_ms: tuple[int, ...]
    """The instants at which an alert was raised or escalated."""
    open_ms: tuple[tuple[int, int], ...]
    """The spans, from and to, during which an alert was open."""
    tier_changes: int
    risk_changes: int


@dataclass(frozen=True)
class TeamMeasures:
    """The measures of one policy, over the part of a log whose outcomes are known."""

    alerts: int
    alerts_per_week: float
    alerts_by_week: tuple[tuple[int, int], ...]
    """The beginning of each week, and its number of alerts."""
    precision: float
    losses: int
    caught: float
    """The share of losses that an alert preceded."""
    value_caught: float
    """The same share, weighted by what the customers spent within the horizon before their last purchase."""
    lead_days: tuple[float, float, float]
    """The quartiles of the time between alert and loss, of the losses that were caught."""


def team_measures(
    history: History, announced: Mapping[str, CustomerAnnouncements], begins_ms: int, horizon_ms: int
) -> TeamMeasures:
    """The measures from `begins_ms` until one horizon before the log's end."""
    ends_ms = history.ends_ms - horizon_ms
    bought = _purchases_by_customer(history)
    alerts = [
        (name, at_ms)
        for name, found in announced.items()
        for at_ms in found.alerts_ms
        if begins_ms <= at_ms <= ends_ms and name in bought
    ]
    right = sum(not _buys(bought[name][0], at_ms, horizon_ms) for name, at_ms in alerts)
    losses = value = caught = value_caught = 0
    lead_ms: list[int] = []
    nothing = CustomerAnnouncements((), (), 0, 0)
    for name, (times, minor) in bought.items():
        spans = announced.get(name, nothing).open_ms
        for last, following in pairwise([*range(len(times)), None]):
            assert last is not None
            at_ms = times[last]
            lost_ms = at_ms + horizon_ms
            if at_ms < begins_ms or at_ms > ends_ms or (following is not None and times[following] <= lost_ms):
                continue
            spent = sum(minor[bisect_right(times, at_ms - horizon_ms) : last + 1])
            losses, value = losses + 1, value + spent
            opened_ms = _opened_by(spans, at_ms, lost_ms)
            if opened_ms is not None:
                caught, value_caught = caught + 1, value_caught + spent
                lead_ms.append(lost_ms - max(opened_ms, at_ms))
    weeks = max((ends_ms - begins_ms) / units.WEEK_MS, 1e-9)
    by_week = np.bincount(
        [(at_ms - begins_ms) // units.WEEK_MS for _, at_ms in alerts], minlength=max(int(weeks), 1)
    ).tolist()
    quartiles = np.percentile(lead_ms, [25, 50, 75]) / units.DAY_MS if lead_ms else np.full(3, np.nan)
    return TeamMeasures(
        len(alerts),
        len(alerts) / weeks,
        tuple((begins_ms + week * units.WEEK_MS, count) for week, count in enumerate(by_week)),
        right / len(alerts) if alerts else float("nan"),
        losses,
        caught / losses if losses else float("nan"),
        value_caught / value if value else float("nan"),
        (float(quartiles[0]), float(quartiles[1]), float(quartiles[2])),
    )


def changes_per_customer(announced: Iterable[CustomerAnnouncements], customers: int) -> tuple[float, float]:
    """Tier changes and risk changes per customer, over the whole log."""
    found = list(announced)
    return sum(one.tier_changes for one in found) / customers, sum(one.risk_changes for one in found) / customers


def _purchases_by_customer(history: History) -> dict[str, tuple[list[int], list[int]]]:
    """Per customer, when they bought and for how much."""
    starts = np.unique(history.bought_by, return_index=True)
    edges = [*starts[1].tolist(), len(history.bought_by)]
    times, minor = history.bought_ms.tolist(), history.bought_minor.tolist()
    return {
        history.customers[who]: (times[begin:end], minor[begin:end])
        for who, (begin, end) in zip(starts[0].tolist(), pairwise(edges), strict=True)
    }


def _buys(times: list[int], at_ms: int, horizon_ms: int) -> bool:
    following = bisect_right(times, at_ms)
    return following < len(times) and times[following] <= at_ms + horizon_ms


def _opened_by(spans: Iterable[tuple[int, int]], from_ms: int, lost_ms: int) -> int | None:
    """When the first alert opened that was open between a last purchase and the loss; None if there was none."""
    return next((opened_ms for opened_ms, closed_ms in spans if opened_ms < lost_ms and closed_ms > from_ms), None)
