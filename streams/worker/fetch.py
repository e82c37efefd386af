"""The data that the transport hands over: the records of one fetch, and how far a partition has been read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from streams.broker.aiokafka_readers import Records


class Fetch(NamedTuple):
    """The records that one fetch read from a partition."""

    start: int
    """Where the fetch before it ended: no record from this offset on is missing, whatever the first record's offset
    is.
    """
    records: Records

    def records_from(self, offset: int) -> Records | None:
        """The records from an offset on; None if the fetch does not reach back to that offset.

        Then the fetch was in progress before a rewind, or something made the consumer jump.
        """
        if self.start > offset:
            return None
        if self.records[0].offset >= offset:
            return self.records
        return [one for one in self.records if one.offset >= offset]


@dataclass(frozen=True, slots=True)
class ReadPosition:
    """How far a partition has been read: what was handed over, where the fetcher is, and where the partition ends."""

    delivered: int
    """The offset after the last record handed to Faust, or where reading started."""
    position: int
    """The offset that the fetcher reads next; it is beyond `delivered` after offsets without records, as ends of
    transactions.
    """
    end: int | None
    """The end of the partition; None until the broker has reported it."""
