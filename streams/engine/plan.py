"""What a batch will do. It is decided before anything is folded, so that a journal can record it in advance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

from models.events import Event
from streams.engine.merge import Record
from streams.engine.schedule import Review, Schedule

NO_CUSTOMERS: Final[Mapping[bytes, bytes]] = {}
ROOM_PER_CUSTOMER: Final = 256
ROOM_PER_EVENT: Final = 192
"""By how many bytes at most a customer's encoded state is expected to grow, per batch and per event."""
Strays = Literal["carry", "refuse", "fold"]
"""What a batch does with a stray, a record in another partition than its customer's home: it is carried there; it is
refused, as a dead letter; or, in batches of versions that did not know strays, it was folded where it was.
"""
MOST_DUE: Final = 500
"""How many customers are advanced in one batch at most; the rest are advanced in the next."""


class Plan(NamedTuple):
    """What a batch will do, in this order: advance customers to a time, judge some under a new edition, fold
    records.
    """

    until_ms: int
    due: list[bytes]
    """The customers to advance, in the order in which they are due."""
    review: list[bytes]
    """Customers that were last judged under an older edition, to be judged under the one in force."""
    records: list[Record]
    shadow: Plan | None = None
    """What the table of the shadow policy does in the same batch, with the same records."""
    strays: Strays = "fold"

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        shadow = self.shadow
        return not self.due and not self.review and not self.records and (shadow is None or shadow.is_empty)

    def step(self, number: int) -> bytes | Record:
        """The customer or record at this position of the plan, from 0."""
        customers = [*self.due, *self.review]
        return customers[number] if number < len(customers) else self.records[number - len(customers)]


def make_plan(
    customers: Mapping[bytes, bytes],
    schedule: Schedule,
    review: Review,
    until_ms: int,
    records: Iterator[Record],
    max_events: int,
    max_bytes: int,
    shadow_customers: Mapping[bytes, bytes] = NO_CUSTOMERS,
) -> Plan:
    """Some due customers, then as many records as fit into a batch whose customers take at most `max_bytes`.

    If many customers are due, only some are planned, so that events need not wait for all of them; a customer with an
    event is advanced when that event is folded. If the records are also folded into `shadow_customers`, these have to
    fit as well.
    """
    due: list[bytes] = []
    taken: list[Record] = []
    seen: set[bytes] = set()
    left_bytes = max_bytes
    for key in schedule.due(until_ms):
        due.append(key)
        seen.add(key)
        left_bytes -= len(customers[key]) + ROOM_PER_CUSTOMER
        if left_bytes <= 0 or len(due) >= MOST_DUE:
            break
    reviewed = list(review.take(MOST_DUE - len(due))) if left_bytes > 0 else []
    for key in reviewed:
        seen.add(key)
        left_bytes -= len(customers[key]) + ROOM_PER_CUSTOMER
    while len(taken) < max_events and left_bytes > 0:
        record = next(records, None)
        if record is None:
            break
        taken.append(record)
        left_bytes -= ROOM_PER_EVENT
        event = record.decoded
        if isinstance(event, Event) and event.key not in seen:
            seen.add(event.key)
            left_bytes -= (
                max(len(customers.get(event.key, b"")), len(shadow_customers.get(event.key, b""))) + ROOM_PER_CUSTOMER
            )
    return Plan(until_ms, due, reviewed, taken)
