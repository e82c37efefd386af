"""A batch of events folded into customers: what the worker and the replay have in common.

What a batch will do is settled before anything is folded (`Plan`): first time, then events. So a journal can say it in
advance. Customers are bytes outside and decoded once per batch, however many of its events are theirs.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import models
from models.customer import NEVER_MS, Customer, due_at_ms_of
from models.events import Event, Rejected
from models.outputs import Output
from models.policy import Policy
from streams.merge import Record

ROOM_PER_CUSTOMER: Final = 512
ROOM_PER_EVENT: Final = 192
"""Bytes by which a customer's encoded state can be expected to grow, at the most, per batch and per event."""
STEPS_A_TURN: Final = 100
"""Customers and records folded before others get a turn: appends under way, pages, timers."""


class DeadLetter(NamedTuple):
    """A rejected record and why."""

    code: str
    detail: str
    record: Record


class Plan(NamedTuple):
    """What a batch will do, in this order: advance customers to a time, then fold records."""

    until_ms: int
    due: list[bytes]
    """The customers to advance, in the order in which they are due."""
    records: list[Record]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.due and not self.records


def make_plan(
    customers: Mapping[bytes, bytes],
    schedule: Schedule,
    until_ms: int,
    records: Iterator[Record],
    max_events: int,
    max_bytes: int,
) -> Plan:
    """As many due customers, then as many records, as fit into a batch whose customers take at most `max_bytes`."""
    plan = Plan(until_ms, [], [])
    left_bytes = max_bytes
    seen: set[bytes] = set()

    def make_room_for(key: bytes) -> None:
        nonlocal left_bytes
        if key not in seen:
            seen.add(key)
            left_bytes -= len(customers.get(key, b"")) + ROOM_PER_CUSTOMER

    for key in schedule.due(until_ms):
        plan.due.append(key)
        make_room_for(key)
        if left_bytes <= 0:
            return plan
    while len(plan.records) < max_events and left_bytes > 0 and (record := next(records, None)) is not None:
        plan.records.append(record)
        left_bytes -= ROOM_PER_EVENT
        if isinstance(record.decoded, Event):
            make_room_for(record.decoded.key)
    return plan


class Batch:
    """Customers being folded, from the first event to the bytes that are kept."""

    def __init__(self, policy: Policy, customers: Mapping[bytes, bytes]) -> None:
        self._policy = policy
        self._kept = customers
        self._customers: dict[bytes, Customer] = {}
        self.outputs: list[Output] = []
        self.dead_letters: list[DeadLetter] = []
        self.offsets: dict[str, int] = {}
        """Per topic, the last offset folded."""
        self.events = 0
        self.latest_ms = -1
        """The latest `occurred_at` folded."""

    def fold(self, plan: Plan) -> Iterator[None]:
        """Do what the plan says; yields now and then, so that others get a turn."""
        steps = 0
        for key in plan.due:
            self._advance(key, plan.until_ms)
            steps += 1
            if steps % STEPS_A_TURN == 0:
                yield
        for record in plan.records:
            self._fold(record)
            steps += 1
            if steps % STEPS_A_TURN == 0:
                yield

    def _advance(self, key: bytes, until_ms: int) -> None:
        customer = self._customer(key)
        assert customer is not None, key
        self.outputs.extend(models.advance_own(customer, until_ms, self._policy, key.decode()))

    def _fold(self, record: Record) -> None:
        self.offsets[record.topic] = record.offset
        self.events += 1
        event = record.decoded
        if isinstance(event, Rejected):
            self.dead_letters.append(DeadLetter(event.code, event.detail, record))
            return
        self.latest_ms = max(self.latest_ms, event.occurred_at_ms)
        key = event.key
        customer = self._customer(key)
        if customer is None:
            customer = self._customers[key] = models.new_customer(self._policy, event.occurred_at_ms)
        result = models.apply_own(customer, event, self._policy)
        if isinstance(result, Rejected):
            self.dead_letters.append(DeadLetter(result.code, result.detail, record))
        elif result:
            self.outputs.extend(result)

    def _customer(self, key: bytes) -> Customer | None:
        customer = self._customers.get(key)
        if customer is None and (kept := self._kept.get(key)) is not None:
            customer = self._customers[key] = models.decode(kept)
        return customer

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

    def __init__(self, customers: Mapping[bytes, bytes]) -> None:
        self._customers = customers
        self._heap: list[tuple[int, bytes]] = []
        self.rebuild()

    def __len__(self) -> int:
        return len(self._heap)

    def rebuild(self) -> None:
        """Enter every customer anew."""
        due = ((due_at_ms_of(kept), key) for key, kept in self._customers.items())
        self._heap = [entry for entry in due if entry[0] != NEVER_MS]
        heapq.heapify(self._heap)

    def changing(self, changed: Mapping[bytes, bytes], advanced: Iterable[bytes] = ()) -> None:
        """Enter what is about to replace customers' states; to be called before it does.

        One that moved later keeps its entry, unless it was `advanced`, which took its entry away.
        """
        popped = set(advanced)
        for key, encoded in changed.items():
            due_at_ms = due_at_ms_of(encoded)
            kept = None if key in popped else self._customers.get(key)
            if due_at_ms < (NEVER_MS if kept is None else due_at_ms_of(kept)):
                heapq.heappush(self._heap, (due_at_ms, key))

    def next_ms(self) -> int:
        """No customer is due before this."""
        return self._heap[0][0] if self._heap else NEVER_MS

    def due(self, until_ms: int) -> Iterator[bytes]:
        """The customers due up to `until_ms`, in the order of due time and id, removed as they are asked for."""
        heap = self._heap
        while heap and heap[0][0] <= until_ms:
            entry = heapq.heappop(heap)
            while heap and heap[0] == entry:
                heapq.heappop(heap)
            kept = self._customers.get(entry[1])
            due_at_ms = NEVER_MS if kept is None else due_at_ms_of(kept)
            if due_at_ms == entry[0]:
                yield entry[1]
            elif entry[0] < due_at_ms != NEVER_MS:
                heapq.heappush(heap, (due_at_ms, entry[1]))
