"""The customers' table: bytes by customer and partition, with a changelog whose batches carry their own position.

A batch's changed customers and its marker go to the changelog together. On restoring, customers are staged until the
marker that follows them arrives; what has no marker is not state. The marker also says how many customers there are and
what their bytes add up to, so a changelog that lost something is noticed. It is a table of ours, not Faust's: see
docs/decisions/0028-table-of-our-own.md.
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
"""What a batch's customers may take in the changelog: Kafka's default limit for a RecordBatch is 1,048,588 bytes."""
UNKNOWN: Final = -1


class Marker(Struct, frozen=True):
    """How far the customers before it in the changelog go."""

    batch: int
    """Number of the batch, from 1."""
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
    """How many customers there are, and the `fingerprint`s of all of them xored; UNKNOWN in markers of version 0.1."""
    editions: list[dict[str, Any]] = []
    """The editions that customers may be under (models.policy.editions.Editions.as_wire)."""


NO_MARKER: Final = Marker(0, {}, -1, "", True)
NOTHING_YET: Final = Marker(-1, {}, -1, "", True)
"""Before a marker that may be of batch 0: one with which a table begins that is not empty."""


class ChangelogError(RuntimeError):
    """A changelog that can't be restored; the message says which record and what to do."""


START_OVER: Final = "start a new TIERSTREAM_APP_VERSION, which rebuilds the table from the inputs (docs/changing.md)"


class Restored:
    """What a changelog holds of a partition: its customers, and how far they go."""

    def __init__(self, marker: Marker = NO_MARKER) -> None:
        self.customers: dict[bytes, bytes] = {}
        self.unprofiled: set[bytes] = set()
        """Customers changed since profiles were last all published."""
        self.marker = marker
        self.checksum = 0

    def take_over(self, changed: Mapping[bytes, bytes], marker: Marker) -> None:
        """Take over a batch; the checksum is computed once all are."""
        if marker.profiled:
            self.unprofiled.clear()
        self.customers.update(changed)
        self.unprofiled.update(changed)
        self.marker = marker


class Table(Partition):
    """A partition that a changelog backs: with its position, and whose profiles are still to be published."""

    def __init__(self, restored: Restored, editions: Editions, has_event_clock: bool = True) -> None:
        super().__init__(editions, restored.customers, restored.marker.clock_ms, has_event_clock, restored.checksum)
        self.marker = restored.marker
        self.unprofiled = restored.unprofiled

    def marker_after(self, outcome: Outcome, offsets: dict[str, int], policy: str, journal: int) -> Marker:
        """The marker of the batch with this outcome, which folded its inputs up to and including these offsets."""
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
        )

    def commit(self, outcome: Outcome, marker: Marker) -> None:
        """Take over a batch that the changelog holds."""
        if marker.profiled:
            self.unprofiled.clear()
        self.apply(outcome)
        self.unprofiled.update(outcome.changes.states)
        self.marker = marker


def changelog_records(changed: Mapping[bytes, bytes], marker: Marker) -> list[tuple[bytes, bytes]]:
    """A batch as the changelog holds it."""
    records = [(CUSTOMER + key, state) for key, state in changed.items()]
    records.append((MARKER, msgspec.json.encode(marker)))
    return records


class ChangelogRecord(Protocol):
    """What is asked of a record of the changelog, whichever client read it."""

    @property
    def key(self) -> bytes | None:
        """Which customer, or MARKER."""

    @property
    def value(self) -> bytes | None:
        """The state, or the marker."""

    @property
    def offset(self) -> int:
        """Where it is in the changelog's partition."""


class Restoring:
    """A partition being restored from its changelog's records, fed in order."""

    def __init__(self, topic: str, number: int) -> None:
        self._where = f"{topic}, partition {number}"
        self._staged: dict[bytes, bytes] = {}
        self._restored = Restored()

    def feed(self, records: Iterable[ChangelogRecord]) -> None:
        """Take records over. Raises ChangelogError at one that is neither a customer nor a marker."""
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
        """What came so far counts no more."""
        self._staged.clear()
        self._restored = Restored(NOTHING_YET)

    @property
    def marker(self) -> Marker:
        """The last marker that came."""
        return self._restored.marker

    @property
    def has_part_of_a_batch(self) -> bool:
        """Whether customers came whose marker did not."""
        return bool(self._staged)

    def _take_over(self, value: bytes, offset: int) -> None:
        try:
            marker = msgspec.json.decode(value, type=Marker)
        except msgspec.MsgspecError as error:
            raise self._unreadable(offset, str(error)) from None
        if marker.batch > self._restored.marker.batch:
            self._restored.take_over(self._staged, marker)
        else:
            # Written by a worker that had lost the partition without knowing; its successor's is what counts.
            log.warning("%s, offset %d: a batch that came too late is left out", self._where, offset)
        self._staged.clear()

    def _unreadable(self, offset: int, why: str) -> ChangelogError:
        return ChangelogError(
            f"the changelog can't be restored at {self._where}, offset {offset}: {why}. To repair it, {START_OVER}"
        )

    def finish(self) -> Restored:
        """The partition as of the last marker. Raises ChangelogError if it is not what the marker says."""
        restored, marker = self._restored, self._restored.marker
        for key, state in restored.customers.items():
            restored.checksum ^= fingerprint(key, state)
        found = (len(restored.customers), restored.checksum)
        if UNKNOWN not in (marker.customers, marker.checksum) and found != (marker.customers, marker.checksum):
            raise ChangelogError(
                f"the changelog {self._where} is damaged: it gives {found[0]} customers with checksum {found[1]:016x}, but "
                f"its marker of batch {marker.batch} says {marker.customers} with {marker.checksum:016x}. To repair it, "
                f"{START_OVER}"
            )
        return restored
