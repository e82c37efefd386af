"""A batch of events folded into customers: what the worker and the replay have in common.

Customers are bytes outside and decoded once per batch, however many of its events are theirs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Final

import models
from models.customer import NEVER_MS, Customer, due_at_ms_of
from models.events import Event, Rejected
from models.outputs import Output
from models.policy import Policy
from streams.merge import Record

ROOM_PER_CUSTOMER: Final = 512
ROOM_PER_EVENT: Final = 192
"""Bytes by which a customer's encoded state can be expected to grow, at the most, per batch and per event."""


class DeadLetter(models.Rejected, frozen=True):
    """A rejected record and why."""

    record: Record


class Batch:
    """Customers being folded, from the first event to the bytes that are kept."""

    def __init__(self, policy: Policy, state_of: Callable[[bytes], bytes | None]) -> None:
        self._policy = policy
        self._state_of = state_of
        self._customers: dict[bytes, Customer] = {}
        self._kept: dict[bytes, bytes | None] = {}
        self.outputs: list[Output] = []
        self.dead_letters: list[DeadLetter] = []
        self.offsets: dict[str, int] = {}
        """Per topic, the last offset folded."""
        self.events = 0
        self.latest_ms = -1
        """The latest `occurred_at` folded."""
        self.room_needed = 0
        """Upper estimate of the bytes of all customers in hand, encoded."""

    def fold(self, record: Record) -> None:
        """Fold one record, or set it aside as a dead letter."""
        self.offsets[record.topic] = record.offset
        self.events += 1
        self.room_needed += ROOM_PER_EVENT
        event = record.decoded
        if isinstance(event, Rejected):
            self.dead_letters.append(DeadLetter(event.code, event.detail, record))
            return
        self.latest_ms = max(self.latest_ms, event.occurred_at_ms)
        self._apply(event, record)

    def _apply(self, event: Event, record: Record) -> None:
        key = event.customer_id.encode()
        customer, result = models.apply(self._customer(key), event, self._policy)
        if isinstance(result, Rejected):
            self.dead_letters.append(DeadLetter(result.code, result.detail, record))
        elif customer is not None:
            self._customers[key] = customer
            self.outputs.extend(result)

    def advance(self, key: bytes, until_ms: int) -> None:
        """Cross every line up to `until_ms` that time alone makes a customer cross."""
        customer = self._customer(key)
        if customer is not None and customer.due_at_ms <= until_ms:
            self._customers[key], outputs = models.advance(customer, until_ms, self._policy, key.decode())
            self.outputs.extend(outputs)

    def due_at_ms(self, key: bytes) -> int:
        """When a customer is due, as things stand in this batch."""
        customer = self._customers.get(key)
        if customer is not None:
            return customer.due_at_ms
        kept = self._state_of(key)
        return NEVER_MS if kept is None else due_at_ms_of(kept)

    def _customer(self, key: bytes) -> Customer | None:
        customer = self._customers.get(key)
        if customer is None:
            kept = self._kept[key] = self._state_of(key)
            if kept is not None:
                self.room_needed += len(kept) + ROOM_PER_CUSTOMER
                customer = self._customers[key] = models.decode(kept)
        return customer

    def touched(self) -> Iterator[tuple[bytes, int, int]]:
        """Key, and when it was and now is due, of every customer in hand."""
        for key, customer in self._customers.items():
            kept = self._kept.get(key)
            yield key, NEVER_MS if kept is None else due_at_ms_of(kept), customer.due_at_ms

    def changed(self) -> dict[bytes, bytes]:
        """The customers that changed, encoded."""
        changed = {}
        for key, customer in self._customers.items():
            encoded = models.encode(customer)
            if encoded != self._kept.get(key):
                changed[key] = encoded
        return changed


class Schedule:
    """Which customers are due when. Costs grow with the number due, not with the number of customers.

    Every customer with a due time has an entry no later than it; an entry that turns out too early is put back.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def moved(self, key: bytes, was_due_ms: int, due_at_ms: int) -> None:
        """A customer's due time changed. One that moved later keeps its entry."""
        if due_at_ms < was_due_ms:
            heapq.heappush(self._heap, (due_at_ms, key))

    def next_ms(self) -> int:
        """No customer is due before this."""
        return self._heap[0][0] if self._heap else NEVER_MS

    def due(self, until_ms: int, due_at_ms: Callable[[bytes], int]) -> Iterator[bytes]:
        """The customers due up to `until_ms`, in order, removed as they are asked for.

        `due_at_ms` tells when a customer is due by now. Whoever advances one calls `moved` with NEVER_MS as before.
        """
        heap = self._heap
        while heap and heap[0][0] <= until_ms:
            entry = heapq.heappop(heap)
            while heap and heap[0] == entry:
                heapq.heappop(heap)
            now_due_ms = due_at_ms(entry[1])
            if now_due_ms > until_ms:
                if now_due_ms != NEVER_MS:
                    heapq.heappush(heap, (now_due_ms, entry[1]))
            else:
                yield entry[1]
