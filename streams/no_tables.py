"""Faust's manager of tables, of which there are none: what is kept of the customers is streams/table.py's."""

from __future__ import annotations

import asyncio

from faust.tables import TableManager

POLL_SECONDS = 0.01


class NoTables(TableManager):  # type: ignore[misc]
    """Lets the worker subscribe as soon as its agent reads; Faust gives agents and tables a whole second to come forward."""

    async def on_start(self) -> None:
        """Wait for the one stream of the inputs, not for a time."""
        while not self.should_stop and not len(self.app.topics):
            await asyncio.sleep(POLL_SECONDS)
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()
