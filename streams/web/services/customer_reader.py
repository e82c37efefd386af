"""Reads customers and tiers for look-ups: one read of Redis each; profiles are passed on as unchanged bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import orjson

from models import units
from models.customer import BASE_LEVEL
from streams.web.services.batched_reads import BatchedReads

BASE_LEVEL_BYTES: Final = BASE_LEVEL.encode()


class Found(NamedTuple):
    """A customer as JSON, and the ETag of this state of the customer."""

    etag: str
    body: bytes


class TierPage(NamedTuple):
    """A page of a tier's customers with the time (ms) at which each entered it, and how many customers the tier has."""

    total: int
    members: list[tuple[str, int]]


class CustomerReader:
    """Reads the serving view."""

    def __init__(self, url: str, prefix: str, version: int) -> None:
        self._reads, self._prefix, self._version = BatchedReads(url), prefix, version

    async def customer(self, customer_id: str) -> Found | None:
        """A customer's present tier, risk and profile; None if the customer is unknown or erased."""
        return self._found(customer_id, await self._ask(customer_id))

    async def customers(self, customer_ids: Sequence[str]) -> list[Found | None]:
        """The same for several customers, in the order of their ids."""
        rows = await asyncio.gather(*map(self._ask, customer_ids))
        return [self._found(*one) for one in zip(customer_ids, rows, strict=True)]

    def _ask(self, customer_id: str) -> asyncio.Future[Any]:
        return self._reads.ask("HGETALL", f"{self._prefix}customer:{customer_id}")

    async def tier(self, tier: str, first: int, count: int) -> TierPage:
        """Customers of a tier, the longest in the tier first."""
        key = f"{self._prefix}tier:{tier}"
        total, members = await asyncio.gather(
            self._reads.ask("ZCARD", key),
            self._reads.ask("ZRANGE", key, str(first), str(first + count - 1), "WITHSCORES"),
        )
        return TierPage(total, [(id.decode(), int(since)) for id, since in _pairs(members)])

    async def close(self) -> None:
        """Close the connection to Redis."""
        await self._reads.close()

    def _found(self, customer_id: str, answer: Any) -> Found | None:
        row = dict(_pairs(answer))
        if b"tier" not in row:
            return None
        probability, stake, revision, profile = (
            row.get(name) for name in (b"probability", b"value_at_stake", b"revision", b"profile")
        )
        body: dict[str, Any] = {
            "customer_id": customer_id,
            "tier": row[b"tier"].decode(),
            "tier_since": units.format_time(int(row[b"tier_since"])),
            "risk_level": row.get(b"risk_level", BASE_LEVEL_BYTES).decode(),
            "probability": orjson.Fragment(probability) if probability else None,
            "value_at_stake": stake.decode() if stake else None,
            "seq": int(row[b"seq"]),
            "revision": None if revision is None else int(revision),
            "profile": None if profile is None else orjson.Fragment(profile),
        }
        # Not `seq` alone: a profile changes without it; and if one of two topics is behind, a change of the row may have an
        # older `seq` than the row.
        parts = (b"%d" % self._version, row[b"tier_seq"], row.get(b"risk_seq", b"0"), revision or b"0")
        return Found(f'"{b".".join(parts).decode()}"', orjson.dumps(body))


def _pairs(answer: Any) -> Iterable[tuple[bytes, Any]]:
    """The pairs of an answer of Redis: a flat list, or with the newer protocol a map or a list of pairs."""
    if isinstance(answer, dict):
        return answer.items()
    if answer and isinstance(answer[0], list | tuple):
        return [(one, other) for one, other in answer]
    return zip(answer[::2], answer[1::2], strict=True)
