"""Publishes the profiles of customers that changed: at intervals, and only in a small share of the time."""

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
"""How many profiles are published at once, while events wait."""
PROFILE_SHARE: Final = 0.02
"""The share of the time for profiles while there are events to fold."""


class Profiles:
    """Publishes the profiles of one partition of a table, each customer's at most once per interval.

    An idle partition publishes until no profile is left; a busy one uses a small share of the time, so that events need
    not wait. So the interval grows under load, and a partition that is catching up writes few profiles that are soon
    outdated.
    """

    def __init__(
        self, topic: str, delivery: PartitionDelivery, table: Callable[[], Table | None], interval_seconds: float
    ) -> None:
        self._topic = topic
        self._delivery = delivery
        self._table = table
        self.interval_seconds = interval_seconds
        self._waiting: list[bytes] = []
        """Customers whose profiles are still to be published in this round."""
        self._next_round = time.monotonic() + interval_seconds
        self._wait_until = 0.0

    @property
    def due(self) -> set[bytes]:
        """Customers whose latest profile is still to be published."""
        table = self._table()
        return set() if table is None else table.unprofiled

    def forget_round(self) -> None:
        """Begin a new round: the table may have been restored."""
        self._waiting = []

    def skip_interval(self) -> None:
        """Let the next round begin at once."""
        self._next_round = self._wait_until = 0.0

    async def take_turn(self, idle: bool) -> int:
        """Publish some of the profiles that are due; returns how many."""
        now = time.monotonic()
        if not self._waiting and self.due and now >= self._next_round:
            self._waiting = list(self.due)
        if not self._waiting or not (idle or now >= self._wait_until):
            return 0
        count = await self.publish(PROFILES_A_TURN)
        done = time.monotonic()
        self._wait_until = done + (done - now) * (1 / PROFILE_SHARE - 1)
        # The interval is counted from the end of a round: the last customer of a round may be the first of the next.
        self._next_round = done + self.interval_seconds
        return count

    async def publish_until(self, deadline: float) -> int:
        """Publish as many profiles as possible until a monotonic time; returns how many."""
        self._waiting, count = list(self.due), 0
        while self._waiting and time.monotonic() < deadline:
            count += await self.publish(PROFILES_A_TURN)
        return count

    async def publish(self, most: int) -> int:
        """Publish the profiles of up to `most` customers of this round; returns how many."""
        table = self._table()
        assert table is not None, "customers of a round are in the table"
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
