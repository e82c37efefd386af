"""Alerts as the ledger's keys in Redis have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol

import orjson
from redis.asyncio import Redis

State = Literal[
    "held", "open", "acknowledged", "contacted", "snoozed", "saved", "lost", "dismissed", "recovered"
]  # fmt: skip
CLOSED: Final = ("saved", "lost", "dismissed", "recovered")
OWNED: Final = ("acknowledged", "contacted")
A_TURN: Final = 500


class Page(NamedTuple):
    """Some alerts, the most urgent first, and how many there are."""

    total: int
    alerts: list[dict[str, Any]]


class AlertPages(Protocol):
    """Where alerts are read."""

    async def page(
        self,
        state: str = "open",
        tier: str | None = None,
        cause: str | None = None,
        category: str | None = None,
        owner: str | None = None,
        first: int = 0,
        count: int = 50,
    ) -> Page:
        """Some of the alerts that these fit."""

    async def alert(self, customer_id: str) -> dict[str, Any] | None:
        """A customer's latest alert."""


class AlertReader:
    """Reads the ledger's sorted sets; what no set has is looked for in the alerts themselves."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis
        self._prefix = prefix

    async def page(
        self,
        state: str = "open",
        tier: str | None = None,
        cause: str | None = None,
        category: str | None = None,
        owner: str | None = None,
        first: int = 0,
        count: int = 50,
    ) -> Page:
        """Some of the alerts that these fit."""
        given = {"state": state, "tier": tier, "cause": cause, "category": category, "owner": owner}
        wanted = {name: value for name, value in given.items() if value is not None}
        key, told = self._narrowest(wanted)
        keys = (
            [key] if key else [f"owner:{one.decode()}" for one in await self._redis.smembers(f"{self._prefix}owners")]
        )
        left = {name: value for name, value in wanted.items() if name not in told}
        if key and not left:
            total = await self._redis.zcard(self._prefix + key)
            ids = await self._redis.zrange(self._prefix + key, first, first + count - 1)
            return Page(total, [body for _, body in await self._read(ids)])
        found: list[tuple[float, dict[str, Any]]] = []
        for one in keys:
            ids = await self._redis.zrange(self._prefix + one, 0, -1)
            for start in range(0, len(ids), A_TURN):
                for row, body in await self._read(ids[start : start + A_TURN]):
                    if all((row[name] or b"").decode() == value for name, value in left.items()):
                        found.append((float(row["urgency"] or 0), body))
        found.sort(key=lambda one: one[0])
        return Page(len(found), [body for _, body in found[first : first + count]])

    async def alert(self, customer_id: str) -> dict[str, Any] | None:
        """A customer's latest alert."""
        found = await self._read([customer_id.encode()])
        return found[0][1] if found else None

    @staticmethod
    def _narrowest(wanted: dict[str, str]) -> tuple[str, set[str]]:
        """The sorted set that has what is wanted and as little else as possible, and what it answers for."""
        state = wanted["state"]
        if state == "open":
            for name in ("category", "cause", "tier"):
                if name in wanted:
                    return f"queue:{name}:{wanted[name]}", {"state", name}
            return "queue", {"state"}
        if state in CLOSED:
            return "closed", set()
        if state in OWNED:
            return (f"owner:{wanted['owner']}", {"owner"}) if "owner" in wanted else ("", set())
        return state, {"state"}

    async def _read(self, ids: Sequence[bytes]) -> list[tuple[dict[str, bytes | None], dict[str, Any]]]:
        names = ("state", "tier", "cause", "category", "owner", "urgency", "after")
        pipeline = self._redis.pipeline(transaction=False)
        for one in ids:
            pipeline.hmget(f"{self._prefix}alert:{one.decode()}", *names)
        found = []
        for one, values in zip(ids, await pipeline.execute() if ids else [], strict=True):
            row = dict(zip(names, values, strict=True))
            if row["after"] is not None:
                found.append((row, {"customer_id": one.decode(), **orjson.loads(row["after"])}))
        return found
