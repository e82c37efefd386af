"""What a partition needs from the worker around it: a narrow protocol instead of the whole application.

`TierstreamApp` implements it with a consumer group; `streams.worker.standalone.Standalone` without one, for commands
and tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from faust.types import TP

from models.events import Decoder
from models.policy import Policy
from streams.engine.envelope import Headers
from streams.engine.journal import Entry
from streams.engine.table import Marker
from streams.settings import Settings
from streams.telemetry.stats import Stats
from streams.worker.fetch import ReadPosition

if TYPE_CHECKING:
    from streams.telemetry.spans import Spans


Outgoing = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers of a record to produce."""


class PartitionConsumer(Protocol):
    """What a partition needs from the group's consumer."""

    @property
    def positions(self) -> Mapping[TP, ReadPosition]:
        """How far each topic's partition has been read; without partitions that were not read yet."""

    def withhold(self, tp: TP) -> None:
        """Pause reading a topic's partition."""

    def release(self, tp: TP) -> None:
        """Resume reading it."""

    async def rewind(self, tp: TP, offset: int) -> None:
        """Seek to an offset."""

    async def highwaters(self, *tps: TP) -> Mapping[TP, int]:
        """Where each topic's partition ends now."""

    async def earliest_offsets(self, *tps: TP) -> Mapping[TP, int]:
        """Where each topic's partition begins now."""

    def committed(self, tp: TP) -> int | None:
        """The offset last committed, as far as this consumer knows."""

    def mark_done(self, tp: TP, next_offset: int) -> None:
        """Record that all records before `next_offset` are done; the next commit of the group has this offset."""

    def is_member(self) -> bool:
        """Whether our membership is certain: the group can't have assigned our partitions to others."""

    def rejoin(self) -> None:
        """Ask the group for a new assignment."""


class PartitionContext(Protocol):
    """What a partition needs from the worker."""

    settings: Settings
    policy: Policy
    shadow_policy: Policy | None
    """The policy that is folded beside the first; None if there is none."""
    decoder: Decoder
    stats: Stats
    spans: Spans | None
    """None if nothing is traced."""
    restoring_slots: asyncio.Semaphore
    """Limits how many partitions are restored at once."""

    @property
    def consumer(self) -> PartitionConsumer:
        """The group's consumer."""

    @property
    def generation(self) -> int:
        """The present generation of the group."""

    @property
    def is_rebalancing(self) -> bool:
        """Whether the group is rebalancing."""

    def wake_view(self) -> None:
        """Have the serving view get the policies in force: a partition was restored."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine in a task of its own."""

    def fail(self, error: BaseException) -> None:
        """Stop the whole worker because of an error that a retry would not resolve."""


class PartitionDelivery(Protocol):
    """Writes the outputs of one partition's batches; `streams.worker.delivery.Delivery` writes to a broker."""

    number: int
    generation: int
    """The group's generation in which the partition was last assigned to this worker."""
    journal_position: int
    """The journal's offset from which on all entries of later batches are."""
    is_exactly_once: bool

    async def open(self) -> None:
        """Become the partition's only writer."""

    async def close(self) -> None:
        """Write no more."""

    async def end_undecided(self, as_committed: bool) -> None:
        """End a transaction that the broker left without an end."""

    async def begin(self, topics: Iterable[str] = ...) -> None:
        """Begin a batch, or other records for these topics."""

    async def settle(self) -> None:
        """Wait until the last commit has reached every partition."""

    async def append_journal(self, entry: Entry) -> None:
        """Write what the batch does."""

    async def append_outputs(self, outputs: Mapping[str, Iterable[Outgoing]]) -> None:
        """Write announcements and dead letters, by topic."""

    async def append_carried(self, records: Mapping[int, Iterable[Outgoing]]) -> None:
        """Write strays to the partitions, by their numbers, where their customers live."""

    async def append_state(self, changed: Mapping[bytes, bytes], marker: Marker) -> None:
        """Write the changed customers and the batch's marker."""

    async def append_shadow(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Write the changed customers and the marker of the shadow."""

    async def commit(self, offsets: Mapping[str, int]) -> None:
        """Make the batch final, with the last offset folded of each input topic."""

    async def publish(self, name: str, records: Iterable[Outgoing]) -> None:
        """Write records that belong to no batch."""

    async def publish_everywhere(self, name: str, value: bytes) -> None:
        """Write the same record, keyed by `EVERYBODY`, to every partition of a topic."""
