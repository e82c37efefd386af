"""Doubles of what a sender sends to."""

from __future__ import annotations

import json

from streams.broker.group_reader import Record
from streams.notify.webhook import GivenUp


class WebhookDouble:
    """A webhook that keeps what it was sent; it refuses alerts of the customers in `refuses`."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        """The customer and the change of each record, in order."""
        self.ids: list[str] = []
        self.refuses: set[str] = set()

    async def deliver(self, record_id: str, body: bytes) -> GivenUp | None:
        found = json.loads(body)
        assert found["id"] == record_id
        self.sent.append((found["customer_id"], found["change"]))
        self.ids.append(record_id)
        return GivenUp("refused", 400, 1, "no") if found["customer_id"] in self.refuses else None


class GivenUpRecordsDouble:
    """Keeps the records that were given up."""

    def __init__(self) -> None:
        self.records: list[tuple[Record, GivenUp]] = []

    async def put(self, record: Record, given_up: GivenUp) -> None:
        self.records.append((record, given_up))
