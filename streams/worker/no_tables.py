"""Replaces Faust's table manager: no Faust tables are used; customers are kept by streams/engine/table.py."""

from __future__ import annotations

import asyncio

from faust.tables import TableManager

POLL_SECONDS = 0.01


class NoTables(TableManager):  # type: ignore[misc]
    """Lets the worker subscribe as soon as its agents read; Faust would wait a whole second for agents and tables."""

    async def on_start(self) -> None:
        """Wait until all agents have their streams, not for a fixed time; otherwise the group would have to be joined
        twice.
        """
        while not self.should_stop and len(self.app.topics) < len(self.app.agents):
            await asyncio.sleep(POLL_SECONDS)
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()
