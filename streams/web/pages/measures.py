"""What the customers of each tier are like, from a sample, so that the page is as quick with ten million.

All of it is as of what last happened to each, but for what they brought in a year, which is as of now.
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
from streams.view.rulebook import PoliciesSeen

SAMPLE: Final = 400
"""Customers of a tier, at the most."""
YEAR_MS: Final = 365 * units.DAY_MS


class Figures(NamedTuple):
    """A customer's; None where there is nothing to measure. Money in major units."""

    retention: float | None
    """Probability of a purchase within the risk's horizon."""
    churn: float | None
    """Of none: who buys nothing within the horizon has churned (docs/risk.md)."""
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
    """To serve, a year."""
    benefit: float
    """Margin on a year's net spend, less the cost to serve and that of open complaints."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Some of a tier's customers, drawn at random."""

    tier: str
    customers: int
    """Of the tier."""
    levels: list[str] = field(default_factory=list)
    """The risk level of each that was drawn, and in the same order their figures."""
    figures: list[Figures] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TierMeasures:
    """A tier, or all of them. All but `customers` are of the samples."""

    tier: str
    customers: int
    levels: dict[str, float] = field(default_factory=dict)
    """Shares of risk levels; of none that nobody has."""
    means: dict[str, float | None] = field(default_factory=dict)
    """By the names of Figures; None where nobody has what is measured."""


async def draw(view: RedisView, policies: PoliciesSeen, tier: str, now_ms: int) -> Sample:
    """The figures of at most SAMPLE customers of a tier, of each by the policy that they were judged under."""
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
            sample.figures.append(figures_of(profile, policies.named(profile["policy"]), now_ms))
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
    """Net spend of the last year. A profile knows what was bought within the policy's window, and of that the latest
    MOST_BUCKETS: where this is less than a year, what it comes to in one.
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
    """What the customers of some tiers are like; who was drawn stands for as many as their tier has for each that was drawn."""
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
