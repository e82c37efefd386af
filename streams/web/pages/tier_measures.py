"""Measures of each tier's customers, estimated from a sample, so that the page takes no longer with ten million
customers.

A customer's figures are as of the latest change of their profile; only the spend of a year is as of now.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from models import units
from models.bodies import SEVERITIES
from models.policy import Policy
from models.profile import MOST_BUCKETS
from streams.view.customers import RedisView
from streams.view.policies_in_force import PoliciesInForce

SAMPLE: Final = 400
"""How many customers of a tier are drawn at most."""
YEAR_MS: Final = 365 * units.DAY_MS


class Figures(NamedTuple):
    """The figures of one customer; None where there is nothing to measure. Money in major units."""

    retention: float | None
    """Probability of a purchase within the risk's horizon."""
    churn: float | None
    """Probability of no purchase within the risk's horizon (docs/risk.md)."""
    alive: float | None
    """Probability of not having left for good."""
    repeat_rate: float | None
    """1 with purchases on more than one day, 0 with one."""
    satisfaction: float | None
    frequency: float
    """Orders in the window."""
    spend: float
    """Net spend in the window."""
    lifetime_value: float | None
    cost: float
    """The cost of serving the customer for a year."""
    benefit: float
    """The margin on a year's net spend, less the cost of serving and of open complaints."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Some of a tier's customers, drawn at random."""

    tier: str
    customers: int
    """How many customers the tier has."""
    levels: list[str] = field(default_factory=list)
    """The risk level of each drawn customer; `figures` are in the same order."""
    figures: list[Figures] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TierMeasures:
    """The measures of a tier, or of all tiers. All but `customers` are estimated from samples."""

    tier: str
    customers: int
    levels: dict[str, float] = field(default_factory=dict)
    """Shares of the risk levels that occur."""
    means: dict[str, float | None] = field(default_factory=dict)
    """Means by the names of Figures; None where no drawn customer has the figure."""


async def draw_sample(view: RedisView, policies: PoliciesInForce, tier: str, now_ms: int) -> Sample:
    """The figures of at most SAMPLE customers of a tier, each by the policy in force when the customer was judged."""
    key = f"{view.prefix}tier:{tier}"
    customers = int(await view.redis.zcard(key))
    drawn: list[bytes] = await view.redis.zrandmember(key, SAMPLE) if customers else []
    pipe = view.redis.pipeline(transaction=False)
    for one in drawn:
        pipe.hget(f"{view.prefix}customer:{one.decode()}", "profile")
    sample = Sample(tier, customers)
    for found in await pipe.execute():
        if found is not None:
            profile = orjson.loads(found)
            sample.levels.append(profile["risk"]["level"])
            sample.figures.append(figures_of(profile, policies.by_label(profile["policy"]), now_ms))
    return sample


def figures_of(profile: dict[str, Any], policy: Policy, now_ms: int) -> Figures:
    """The figures of a customer."""
    rank = policy.ladder.rank_of(profile["tier"])
    risk, minor, value = profile["risk"], 10**policy.decimals, policy.value
    is_buyer = profile["lifetime"]["purchase_days"] > 0
    complaints = [one for term in risk["contributions"] for one in term.get("complaints", ())]
    still_open = [SEVERITIES.index(one["severity"]) for one in complaints if one["status"] != "resolved"]
    spend_minor = yearly_spend(profile, policy.window.length_ms, now_ms) * minor
    return Figures(
        retention=1.0 - risk["probability"] if is_buyer else None,
        churn=risk["probability"] if is_buyer else None,
        alive=risk["p_alive"] if is_buyer else None,
        repeat_rate=float(profile["lifetime"]["purchase_days"] > 1) if is_buyer else None,
        satisfaction=profile["satisfaction"]["score"] if profile["satisfaction"] else None,
        frequency=profile["frequency"],
        spend=float(profile["monetary"]),
        lifetime_value=float(risk["lifetime_value"]) if is_buyer else None,
        cost=value.yearly_cost_minor(rank) / minor,
        benefit=value.yearly_benefit_minor(spend_minor, rank, still_open) / minor,
    )


def yearly_spend(profile: dict[str, Any], window_ms: int, now_ms: int) -> float:
    """Net spend of the last year, in major units. A profile has the purchases of the policy's window, at most the
    latest MOST_BUCKETS buckets; if they cover less than a year, their spend is scaled up to a year.
    """
    bought = profile["history"]["purchases"]
    known_ms = min(window_ms, YEAR_MS)
    if len(bought) == MOST_BUCKETS:
        known_ms = max(min(known_ms, now_ms - units.parse_time(bought[0][0])), units.DAY_MS)
    spent = 0.0
    for at, _, spend in reversed(bought):
        if units.parse_time(at) < now_ms - known_ms:
            break
        spent += float(spend)
    return spent * YEAR_MS / known_ms


def measures_of(tier: str, samples: list[Sample]) -> TierMeasures:
    """The measures of some tiers together. Each drawn customer counts for as many as the tier has per drawn customer."""
    weighed = [(one.customers / len(one.figures), one) for one in samples if one.figures]
    levels: dict[str, float] = {}
    for weight, one in weighed:
        for level in one.levels:
            levels[level] = levels.get(level, 0.0) + weight
    total = sum(levels.values())
    return TierMeasures(
        tier,
        sum(one.customers for one in samples),
        {level: size / total for level, size in levels.items()},
        {name: _mean(weighed, index) for index, name in enumerate(Figures._fields)},
    )


def _mean(weighed: list[tuple[float, Sample]], index: int) -> float | None:
    size = total = 0.0
    for weight, sample in weighed:
        values = [value for one in sample.figures if (value := one[index]) is not None]
        size += weight * len(values)
        total += weight * sum(values)
    return total / size if size else None
