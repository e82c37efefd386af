"""Whose turn it is: customers that are due by time, and customers that are dealt with one after the other."""

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
"""Entries of the next hour taken into the heap at each look, which are at least a few a second."""
LOOKS_PER_REVIEW: Final = 20
"""How many customers who were judged already are passed over for each that is still to be."""


class Turns(ABC):
    """Customers who are dealt with one after the other, unless that happens in the meantime for an event of theirs."""

    def __init__(self, waiting: list[bytes]) -> None:
        self._waiting = waiting

    @abstractmethod
    def _is_done(self, key: bytes) -> bool:
        """Whether nothing is left to do for a customer."""

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, most: int) -> Iterator[bytes]:
        """The next so many, removed as they are asked for; who is done with is passed over, a few for each."""
        looks = LOOKS_PER_REVIEW * most
        while self._waiting and most > 0 and looks > 0:
            looks -= 1
            key = self._waiting.pop()
            if not self._is_done(key):
                most -= 1
                yield key

    def is_over(self) -> bool:
        """Whether everybody is done with; looks at those whose turn is next."""
        while self._waiting and self._is_done(self._waiting[-1]):
            self._waiting.pop()
        return not self._waiting


class Review(Turns):
    """The customers who are still to be judged under the edition in force."""

    def __init__(self, customers: Mapping[bytes, bytes], number: int) -> None:
        # No more than a copy of references, so that an edition does not stop the stream; who is left is found out bit by bit.
        super().__init__(list(customers) if number else [])
        self._customers = customers
        self._number = number

    def _is_done(self, key: bytes) -> bool:
        return edition_of(self._customers[key]) == self._number


class Unseen(Turns):
    """The customers whom a shadow has still to take over from the table."""

    def __init__(self, own: Mapping[bytes, bytes], main: Mapping[bytes, bytes]) -> None:
        super().__init__([key for key in main if key not in own])
        self._own = own

    def _is_done(self, key: bytes) -> bool:
        return key in self._own


class Schedule:
    """Which customers are due when. Costs grow with the number due, not with the number of customers.

    Every customer with a due time has an entry no later than it; an entry that turns out too early is put back. What is far
    off lies unsorted by the hour, eight bytes a customer; what is near is a heap. An hour is opened little by little in the
    hour before it, so that it does not matter how many customers are due in one.
    """

    def __init__(self, customers: Mapping[bytes, bytes]) -> None:
        self._customers = customers
        self._near: list[tuple[int, bytes]] = []
        """A heap of due time and id: the entries of all slots before `_open`, and some of that."""
        self._far: dict[int, list[bytes]] = {}
        self._far_slots: list[int] = []
        """A heap of the keys of `_far`."""
        self._open = 0
        self.rebuild()

    def __len__(self) -> int:
        return len(self._near) + sum(map(len, self._far.values()))

    def rebuild(self) -> None:
        """Enter every customer anew."""
        self._near, self._far, self._far_slots, self._open = [], {}, [], 0
        for key, kept in self._customers.items():
            self._enter(due_at_ms_of(kept), key)

    def enter(self, entries: Iterable[tuple[int, bytes]]) -> None:
        """Enter customers at their due times."""
        for due_at_ms, key in entries:
            self._enter(due_at_ms, key)

    def next_ms(self) -> int:
        """No customer is due before this."""
        near_ms = self._near[0][0] if self._near else NEVER_MS
        return min(near_ms, self._far_slots[0] * SLOT_MS) if self._far_slots else near_ms

    def count_due(self, until_ms: int, most: int) -> int:
        """About how many customers are due up to `until_ms`; of those of the hour in hand no more than `most` are counted.

        Some may have bought since they were entered, and will turn out not to be due.
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
        """Have all slots up to this one in the heap, and a part of the next."""
        while self._far_slots and self._far_slots[0] <= slot:
            opened = heapq.heappop(self._far_slots)
            self._open = opened + 1
            # A customer who moved to and fro is in it several times; put back once, they don't become ever more.
            for key in dict.fromkeys(self._far.pop(opened)):
                self._enter_near(key, opened)
        self._open = max(self._open, slot + 1)
        ahead = self._far.get(self._open)
        if ahead:
            for _ in range(min(ENTRIES_AHEAD, len(ahead))):
                self._enter_near(ahead.pop(), self._open)

    def _enter_near(self, key: bytes, slot: int) -> None:
        """Take over an entry of a slot, at the time when the customer is due now; put back if that is later."""
        due_at_ms = self._due_at_ms(key)
        if due_at_ms // SLOT_MS <= slot:
            heapq.heappush(self._near, (due_at_ms, key))
        else:
            self._enter(due_at_ms, key)
