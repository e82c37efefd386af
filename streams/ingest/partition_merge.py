"""One order out of several partitions of several topics: by time, and with none far ahead of the others.

A partition keeps its own order. Between partitions the earlier event goes first, as far as is known: nothing goes that is later
than what a partition with more on the broker may still bring. One that has more and brings nothing is waited for a while.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from itertools import islice, takewhile
from typing import Final

from models.customer import NEVER_MS
from streams.ingest.record_mapping import MappedRecord

Place = tuple[str, int]
"""Topic and partition."""
ENOUGH: Final = 200_000
ENOUGH_BYTES: Final = 256_000_000
"""Records waiting, and bytes of them. A partition that has more than its share is not read on for a while: to pause and go on
takes the client half a second, so it should be rare."""
LEAST: Final = 2_000
"""A partition's share of the records, at the least."""


class _Waiting:
    """The records of a partition that wait for their turn."""

    def __init__(self) -> None:
        self.items: deque[MappedRecord] = deque()
        self.bytes = 0
        self.is_at_end = False

    def fills(self, share: int) -> bool:
        """Whether it has so much of what its partition may have, where that is a part of it all."""
        return len(self.items) >= max(LEAST, ENOUGH // share) or self.bytes >= ENOUGH_BYTES // share


class PartitionMerge:
    """The records in hand."""

    def __init__(self, max_idle_seconds: float) -> None:
        self._max_idle_seconds = max_idle_seconds
        self._waiting: dict[Place, _Waiting] = {}
        self._held_up_since: float | None = None
        self.left_aside: list[Place] = []
        """The partitions that have more and bring nothing, once the patience for them is used up."""

    def begin(self, places: list[Place]) -> None:
        """These partitions are read from now on, and nothing of them is in hand."""
        self._waiting = {place: _Waiting() for place in sorted(places)}
        self._held_up_since = None

    def add(self, place: Place, items: list[MappedRecord]) -> None:
        """The next records of a partition."""
        waiting = self._waiting[place]
        waiting.items.extend(items)
        waiting.bytes += sum(len(item.record.value or b"") for item in items)

    def __len__(self) -> int:
        return sum(len(one.items) for one in self._waiting.values())

    def note_end(self, place: Place, is_at_end: bool) -> None:
        """Whether a partition was read to where it ends now."""
        self._waiting[place].is_at_end = is_at_end

    def drained(self, place: Place) -> bool:
        """Whether a partition is at its end, and nothing of it in hand."""
        one = self._waiting[place]
        return one.is_at_end and not one.items

    def to_pause(self, paused: set[Place]) -> set[Place]:
        """The partitions not to be read on, given those that aren't now."""
        share = max(len(self._waiting), 4)
        # Read on again at half of it, so that there is something left until more comes.
        return {place for place, one in self._waiting.items() if one.fills(2 * share if place in paused else share)}

    def take(self, now: float, most: int) -> list[MappedRecord]:
        """The records whose turn it is, at most so many. `now` is a monotonic time in seconds."""
        behind = [place for place, one in self._waiting.items() if not one.items and not one.is_at_end]
        self.left_aside = []
        if not behind or not self:
            self._held_up_since = None
        elif self._held_up_since is None:
            self._held_up_since = now
        if behind and (self._held_up_since is None or now < self._held_up_since + self._max_idle_seconds):
            return []
        self.left_aside = behind
        # What else one that is not at its end brings is not before its last; one whose patience is used up is left aside.
        open_ends = [one.items[-1].at_ms for one in self._waiting.values() if one.items and not one.is_at_end]
        horizon_ms = min(open_ends, default=NEVER_MS)
        queues = [one.items for one in self._waiting.values() if one.items]
        merged = queues[0] if len(queues) == 1 else heapq.merge(*queues, key=lambda item: item.at_ms)
        taken = list(islice(takewhile(lambda item: item.at_ms <= horizon_ms, merged), most)) if queues else []
        for place, count in Counter((item.record.topic, item.record.partition) for item in taken).items():
            waiting = self._waiting[place]
            for _ in range(count):
                waiting.bytes -= len(waiting.items.popleft().record.value or b"")
        return taken
