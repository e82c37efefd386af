"""Work on many customers at a time, of each in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from xxhash import xxh3_64_intdigest

STOP_SECONDS: Final = 5.0
"""How long work that has begun may take to end by itself."""

Job = Callable[[], Awaitable[None]]


class Lanes:
    """Queues, and a task for each: jobs of one key are in one queue."""

    def __init__(self, count: int) -> None:
        self._queues: list[asyncio.Queue[Job | None]] = [asyncio.Queue() for _ in range(count)]
        self._is_stopping = False
        self.in_hand = 0
        """Jobs that were given and are not done."""

    def put(self, key: bytes, job: Job) -> None:
        """Do it after all that was given with the same key before."""
        self.in_hand += 1
        self._queues[xxh3_64_intdigest(key) % len(self._queues)].put_nowait(job)

    async def run(self) -> None:
        """Work until `stop`, or until a job fails."""
        async with asyncio.TaskGroup() as group:
            for queue in self._queues:
                group.create_task(self._work(queue))

    def stop(self) -> None:
        """Begin no further job."""
        self._is_stopping = True
        for queue in self._queues:
            queue.put_nowait(None)

    async def _work(self, queue: asyncio.Queue[Job | None]) -> None:
        while not self._is_stopping and (job := await queue.get()) is not None:
            await job()
            self.in_hand -= 1
