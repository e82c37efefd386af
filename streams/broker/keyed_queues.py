"""Runs jobs of many customers at the same time, and the jobs of each customer in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from xxhash import xxh3_64_intdigest

STOP_SECONDS: Final = 5.0
"""How long a job that has begun may take to finish after a stop."""

Job = Callable[[], Awaitable[None]]


class KeyedQueues:
    """A number of queues with a task each; jobs of one key are always in the same queue."""

    def __init__(self, count: int) -> None:
        self._queues: list[asyncio.Queue[Job | None]] = [asyncio.Queue() for _ in range(count)]
        self._is_stopping = False
        self.unfinished = 0
        """How many jobs were put and have not finished."""

    def put(self, key: bytes, job: Job) -> None:
        """Queue a job; it runs after all earlier jobs of the same key."""
        self.unfinished += 1
        self._queues[xxh3_64_intdigest(key) % len(self._queues)].put_nowait(job)

    async def run(self) -> None:
        """Run jobs until `stop`, or until a job fails; the failure is raised."""
        async with asyncio.TaskGroup() as group:
            for queue in self._queues:
                group.create_task(self._work(queue))

    def stop(self) -> None:
        """Begin no further jobs; those that run are finished."""
        self._is_stopping = True
        for queue in self._queues:
            queue.put_nowait(None)

    async def _work(self, queue: asyncio.Queue[Job | None]) -> None:
        while not self._is_stopping and (job := await queue.get()) is not None:
            await job()
            self.unfinished -= 1
