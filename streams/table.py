"""The customers' table: bytes by customer and partition, with a changelog whose batches carry their own position.

A batch's changed customers and its marker go to the changelog as one RecordBatch. On recovery customers are staged
until the marker that follows them arrives; what has no marker is not state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import faust
import msgspec
import orjson
from faust.stores import memory
from faust.types import TP, EventT
from msgspec import Struct

from models.customer import SCHEMA_VERSION
from streams.transport import BATCH, produce_atomically

log = logging.getLogger(__name__)

CUSTOMER: Final = b"c"
"""First byte of a customer's changelog key; the rest is the customer's id."""
MARKER: Final = b"m"
"""Changelog key of a partition's marker."""
MAX_CHANGELOG_BATCH_BYTES: Final = 900_000
"""Kafka's default limit for a RecordBatch is 1,048,588 bytes."""


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


NO_MARKER: Final = Marker(0, {}, -1, "", True)


class Partition:
    """One partition of the table in memory."""

    def __init__(self) -> None:
        self.customers: dict[bytes, bytes] = {}
        self.marker = NO_MARKER
        self.unprofiled: set[bytes] = set()
        """Customers changed since profiles were last all published."""

    def apply(self, changed: Mapping[bytes, bytes], marker: Marker) -> None:
        """Take over a batch."""
        if marker.profiled:
            self.unprofiled.clear()
        self.customers.update(changed)
        self.unprofiled.update(changed)
        self.marker = marker


class ChangelogError(RuntimeError):
    """A changelog that can't be restored; the message says which record and what to do."""


class CustomerStore(memory.Store):  # type: ignore[misc]
    """Keeps customers by partition, and gives a partition up whole."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.partitions: dict[int, Partition] = {}
        self._staged: dict[int, dict[bytes, bytes]] = {}

    def partition(self, number: int) -> Partition:
        """The partition, empty if it was not restored."""
        return self.partitions.setdefault(number, Partition())

    def drop_all(self) -> None:
        """Forget everything: it is restored from the changelog by whoever gets it next."""
        self.partitions.clear()
        self._staged.clear()

    def apply_changelog_batch(
        self, batch: Iterable[EventT], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Restore from the changelog. A record that does not decode stops the worker: Faust would skip it silently."""
        for event in batch:
            for record in event.value:
                try:
                    self._restore(event.message.partition, record.key, record.value)
                except Exception as error:
                    where = f"{event.message.topic}, partition {event.message.partition}, offset {record.offset}"
                    failure = ChangelogError(
                        f"the changelog can't be restored at {where}: {error}. Start over with a new "
                        "TIERSTREAM_APP_VERSION, which rebuilds the table from the input topics"
                    )
                    self.app.fail(failure)
                    raise failure from error

    def _restore(self, number: int, key: bytes, value: bytes | None) -> None:
        staged = self._staged.setdefault(number, {})
        if key == MARKER and value is not None:
            self.partition(number).apply(staged, msgspec.json.decode(value, type=Marker))
            staged.clear()
        elif key[:1] == CUSTOMER and value is not None and 1 <= value[0] <= SCHEMA_VERSION:
            staged[key[1:]] = value
        else:
            raise ChangelogError("neither a marker nor a customer's state of a known schema version")

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Everything is restored: fold on."""
        self._staged.clear()
        self.app.take_partitions({tp.partition for tp in active_tps})


class CustomerTable(faust.Table):  # type: ignore[misc]
    """A Faust table for recovery and assignment, written by the batch and not by the key."""

    def _new_store(self) -> CustomerStore:
        return CustomerStore("memory://", self.app, self, table_name=self.name, key_type=None, value_type=None)

    def _new_changelog_topic(self, **_: Any) -> Any:
        return self.app.topic(
            self._changelog_topic_name(), key_serializer="raw", value_serializer=BATCH, partitions=self.partitions,
            compacting=True, deleting=False, acks=False, internal=True, maxsize=1000, allow_empty=True,
        )  # fmt: skip

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Restore every partition from its beginning.

        Faust would read on from where the last recovery ended, as its own stores keep what they had; ours has let
        go of everything, because somebody else may have written since.
        """
        for tp in assigned:
            self.app.tables.recovery.active_offsets.pop(tp, None)
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    def partition(self, number: int) -> Partition:
        """One partition's customers and marker."""
        partition: Partition = self.data.partition(number)
        return partition

    async def write(self, number: int, changed: Mapping[bytes, bytes], marker: Marker) -> None:
        """Append a batch to the changelog and, once it is acknowledged, take it over."""
        records = [(CUSTOMER + key, value) for key, value in changed.items()]
        records.append((MARKER, orjson.dumps(msgspec.to_builtins(marker))))
        await produce_atomically(self.app, self.changelog_topic_name, number, records)
        self.partition(number).apply(changed, marker)
