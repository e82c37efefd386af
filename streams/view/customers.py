"""The serving view in Redis: what a customer is now, in one read; members by tier; who is at risk, by value at stake.

Fed from the outputs, idempotent by `seq` and `revision`: a repeat or an older record changes nothing. How far each
output partition has been applied is kept in Redis itself, with what was applied, so a Redis that lost its data is
rebuilt from the topics. Redis being down stops nothing but the view, which catches up.

Keys:
    tierstream:customer:{id}   hash: tier, tier_since, risk_level, probability, value_at_stake, profile (JSON), and the
                               seq and revision that they are from
    tierstream:tier:{tier}     sorted set of customer ids, by the time (ms) since when
    tierstream:at-risk         sorted set of the ids of customers with an alert, by value at stake
    tierstream:positions       hash: topic/partition -> the next offset to apply

the policies that all of it was judged under (streams/view/rulebook.py), and what the retention team works with (streams/view/queue.py).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from models import units
from models.customer import BASE_LEVEL
from streams.view.updates import Update

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)

PREFIX: Final = "tierstream:"
ERASED_SECONDS: Final = 30 * 24 * 3600
"""How long an erased customer's seq is remembered, so that a repeat of an older output does not bring them back."""
STORY_LENGTH: Final = 50
"""How many announcements of a customer are kept."""


def script(name: str) -> str:
    """A program that Redis runs."""
    return (resources.files("streams.view") / "lua" / f"{name}.lua").read_text("utf-8")


class ViewSizes(NamedTuple):
    """How many customers the view has."""

    tiers: dict[str, int]
    at_risk: int
    alerts: dict[str, int]
    """Alerts that wait: open (nobody's), held, snoozed."""


class RedisView:
    """The view's reads and writes."""

    def __init__(self, url: str, prefix: str = PREFIX, story_length: int = STORY_LENGTH) -> None:
        self.prefix = prefix
        self.story_length = story_length
        self.redis: Any = Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2)
        self._apply = self.redis.register_script(script("apply"))

    async def position(self, field: str) -> int:
        """The next offset to apply of a topic's partition."""
        return int(await self.redis.hget(f"{self.prefix}positions", field) or 0)

    async def apply(self, field: str, before: int, after: int, updates: Iterable[Update]) -> int | None:
        """Apply updates that take the view from one position to another.

        Returns None, or the offset to read again from when Redis lacks what came before.
        """
        arguments: list[Any] = [field, before, after, ERASED_SECONDS, self.story_length]
        for kind, *values in updates:
            arguments += (kind, len(values), *values)
        missing_from = int(await self._apply(keys=[self.prefix], args=arguments))
        return None if missing_from < 0 else missing_from

    async def customer(self, customer_id: str) -> dict[str, Any] | None:
        """What a customer is now; None for one who is not known, or erased. One read."""
        found: dict[bytes, bytes] = await self.redis.hgetall(f"{self.prefix}customer:{customer_id}")
        if b"tier" not in found:
            return None
        text = {name.decode(): value.decode() for name, value in found.items() if name != b"profile"}
        profile = found.get(b"profile")
        return {
            "customer_id": customer_id,
            "tier": text["tier"],
            "tier_since": units.format_time(int(text["tier_since"])),
            "risk_level": text.get("risk_level", BASE_LEVEL),
            "probability": float(text["probability"]) if text.get("probability") else None,
            "value_at_stake": text.get("value_at_stake"),
            "seq": int(text["seq"]),
            "profile": None if profile is None else orjson.loads(profile),
        }

    async def members(self, tier: str, first: int = 0, count: int = 100) -> list[str]:
        """Customers of a tier, the longest-standing first."""
        found: list[bytes] = await self.redis.zrange(f"{self.prefix}tier:{tier}", first, first + count - 1)
        return [key.decode() for key in found]

    async def tier_sizes(self, tiers: Iterable[str]) -> dict[str, int]:
        """How many customers each tier has."""
        return {tier: await self.redis.zcard(f"{self.prefix}tier:{tier}") for tier in tiers}

    async def sizes(self, tiers: Iterable[str]) -> ViewSizes:
        """How many customers the view has, by tier and at risk, and alerts that wait. Costs the same however many they are."""
        at_risk = await self.redis.zcard(f"{self.prefix}at-risk")
        return ViewSizes(await self.tier_sizes(tiers), at_risk, await self.alert_sizes())

    async def alert_sizes(self) -> dict[str, int]:
        """How many alerts are open (nobody's), held and snoozed."""
        pipe = self.redis.pipeline(transaction=False)
        for name in ("queue", "held", "snoozed"):
            pipe.zcard(f"{self.prefix}{name}")
        return dict(zip(("open", "held", "snoozed"), await pipe.execute(), strict=True))

    async def at_risk(self, first: int = 0, count: int = 100) -> list[tuple[str, float]]:
        """Customers with an alert and their value at stake, the most valuable first."""
        found: list[tuple[bytes, float]] = await self.redis.zrevrange(
            f"{self.prefix}at-risk", first, first + count - 1, withscores=True
        )
        return [(key.decode(), stake) for key, stake in found]


def is_away(error: BaseException) -> bool:
    """Whether it is Redis that is away; of a closed connection uvloop tells by a RuntimeError."""
    return isinstance(error, RedisError | OSError) or (isinstance(error, RuntimeError) and "closed" in str(error))
