"""Slows down password guessing: after some failures of a name, or from an address, further attempts are refused for a
while.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, Final

from redis.asyncio import Redis

WINDOW_SECONDS: Final = 15 * 60
FAILURES_OF_A_NAME: Final = 10
FAILURES_FROM_AN_ADDRESS: Final = 50
"""More than for a name, since many people may share a proxy's address."""


class Throttle:
    """Counts failures in Redis, so that several consoles count together."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis
        self._prefix = f"{prefix}console:failed:"

    async def wait_seconds(self, name: str, address: str) -> int:
        """For how many seconds no attempt is accepted; 0 if one is accepted now."""
        waits = await asyncio.gather(*(self._wait_seconds(*one) for one in self._counters(name, address)))
        return max(waits)

    async def count_failure(self, name: str, address: str) -> None:
        """Count a failed attempt."""
        pipeline = self._redis.pipeline()
        for key, _ in self._counters(name, address):
            pipeline.incr(key)
            pipeline.expire(key, WINDOW_SECONDS)
        await pipeline.execute()

    async def forget_failures(self, name: str) -> None:
        """Forget the failures of a name. Those from the address stay, or a guesser could sign in with an account and go
        on.
        """
        await self._redis.delete(self._key("name", name))

    async def _wait_seconds(self, key: str, most: int) -> int:
        if int(await self._redis.get(key) or 0) < most:
            return 0
        return max(1, int(await self._redis.ttl(key)))

    def _counters(self, name: str, address: str) -> tuple[tuple[str, int], ...]:
        return (self._key("name", name), FAILURES_OF_A_NAME), (self._key("address", address), FAILURES_FROM_AN_ADDRESS)

    def _key(self, kind: str, what: str) -> str:
        return f"{self._prefix}{kind}:{hashlib.sha256(what.encode('utf-8', 'replace')).hexdigest()[:32]}"
