"""How far the records of a partition are dealt with, when they are so in any order."""

from __future__ import annotations

from collections import deque


class Offsets:
    """The records in hand of one partition that is ours; once it is not, nothing more of it is done."""

    def __init__(self) -> None:
        self.is_ours = True
        self._in_hand: deque[int] = deque()
        self._done: set[int] = set()
        self._next: int | None = None
        """The first offset that is not dealt with."""
        self._committed: int | None = None

    def begin(self, offset: int) -> None:
        """A record is in hand; in the order of the partition.

        >>> offsets = Offsets()
        >>> for offset in (7, 8, 11):
        ...     offsets.begin(offset)
        >>> offsets.end(8)
        >>> offsets.to_commit()
        >>> offsets.end(7)
        >>> offsets.to_commit(), offsets.to_commit()
        (9, None)
        """
        self._in_hand.append(offset)

    def end(self, offset: int) -> None:
        """A record is dealt with."""
        self._done.add(offset)
        while self._in_hand and self._in_hand[0] in self._done:
            first = self._in_hand.popleft()
            self._done.discard(first)
            self._next = first + 1

    def to_commit(self) -> int | None:
        """Up to where everything is dealt with, if that is further than when it was last asked."""
        if self._next is None or self._next == self._committed:
            return None
        self._committed = self._next
        return self._next

    def not_committed(self) -> None:
        """What was to be committed was not: ask again."""
        self._committed = None
