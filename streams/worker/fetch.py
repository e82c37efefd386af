"""What the transport hands over of a partition, and how far it has read: no more than data, which anybody may make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from streams.broker.aiokafka_readers import Records


class Fetch(NamedTuple):
    """The records that one fetch read of a partition."""

    start: int
    """Where the fetch before it ended: from here on no record is missing, whatever the first one's offset is."""
    records: Records

    def records_from(self, offset: int) -> Records | None:
        """The records from an offset on; None if some from there on are not among them.

        They were under way before a rewind then, or something made the consumer jump.
        """
        if self.start > offset:
            return None
        if self.records[0].offset >= offset:
            return self.records
        return [one for one in self.records if one.offset >= offset]


@dataclass(frozen=True, slots=True)
class ReadPosition:
    """How far a partition has been read: what was handed over, what the fetcher passed, and where the log ends."""

    delivered: int
    """The offset after the last record handed to Faust, or where reading started."""
    position: int
    """The offset that the fetcher reads next; beyond `delivered` where the log holds no records, as after a transaction."""
    end: int | None
    """The log's end; None until the broker reported it."""
