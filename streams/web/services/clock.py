"""The present time for the console: the wall clock's, or with the event clock the day of the latest announcement."""

from __future__ import annotations

import time
from datetime import date
from typing import Final

from models import units
from streams.settings import Settings
from streams.view.customers import RedisView

LATEST_DAY: Final = "latest-day"
"""The Redis key of the latest day with an announcement; streams/view/lua/apply.lua writes it."""


class Clock:
    """Gives the time of the data, so that people see a backfill or an old demo, and act on it, as of the data's own
    day.
    """

    def __init__(self, settings: Settings, view: RedisView) -> None:
        self._is_wall = settings.clock == "wall"
        self._view = view

    async def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        if self._is_wall:
            return time.time_ns() // 1_000_000
        latest = await self._view.redis.get(f"{self._view.prefix}{LATEST_DAY}")
        if latest is None:
            return time.time_ns() // 1_000_000
        return units.parse_time(f"{latest.decode()}T23:59:59.999Z")

    async def today(self) -> date:
        """The day (UTC)."""
        return date.fromisoformat(units.format_time(await self.now_ms())[:10])
