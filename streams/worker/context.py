"""What a partition needs of the worker around it: a narrow protocol in place of the whole application.

`TierstreamApp` is the one with a group; `streams.worker.standalone.Standalone` is the one without, for commands and tests.
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
    """What a partition needs of the group's consumer."""

    @property
    def positions(self) -> Mapping[TP, ReadPosition]:
        """How far each topic's partition has been read; none for one that was not read yet."""

    def withhold(self, tp: TP) -> None:
        """Read no more from this partition for now."""

    def release(self, tp: TP) -> None:
        """Read from it again."""

    async def rewind(self, tp: TP, offset: int) -> None:
        """Read on from an offset."""

    async def highwaters(self, *tps: TP) -> Mapping[TP, int]:
        """Where each log ends now."""

    async def earliest_offsets(self, *tps: TP) -> Mapping[TP, int]:
        """Where each log begins now."""

    def committed(self, tp: TP) -> int | None:
        """The offset last committed, as far as this consumer knows."""

    def done(self, tp: TP, next_offset: int) -> None:
        """All records before `next_offset` are done with; the next commit of the group says so."""

    def is_member(self) -> bool:
        """Whether the group can't have given our partitions to others."""

    def rejoin(self) -> None:
        """Ask the group for a new assignment."""


class PartitionContext(Protocol):
    """What a partition needs of the worker."""

    settings: Settings
    policy: Policy
    shadow_policy: Policy | None
    """The policy that is folded beside the first; None where there is none."""
    decoder: Decoder
    stats: Stats
    spans: Spans | None
    """None: nothing is traced."""
    restoring_slots: asyncio.Semaphore
    """Bounds how many partitions are restored at once."""

    @property
    def consumer(self) -> PartitionConsumer:
        """The group's consumer."""

    @property
    def generation(self) -> int:
        """The group's present generation."""

    @property
    def is_rebalancing(self) -> bool:
        """Whether the group is about to share its partitions anew."""

    def wake_view(self) -> None:
        """A partition was restored: the serving view has to learn under which policies its customers are."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine beside everything else."""

    def fail(self, error: BaseException) -> None:
        """Stop the whole worker because of an error that trying again does not cure."""


class PartitionDelivery(Protocol):
    """How what a batch writes leaves, for one partition; `streams.worker.delivery.Delivery` is the one with a broker."""

    number: int
    generation: int
    """The group's generation in which the partition was last assigned to us."""
    journal_position: int
    """An offset in the journal from which all entries of later batches are found."""
    is_exactly_once: bool

    async def open(self) -> None:
        """Become the partition's only writer."""

    async def close(self) -> None:
        """Write no more."""

    async def end_undecided(self, as_committed: bool) -> None:
        """End a transaction that the broker left without an end."""

    async def begin(self, topics: Iterable[str] = ...) -> None:
        """Begin a batch, or what else goes to these topics."""

    async def settle(self) -> None:
        """Wait until what was committed last is so in every partition."""

    async def append_journal(self, entry: Entry) -> None:
        """Write what the batch does."""

    async def append_outputs(self, outputs: Mapping[str, Iterable[Outgoing]]) -> None:
        """Write announcements and dead letters, by topic."""

    async def append_state(self, changed: Mapping[bytes, bytes], marker: Marker) -> None:
        """Write the changed customers and how far they go."""

    async def append_shadow(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Write the same under the shadow policy."""

    async def commit(self, offsets: Mapping[str, int]) -> None:
        """Make the batch final, with the last offset folded of each input topic."""

    async def publish(self, name: str, records: Iterable[Outgoing]) -> None:
        """Write records that belong to no batch."""

    async def publish_everywhere(self, name: str, value: bytes) -> None:
        """Write the same record, keyed by `EVERYBODY`, to every partition of a topic."""
