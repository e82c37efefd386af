"""Reads a customer's state from the changelog of the workers' table, for the page of a customer ("what if").

Redis has only profiles, and an event can be folded only on a state. The states are in the changelog alone, where a
customer is found by reading their partition: fast enough for a page with some hundred thousand customers, too slow with
many millions. The reading is done in a thread and limited in time; its result is kept for a minute.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Final

from streams.settings import Settings
from streams.workshop.explain.table_story import StoredCustomer, find_in_table

SECONDS: Final = 5.0
"""How long a page waits for the table at most."""
AT_ONCE: Final = 2
"""How many partitions are read at the same time, for all requests together."""
MOST_KEPT: Final = 64
KEPT_SECONDS: Final = 60.0


class TableReader:
    """Reads states of customers; the latest ones are kept for `KEPT_SECONDS`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._kept: OrderedDict[tuple[str, str], tuple[float, StoredCustomer]] = OrderedDict()

    async def customer(self, customer_id: str, tag: str) -> StoredCustomer:
        """A customer's state. `tag` is the ETag of the customer in the view: a state that was read with it is used
        again for a minute.

        Raises ExplainError.
        """
        async with self._turns:
            read_at, kept = self._kept.get((customer_id, tag), (0.0, None))
            if kept is not None and time.monotonic() < read_at + KEPT_SECONDS:
                return kept
            kept = await asyncio.to_thread(find_in_table, self.settings, customer_id, SECONDS)
            self._kept[customer_id, tag] = (time.monotonic(), kept)
            self._kept.move_to_end((customer_id, tag))
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            return kept
