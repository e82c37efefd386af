"""Customers as the workers' table has them, for pages: read from the broker in a thread, within a bound, and kept for a moment.

Redis has profiles, from which nothing can be folded on. The whole state is in the table's changelog alone, where a customer is found
by reading the partition that they are in: as quick as a glance in a table of some hundred thousand, too slow for a page in a huge one.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Final

from streams.settings import Settings
from streams.workshop.explain.table_story import StoredCustomer, find_in_table

SECONDS: Final = 5.0
"""What somebody who looks at a page waits, at the most."""
AT_ONCE: Final = 2
"""Partitions read at the same time, whoever asks."""
MOST: Final = 64
KEPT_SECONDS: Final = 60.0


class KeptCustomers:
    """Asks the table."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._kept: OrderedDict[tuple[str, str], tuple[float, StoredCustomer]] = OrderedDict()

    async def customer(self, customer_id: str, tag: str) -> StoredCustomer:
        """A customer; `tag` tells one state that the view shows of them from another: what was read under it is used again, for a
        minute. Raises ExplainError.
        """
        async with self._turns:
            read_at, kept = self._kept.get((customer_id, tag), (0.0, None))
            if kept is not None and time.monotonic() < read_at + KEPT_SECONDS:
                return kept
            kept = await asyncio.to_thread(find_in_table, self.settings, customer_id, SECONDS)
            self._kept[customer_id, tag] = (time.monotonic(), kept)
            self._kept.move_to_end((customer_id, tag))
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)
            return kept
