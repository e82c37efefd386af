"""Which customers are next: those that are due by time, and backlogs of customers that are processed bit by bit."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from models import units
from models.customer import NEVER_MS
from models.state import due_at_ms_of, edition_of

SLOT_MS: Final = units.HOUR_MS
ENTRIES_AHEAD: Final = 500
"""How many entries of the next hour are moved to the heap per look; there are at least a few looks a second."""
LOOKS_PER_CUSTOMER: Final = 20
"""How many customers that are already done are skipped at most, for each customer asked for."""


class Backlog(ABC):
    """Customers to be processed bit by bit; those that an event of theirs takes care of in the meantime are skipped."""

    def __init__(self, waiting: list[bytes]) -> None:
        self._waiting = waiting

    @abstractmethod
    def _is_done(self, key: bytes) -> bool:
        """Whether nothing is left to do for a customer."""

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, most: int) -> Iterator[bytes]:
        """Up to `most` customers, removed as they are asked for. Customers that are done are skipped, up to a limit."""
        looks = LOOKS_PER_CUSTOMER * most
        while self._waiting and most > 0 and looks > 0:
            looks -= 1
            key = self._waiting.pop()
            if not self._is_done(key):
                most -= 1
                yield key

    def is_over(self) -> bool:
        """Whether nothing is left to do; drops customers at the end that are already done."""
        while self._waiting and self._is_done(self._waiting[-1]):
            self._waiting.pop()
        return not self._waiting


class Review(Backlog):
    """The customers that still have to be judged under the edition in force."""

    def __init__(self, customers: Mapping[bytes, bytes], number: int) -> None:
        # Only references are copied, so that a new edition does not stop the stream; `_is_done` is asked later.
        super().__init__(list(customers) if number else [])
        self._customers = customers
        self._number = number

    def _is_done(self, key: bytes) -> bool:
        return edition_of(self._customers[key]) == self._number


class ShadowBacklog(Backlog):
    """The customers that a shadow still has to take over from the table."""

    def __init__(self, own: Mapping[bytes, bytes], main: Mapping[bytes, bytes]) -> None:
        super().__init__([key for key in main if key not in own])
        self._own = own

    def _is_done(self, key: bytes) -> bool:
        return key in self._own


class Schedule:
    """When each customer is due. Costs grow with the number of customers due, not with the number of customers.

    Every customer with a due time has an entry no later than that time; an entry that turns out to be too early is put
    back. Entries of later hours are unsorted lists, one per hour, eight bytes a customer; near entries are in a heap.
    The entries of an hour are moved to the heap little by little during the hour before, so an hour with many due
    customers causes no pause.
    """

    def __init__(self, customers: Mapping[bytes, bytes]) -> None:
        self._customers = customers
        self._near: list[tuple[int, bytes]] = []
        """A heap of due time and id: the entries of all slots before `_open`, and some of that slot."""
        self._far: dict[int, list[bytes]] = {}
        self._far_slots: list[int] = []
        """A heap of the keys of `_far`."""
        self._open = 0
        self.rebuild()

    def __len__(self) -> int:
        return len(self._near) + sum(map(len, self._far.values()))

    def rebuild(self) -> None:
        """Rebuild the schedule from all customers."""
        self._near, self._far, self._far_slots, self._open = [], {}, [], 0
        for key, kept in self._customers.items():
            self._enter(due_at_ms_of(kept), key)

    def enter(self, entries: Iterable[tuple[int, bytes]]) -> None:
        """Enter customers at their due times."""
        for due_at_ms, key in entries:
            self._enter(due_at_ms, key)

    def next_ms(self) -> int:
        """A time before which no customer is due."""
        near_ms = self._near[0][0] if self._near else NEVER_MS
        return min(near_ms, self._far_slots[0] * SLOT_MS) if self._far_slots else near_ms

    def count_due(self, until_ms: int, most: int) -> int:
        """About how many customers are due up to `until_ms`; of the entries in the heap no more than `most` are
        counted.

        Some customers may have bought since they were entered, and will turn out not to be due.
        """
        near, found, look_at = self._near, 0, [0]
        while look_at and found < most:
            place = look_at.pop()
            if place < len(near) and near[place][0] <= until_ms:
                found += 1
                look_at += (2 * place + 1, 2 * place + 2)  # nothing below an entry of a heap is earlier
        if self._far_slots and self._far_slots[0] < until_ms // SLOT_MS:
            found += sum(len(keys) for slot, keys in self._far.items() if slot < until_ms // SLOT_MS)
        return found

    def due(self, until_ms: int) -> Iterator[bytes]:
        """The customers due up to `until_ms`, in the order of due time and id, removed as they are asked for."""
        self._open_up_to(until_ms // SLOT_MS)
        near = self._near
        while near and near[0][0] <= until_ms:
            entry = heapq.heappop(near)
            while near and near[0] == entry:
                heapq.heappop(near)
            entered_ms, key = entry
            due_at_ms = self._due_at_ms(key)
            if due_at_ms == entered_ms:
                yield key
            elif entered_ms < due_at_ms:
                self._enter(due_at_ms, key)

    def _due_at_ms(self, key: bytes) -> int:
        kept = self._customers.get(key)
        return NEVER_MS if kept is None else due_at_ms_of(kept)

    def _enter(self, due_at_ms: int, key: bytes) -> None:
        if due_at_ms == NEVER_MS:
            return
        slot = due_at_ms // SLOT_MS
        if slot < self._open:
            heapq.heappush(self._near, (due_at_ms, key))
            return
        keys = self._far.get(slot)
        if keys is None:
            self._far[slot] = [key]
            heapq.heappush(self._far_slots, slot)
        else:
            keys.append(key)

    def _open_up_to(self, slot: int) -> None:
        """Move the entries of all slots up to this one to the heap, and a part of the next slot."""
        while self._far_slots and self._far_slots[0] <= slot:
            opened = heapq.heappop(self._far_slots)
            self._open = opened + 1
            # A customer whose due time moved back and forth has several entries; only one of them is put back.
            for key in dict.fromkeys(self._far.pop(opened)):
                self._enter_near(key, opened)
        self._open = max(self._open, slot + 1)
        ahead = self._far.get(self._open)
        if ahead:
            for _ in range(min(ENTRIES_AHEAD, len(ahead))):
                self._enter_near(ahead.pop(), self._open)

    def _enter_near(self, key: bytes, slot: int) -> None:
        """Move an entry of a slot to the heap, at the customer's present due time; put it back if that is later."""
        due_at_ms = self._due_at_ms(key)
        if due_at_ms // SLOT_MS <= slot:
            heapq.heappush(self._near, (due_at_ms, key))
        else:
            self._enter(due_at_ms, key)
