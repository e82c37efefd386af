"""Faust's manager of tables, of which there are none: what is kept of the customers is streams/engine/table.py's."""

from __future__ import annotations

import asyncio

from faust.tables import TableManager

POLL_SECONDS = 0.01


class NoTables(TableManager):  # type: ignore[misc]
    """Lets the worker subscribe as soon as its agents read; Faust gives agents and tables a whole second to come forward."""

    async def on_start(self) -> None:
        """Wait for the agents' streams, not for a time: all of them, else the group would have to be joined once more."""
        while not self.should_stop and len(self.app.topics) < len(self.app.agents):
            await asyncio.sleep(POLL_SECONDS)
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()
