"""The customers' table of a partition, with a changelog whose batches carry their own position.

A batch's changed customers and its marker are written to the changelog together. When a table is restored, customers
are staged until the marker that follows them is read; customers without a marker do not count. The marker also has the
number of customers and a checksum of their states, so that a changelog that lost records is noticed. The table is our
own, not Faust's: see docs/decisions/0028-table-of-our-own.md.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from models.policy.editions import Editions
from models.state import SCHEMA_VERSION
from streams.engine.batch import fingerprint
from streams.engine.partition import Outcome, Partition

log = logging.getLogger(__name__)

CUSTOMER: Final = b"c"
"""First byte of a customer's changelog key; the rest is the customer's id."""
MARKER: Final = b"m"
"""Changelog key of a partition's marker."""
MAX_BATCH_BYTES: Final = 900_000
"""How many bytes a batch's customers may take in the changelog; Kafka's default limit for a RecordBatch is
1,048,588.
"""
UNKNOWN: Final = -1


class Marker(Struct, frozen=True):
    """Up to which batch, offsets and time the customers before it in the changelog go."""

    batch: int
    """The batch's number, from 1."""
    offsets: dict[str, int]
    """Per input topic, the last offset folded."""
    clock_ms: int
    """The partition's clock."""
    policy: str
    profiled: bool
    """Whether the profiles of all customers before this batch were published."""
    journal: int = 0
    """The offset in the journal from which entries of later batches are found."""
    customers: int = UNKNOWN
    checksum: int = UNKNOWN
    """How many customers the partition has, and the `fingerprint`s of all of them, xored; UNKNOWN in markers of version
    0.1.
    """
    editions: list[dict[str, Any]] = []
    """The editions that customers may be under (models.policy.editions.Editions.as_wire)."""
    partitioner: str = ""
    """By which partitioner the partition's customers live here; empty in markers of version 0.1, which did not check it."""


NO_MARKER: Final = Marker(0, {}, -1, "", True)
NOTHING_YET: Final = Marker(-1, {}, -1, "", True)
"""Earlier than any marker, also one of batch 0, with which a table that is not empty begins."""


class ChangelogError(RuntimeError):
    """A changelog that can't be restored; the message names the record and says what to do."""


START_OVER: Final = "start a new TIERSTREAM_APP_VERSION, which rebuilds the table from the inputs (docs/changing.md)"


class RestoredTable:
    """A partition's customers as its changelog has them, and the marker that says how far they go."""

    def __init__(self, marker: Marker = NO_MARKER) -> None:
        self.customers: dict[bytes, bytes] = {}
        self.unprofiled: set[bytes] = set()
        """Customers that changed since all profiles were last published."""
        self.marker = marker
        self.checksum = 0

    def take_over(self, changed: Mapping[bytes, bytes], marker: Marker) -> None:
        """Take over a batch. The checksum is computed at the end, over all batches."""
        if marker.profiled:
            self.unprofiled.clear()
        self.customers.update(changed)
        self.unprofiled.update(changed)
        self.marker = marker


class Table(Partition):
    """A partition that is backed by a changelog: it also has its latest marker, and the customers without a published
    profile.
    """

    def __init__(self, restored: RestoredTable, editions: Editions, has_event_clock: bool = True) -> None:
        super().__init__(editions, restored.customers, restored.marker.clock_ms, has_event_clock, restored.checksum)
        self.marker = restored.marker
        self.unprofiled = restored.unprofiled

    def marker_after(
        self, outcome: Outcome, offsets: dict[str, int], policy: str, journal: int, partitioner: str
    ) -> Marker:
        """The marker of a batch with this outcome, which folded the inputs up to and including these offsets."""
        return Marker(
            self.marker.batch + 1,
            self.marker.offsets | offsets,
            outcome.clock_ms,
            policy,
            not self.unprofiled,
            journal,
            outcome.customers,
            outcome.checksum,
            outcome.editions.as_wire(),
            partitioner,
        )

    def commit(self, outcome: Outcome, marker: Marker) -> None:
        """Apply a batch that has been written to the changelog."""
        if marker.profiled:
            self.unprofiled.clear()
        self.apply(outcome)
        self.unprofiled.update(outcome.changes.states)
        self.marker = marker


def changelog_records(changed: Mapping[bytes, bytes], marker: Marker) -> list[tuple[bytes, bytes]]:
    """A batch as changelog records: the changed customers, then the marker."""
    records = [(CUSTOMER + key, state) for key, state in changed.items()]
    records.append((MARKER, msgspec.json.encode(marker)))
    return records


class ChangelogRecord(Protocol):
    """A record of the changelog, from whichever client."""

    @property
    def key(self) -> bytes | None:
        """CUSTOMER and the customer's id, or MARKER."""

    @property
    def value(self) -> bytes | None:
        """The customer's state, or the marker."""

    @property
    def offset(self) -> int:
        """The record's offset in the changelog's partition."""


class TableRestorer:
    """Restores a partition's table from its changelog's records, fed in order."""

    def __init__(self, topic: str, number: int) -> None:
        self._where = f"{topic}, partition {number}"
        self._staged: dict[bytes, bytes] = {}
        self._restored = RestoredTable()

    def feed(self, records: Iterable[ChangelogRecord]) -> None:
        """Take over records. Raises ChangelogError for a record that is neither a customer nor a marker."""
        staged = self._staged
        for record in records:
            key, value = record.key, record.value
            if key is not None and value and key[:1] == CUSTOMER and 1 <= value[0] <= SCHEMA_VERSION:
                staged[key[1:]] = value
            elif key == MARKER and value:
                self._take_over(value, record.offset)
            else:
                raise self._unreadable(record.offset, "neither a marker nor a customer of a known schema version")

    def start_over(self) -> None:
        """Discard everything that was fed so far."""
        self._staged.clear()
        self._restored = RestoredTable(NOTHING_YET)

    @property
    def marker(self) -> Marker:
        """The latest marker that was fed."""
        return self._restored.marker

    @property
    def has_part_of_a_batch(self) -> bool:
        """Whether customers were fed whose marker was not."""
        return bool(self._staged)

    def _take_over(self, value: bytes, offset: int) -> None:
        try:
            marker = msgspec.json.decode(value, type=Marker)
        except msgspec.MsgspecError as error:
            raise self._unreadable(offset, str(error)) from None
        if marker.batch > self._restored.marker.batch:
            self._restored.take_over(self._staged, marker)
        else:
            # Written by a worker that had lost the partition without knowing; the batch of the next owner counts.
            log.warning("%s, offset %d: a batch of an earlier owner, written too late, is skipped", self._where, offset)
        self._staged.clear()

    def _unreadable(self, offset: int, why: str) -> ChangelogError:
        return ChangelogError(
            f"the changelog can't be restored at {self._where}, offset {offset}: {why}. To repair it, {START_OVER}"
        )

    def finish(self) -> RestoredTable:
        """The table as of the latest marker. Raises ChangelogError if its customers are not those that the marker
        describes.
        """
        restored, marker = self._restored, self._restored.marker
        for key, state in restored.customers.items():
            restored.checksum ^= fingerprint(key, state)
        found = (len(restored.customers), restored.checksum)
        if UNKNOWN not in (marker.customers, marker.checksum) and found != (marker.customers, marker.checksum):
            raise ChangelogError(
                f"the changelog {self._where} is damaged: it has {found[0]} customers with checksum {found[1]:016x}, but "
                f"its marker of batch {marker.batch} says {marker.customers} with {marker.checksum:016x}. To repair it, "
                f"{START_OVER}"
            )
        return restored
