"""The serving view in Redis: a customer's present tier, risk and profile in one read; customers by tier; customers at
risk.

The worker writes it from the output topics (streams/worker/view_feed.py). Writing is idempotent by `seq` and
`revision`: a repeated or older record changes nothing. The next offset of each output partition is stored in Redis
together with the data, so a Redis that lost its data is rebuilt from the topics. While Redis is down only the view
stands still; it catches up afterwards.

Keys:
    tierstream:customer:{id}   hash: tier, tier_since, risk_level, probability, value_at_stake, profile (JSON), and the
                               seq and revision of the records that these values are from
    tierstream:tier:{tier}     sorted set of customer ids, by the time (ms) at which each entered the tier
    tierstream:at-risk         sorted set of the ids of customers at risk, by value at stake
    tierstream:positions       hash: topic/partition -> the next offset to apply

The keys of policies are listed in streams/view/policies_in_force.py, those of alerts in streams/view/queue.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib import resources
from typing import Any, Final, NamedTuple

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from models import units
from models.customer import BASE_LEVEL
from streams.view.updates import Update

log = logging.getLogger(__name__)

PREFIX: Final = "tierstream:"
ERASED_SECONDS: Final = 30 * 24 * 3600
"""How long an erased customer's `seq` is kept, so that a repeat of an older output does not restore them."""
STORY_LENGTH: Final = 50
"""How many announcements are kept for each customer."""


def script(name: str) -> str:
    """The source of a Lua script of this package, by its name without `.lua`."""
    return (resources.files("streams.view") / "lua" / f"{name}.lua").read_text("utf-8")


class ViewSizes(NamedTuple):
    """How many customers the view has."""

    tiers: dict[str, int]
    at_risk: int
    alerts: dict[str, int]
    """Waiting alerts by state: open (without an owner), held, snoozed."""


class RedisView:
    """Reads and writes the view.

    `story_length` is how many announcements are kept for each customer. Redis errors are raised as they are:
    `RedisError`, `OSError`.
    """

    def __init__(self, url: str, prefix: str = PREFIX, story_length: int = STORY_LENGTH) -> None:
        self.prefix = prefix
        self.story_length = story_length
        self.redis: Any = Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2)
        self._apply = self.redis.register_script(script("apply"))

    async def position(self, field: str) -> int:
        """The next offset to apply of a topic's partition."""
        return int(await self.redis.hget(f"{self.prefix}positions", field) or 0)

    async def apply(self, field: str, before: int, after: int, updates: Iterable[Update]) -> int | None:
        """Apply the updates of the records from offset `before` up to, not including, offset `after`, all or nothing.

        `field` names topic and partition in `tierstream:positions`. Returns None; or, if Redis lacks earlier records,
        the offset from which to read again: then nothing was applied.
        """
        arguments: list[Any] = [field, before, after, ERASED_SECONDS, self.story_length]
        for kind, *values in updates:
            arguments += (kind, len(values), *values)
        missing_from = int(await self._apply(keys=[self.prefix], args=arguments))
        return None if missing_from < 0 else missing_from

    async def customer(self, customer_id: str) -> dict[str, Any] | None:
        """A customer's present tier, risk and profile, in one read; None if the customer is unknown or erased."""
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
        """Ids of a tier's customers, the longest in the tier first."""
        found: list[bytes] = await self.redis.zrange(f"{self.prefix}tier:{tier}", first, first + count - 1)
        return [key.decode() for key in found]

    async def tier_sizes(self, tiers: Iterable[str]) -> dict[str, int]:
        """How many customers each tier has."""
        return {tier: await self.redis.zcard(f"{self.prefix}tier:{tier}") for tier in tiers}

    async def sizes(self, tiers: Iterable[str]) -> ViewSizes:
        """How many customers are in each tier and at risk, and how many alerts wait. The cost does not grow with the
        numbers.
        """
        at_risk = await self.redis.zcard(f"{self.prefix}at-risk")
        return ViewSizes(await self.tier_sizes(tiers), at_risk, await self.alert_sizes())

    async def alert_sizes(self) -> dict[str, int]:
        """How many alerts are open (without an owner), held and snoozed."""
        pipe = self.redis.pipeline(transaction=False)
        for name in ("queue", "held", "snoozed"):
            pipe.zcard(f"{self.prefix}{name}")
        return dict(zip(("open", "held", "snoozed"), await pipe.execute(), strict=True))

    async def at_risk(self, first: int = 0, count: int = 100) -> list[tuple[str, float]]:
        """Ids of customers at risk with their value at stake, the highest value first."""
        found: list[tuple[bytes, float]] = await self.redis.zrevrange(
            f"{self.prefix}at-risk", first, first + count - 1, withscores=True
        )
        return [(key.decode(), stake) for key, stake in found]


def is_redis_away(error: BaseException) -> bool:
    """Whether an error means that Redis can't be reached. uvloop reports a closed connection as a RuntimeError."""
    return isinstance(error, RedisError | OSError) or (isinstance(error, RuntimeError) and "closed" in str(error))
