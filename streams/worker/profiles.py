"""Profiles: the latest word on each customer who changed, published now and then, and only while there is time for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import models
from streams.engine.batch import STEPS_A_TURN
from streams.engine.table import Table
from streams.worker.context import Outgoing, PartitionDelivery

PROFILES_A_TURN: Final = 200
"""Profiles published at once; events wait that long."""
PROFILE_SHARE: Final = 0.02
"""Of the time, what profiles get while there are events to fold."""


class Profiles:
    """Publishes the profiles of one partition of a table, each customer's at most once per interval.

    With nothing else to do, until all are out; else for a small share of the time, so that events don't wait. So the
    interval grows under load, and while catching up hardly any are written of what is history a moment later.
    """

    def __init__(
        self, topic: str, delivery: PartitionDelivery, table: Callable[[], Table | None], interval_seconds: float
    ) -> None:
        self._topic = topic
        self._delivery = delivery
        self._table = table
        self.interval_seconds = interval_seconds
        self._waiting: list[bytes] = []
        """Customers whose profiles are being published, in this round."""
        self._next_round = time.monotonic() + interval_seconds
        self._wait_until = 0.0

    @property
    def due(self) -> set[bytes]:
        """Customers whose latest profile is still to be published."""
        table = self._table()
        return set() if table is None else table.unprofiled

    def forget_round(self) -> None:
        """The table was restored: who waits is found anew."""
        self._waiting = []

    def begin_at_once(self) -> None:
        """Wait for no interval."""
        self._next_round = self._wait_until = 0.0

    async def turn(self, idle: bool) -> int:
        """Publish some that are due; returns how many."""
        now = time.monotonic()
        if not self._waiting and self.due and now >= self._next_round:
            self._waiting = list(self.due)
        if not self._waiting or not (idle or now >= self._wait_until):
            return 0
        count = await self.publish(PROFILES_A_TURN)
        done = time.monotonic()
        self._wait_until = done + (done - now) * (1 / PROFILE_SHARE - 1)
        # Counted from the end of a round: who was last in one may be first in the next.
        self._next_round = done + self.interval_seconds
        return count

    async def last_ones(self, deadline: float) -> int:
        """Publish what can be published until a monotonic time; returns how many."""
        self._waiting, count = list(self.due), 0
        while self._waiting and time.monotonic() < deadline:
            count += await self.publish(PROFILES_A_TURN)
        return count

    async def publish(self, most: int) -> int:
        """Publish the latest profile of so many customers whose turn it is; returns how many they were."""
        table = self._table()
        assert table is not None, "who waits is in it"
        policy, keys = table.editions.current, self._waiting[-most:]
        del self._waiting[-most:]
        profiles: list[Outgoing] = []
        for number, key in enumerate(keys, 1):
            profiles.append((key, models.profile(models.decode(table.customers[key]), key.decode(), policy), []))
            if number % STEPS_A_TURN == 0:
                await asyncio.sleep(0)
        await self._delivery.publish(self._topic, profiles)
        table.unprofiled.difference_update(keys)
        return len(keys)
