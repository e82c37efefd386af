"""Merges the records of several partitions of several topics by time, so that no partition is far ahead of the others.

A partition keeps its own order. Of two partitions the earlier event is first, as far as is known: no record is released
that is later than what a partition with more records on the broker may still deliver. A partition that has more records
and delivers none is waited for, but not longer than `max_idle_seconds`.
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
MAX_WAITING: Final = 200_000
MAX_WAITING_BYTES: Final = 256_000_000
"""How many records may wait, and their bytes. A partition that has more than its share is paused: to pause and to
resume takes the client half a second, so it should be rare.
"""
LEAST_SHARE: Final = 2_000
"""The smallest share of a partition, in records."""


class _Waiting:
    """The records of a partition that wait for their turn."""

    def __init__(self) -> None:
        self.items: deque[MappedRecord] = deque()
        self.bytes = 0
        self.is_at_end = False

    def fills(self, share: int) -> bool:
        """Whether it has at least one `share`-th of all records, or of their bytes, that may wait."""
        return len(self.items) >= max(LEAST_SHARE, MAX_WAITING // share) or self.bytes >= MAX_WAITING_BYTES // share


class PartitionMerge:
    """The records that were read and mapped, and wait to be written."""

    def __init__(self, max_idle_seconds: float) -> None:
        self._max_idle_seconds = max_idle_seconds
        self._waiting: dict[Place, _Waiting] = {}
        self._blocked_since: float | None = None
        self.overdue: list[Place] = []
        """The partitions that have more records, delivered none, and are no longer waited for."""

    def restart(self, places: list[Place]) -> None:
        """Merge these partitions from now on, with no records waiting."""
        self._waiting = {place: _Waiting() for place in sorted(places)}
        self._blocked_since = None

    def add(self, place: Place, items: list[MappedRecord]) -> None:
        """Add the next records of a partition."""
        waiting = self._waiting[place]
        waiting.items.extend(items)
        waiting.bytes += sum(len(item.record.value or b"") for item in items)

    def __len__(self) -> int:
        return sum(len(one.items) for one in self._waiting.values())

    def set_at_end(self, place: Place, is_at_end: bool) -> None:
        """Set whether a partition was read to its present end."""
        self._waiting[place].is_at_end = is_at_end

    def is_drained(self, place: Place) -> bool:
        """Whether a partition was read to its end, and none of its records waits."""
        one = self._waiting[place]
        return one.is_at_end and not one.items

    def partitions_to_pause(self, paused: set[Place]) -> set[Place]:
        """The partitions that should be paused, given those that are."""
        share = max(len(self._waiting), 4)
        # A paused partition is resumed at half its share, so that records remain until more arrive.
        return {place for place, one in self._waiting.items() if one.fills(2 * share if place in paused else share)}

    def take(self, now: float, most: int) -> list[MappedRecord]:
        """Remove and return the records whose turn it is, at most `most`. `now` is a monotonic time in seconds."""
        behind = [place for place, one in self._waiting.items() if not one.items and not one.is_at_end]
        self.overdue = []
        if not behind or not self:
            self._blocked_since = None
        elif self._blocked_since is None:
            self._blocked_since = now
        if behind and (self._blocked_since is None or now < self._blocked_since + self._max_idle_seconds):
            return []
        self.overdue = behind
        # Further records of a partition are not earlier than its last one. Overdue partitions are ignored.
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
