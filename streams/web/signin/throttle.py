"""Who guesses passwords waits: after some failures of a name, or from an address, both are refused for a while."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, Final

from redis.asyncio import Redis

WINDOW_SECONDS: Final = 15 * 60
FAILURES_OF_A_NAME: Final = 10
FAILURES_FROM_AN_ADDRESS: Final = 50
"""More than of a name, since many may come by one proxy."""


class Throttle:
    """Counts failures in Redis, so that several consoles count together."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis
        self._prefix = f"{prefix}console:failed:"

    async def wait_seconds(self, name: str, address: str) -> int:
        """How long no attempt is taken; 0 if one is."""
        waits = await asyncio.gather(*(self._wait_seconds(*one) for one in self._counted(name, address)))
        return max(waits)

    async def failed(self, name: str, address: str) -> None:
        """One more."""
        pipeline = self._redis.pipeline()
        for key, _ in self._counted(name, address):
            pipeline.incr(key)
            pipeline.expire(key, WINDOW_SECONDS)
        await pipeline.execute()

    async def succeeded(self, name: str) -> None:
        """The name's failures are forgotten; those from the address are not, or a guesser with an account would go on."""
        await self._redis.delete(self._key("name", name))

    async def _wait_seconds(self, key: str, most: int) -> int:
        if int(await self._redis.get(key) or 0) < most:
            return 0
        return max(1, int(await self._redis.ttl(key)))

    def _counted(self, name: str, address: str) -> tuple[tuple[str, int], ...]:
        return (self._key("name", name), FAILURES_OF_A_NAME), (self._key("address", address), FAILURES_FROM_AN_ADDRESS)

    def _key(self, kind: str, what: str) -> str:
        return f"{self._prefix}{kind}:{hashlib.sha256(what.encode('utf-8', 'replace')).hexdigest()[:32]}"
