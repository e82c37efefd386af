"""Finds the offset that can be committed while records of a partition are handled in any order."""

from __future__ import annotations

from collections import deque


class OffsetTracker:
    """The offsets of one partition's records that are being handled.

    `is_ours` becomes false when the group gives the partition to another process; its records are then no longer
    handled.
    """

    def __init__(self) -> None:
        self.is_ours = True
        self._unfinished: deque[int] = deque()
        self._done: set[int] = set()
        self._next: int | None = None
        """All records before this offset are handled; None at first."""
        self._committed: int | None = None

    def begin(self, offset: int) -> None:
        """Begin a record; call it in the order of the partition.

        >>> offsets = OffsetTracker()
        >>> for offset in (7, 8, 11):
        ...     offsets.begin(offset)
        >>> offsets.finish(8)
        >>> offsets.to_commit()
        >>> offsets.finish(7)
        >>> offsets.to_commit(), offsets.to_commit()
        (9, None)
        """
        self._unfinished.append(offset)

    def finish(self, offset: int) -> None:
        """Finish a record, in any order."""
        self._done.add(offset)
        while self._unfinished and self._unfinished[0] in self._done:
            first = self._unfinished.popleft()
            self._done.discard(first)
            self._next = first + 1

    def to_commit(self) -> int | None:
        """The offset up to which all records are handled, if it is beyond the one that was returned last; else None."""
        if self._next is None or self._next == self._committed:
            return None
        self._committed = self._next
        return self._next

    def commit_failed(self) -> None:
        """The returned offset was not committed: `to_commit` returns it again."""
        self._committed = None
