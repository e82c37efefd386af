"""What a tier's customers are like: measures of DOMAIN's table, from a sample, so that the page is as fast with ten million."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Final

import orjson

from models.customer import BASE_LEVEL
from streams.view import RedisView

SAMPLE: Final = 400


@dataclass(frozen=True, slots=True)
class TierMeasures:
    """A tier. All but `customers` are of the sample; None where nobody in it has what is measured."""

    tier: str
    customers: int
    sampled: int = 0
    levels: dict[str, float] = field(default_factory=dict)
    """Shares of risk levels."""
    repeat_rate: float | None = None
    """Share of those with a purchase who bought on more than one day."""
    retention: float | None = None
    """Mean probability of a purchase within the risk's horizon."""
    alive: float | None = None
    """Mean probability of not having left."""
    satisfaction: float | None = None
    frequency: float | None = None
    """Mean orders in the window."""
    spend: float | None = None
    """Mean net spend in the window."""
    lifetime_value: float | None = None
    """Mean of what is to be expected, less the cost to serve and that of open complaints."""


async def measure(view: RedisView, tier: str) -> TierMeasures:
    """A tier's measures, of at most SAMPLE customers drawn at random."""
    key = f"{view.prefix}tier:{tier}"
    customers = int(await view.redis.zcard(key))
    drawn: list[bytes] = await view.redis.zrandmember(key, SAMPLE) if customers else []
    pipe = view.redis.pipeline(transaction=False)
    for one in drawn:
        pipe.hget(f"{view.prefix}customer:{one.decode()}", "profile")
    profiles = [orjson.loads(found) for found in await pipe.execute() if found is not None]
    if not profiles:
        return TierMeasures(tier, customers)
    buyers = [one for one in profiles if one["lifetime"]["purchase_days"]]
    levels = [one["risk"]["level"] for one in profiles]
    return TierMeasures(
        tier,
        customers,
        len(profiles),
        {level: levels.count(level) / len(levels) for level in dict.fromkeys([BASE_LEVEL, *levels])},
        _mean([float(one["lifetime"]["purchase_days"] > 1) for one in buyers]),
        _mean([1.0 - one["risk"]["probability"] for one in buyers]),
        _mean([one["risk"]["p_alive"] for one in buyers]),
        _mean([one["satisfaction"]["score"] for one in profiles if one["satisfaction"]]),
        _mean([one["frequency"] for one in profiles]),
        _mean([float(one["monetary"]) for one in profiles]),
        _mean([float(one["risk"]["lifetime_value"]) for one in buyers]),
    )


def _mean(values: list[Any]) -> float | None:
    return fmean(values) if values else None
