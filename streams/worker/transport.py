"""Batches through Faust: a transport that delivers one Faust event per partition and fetch, not per record.

Faust keeps what it is good at: group membership, assignment, recovery, timers, web. What its consumer does per
record (four tasks, acks in sorted lists, intervals of gaps) is replaced here by whole batches and one position per
partition, which the shell reports once the work up to it is done (`done`). See docs/decisions/0027-positions-in-marker.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, Final

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import IllegalStateError
from faust.serializers import codecs
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage, Message

from streams.broker.aiokafka_readers import connection
from streams.settings import Settings
from streams.worker.assignor import Assignor
from streams.worker.fetch import Fetch, ReadPosition

if TYPE_CHECKING:
    pass

POLL_SECONDS = 1.0
WITHHELD_POLL_SECONDS = 0.05
"""While some partitions are withheld, polls are short, so that a released one is soon read again."""

FETCH_MAX_WAIT_MS: Final = 500
"""How long the broker may wait for the first byte of a fetch, when nothing has come for a while."""
BUSY_FETCH_MAX_WAIT_MS: Final = 5
"""And while records come. A fetch asks for the partitions of which nothing is at hand, and there is one at a time: whatever comes
of the others in the meantime waits until the broker has waited for these."""

REVOKE_SECONDS: Final = 5.0
"""How long a rebalance waits for the batches in hand."""
COMMIT_SECONDS: Final = 5.0
"""How long a rebalance waits for the commit of what was folded."""

log = logging.getLogger(__name__)


class BatchCodec(codecs.Codec):  # type: ignore[misc]
    """Passes what a fetch brought through Faust untouched."""

    def loads(self, s: Any) -> Any:
        """As it is."""
        return s

    def dumps(self, s: Any) -> Any:
        """As it is."""
        return s


BATCH: Final = BatchCodec()


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's thread with the group's consumer, which reads committed records only and notes its heartbeats."""

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        app, conf = self.app, self.app.conf
        self._assignor = Assignor(app.held)
        return AIOKafkaConsumer(
            group_id=conf.id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=conf.broker_max_poll_records,
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
            **connection(app.settings),
        )

    async def on_start(self) -> None:
        """Start the consumer, and listen to its heartbeats."""
        await super().on_start()
        coordinator = self._consumer._coordinator
        beat = coordinator._do_heartbeat

        async def beat_and_note() -> bool:
            asked_at = time.monotonic()
            answered: bool = await beat()
            if answered:
                self.consumer.heard_at = asked_at
            return answered

        coordinator._do_heartbeat = beat_and_note

    async def on_thread_stop(self) -> None:
        """Stop the consumer."""
        # With the broker away aiokafka hands on the cancellation of its own fetch; the thread would die of it, and the
        # worker wait for the thread for ever.
        with contextlib.suppress(asyncio.CancelledError):
            await super().on_thread_stop()

    @property
    def patience_ms(self) -> int:
        """How long the broker may wait for something to come, from the next fetch on."""
        patience_ms: int = self._consumer._fetcher._fetch_max_wait_ms
        return patience_ms

    @patience_ms.setter
    def patience_ms(self, patience_ms: int) -> None:
        self._consumer._fetcher._fetch_max_wait_ms = patience_ms

    def rejoin(self) -> None:
        """Ask the group for a new assignment."""
        self.thread_loop.call_soon_threadsafe(self._consumer._coordinator.request_rejoin)


class BatchConsumer(driver.Consumer):  # type: ignore[misc]
    """Reads batches and commits positions."""

    heard_at = 0.0
    """When the last heartbeat that the group's coordinator answered was sent, monotonic seconds."""

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.positions: dict[TP, ReadPosition] = {}
        self._done: dict[TP, int] = {}
        self._withheld: set[TP] = set()
        self._delivered: dict[TP, int] = {}
        self._fetching = asyncio.Lock()

    # ------------------------------------------------------------ reading
    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Yield one message per partition that has records, its value the list of them."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        wanted = self._get_active_partitions() - self._withheld
        if not wanted:
            await self.sleep(WITHHELD_POLL_SECONDS)
            return
        generation = self.app.consumer_generation_id
        async with self._fetching:
            fetched = await self._getmany(wanted, WITHHELD_POLL_SECONDS if self._withheld else POLL_SECONDS)
        if self.should_stop or fetched is None:
            return
        self._thread.patience_ms = BUSY_FETCH_MAX_WAIT_MS if fetched else FETCH_MAX_WAIT_MS
        if not self.flow_active or self.app.consumer_generation_id != generation:
            # A rebalance came in between: after it every partition is read from where its table ends.
            return
        starts = {tp: self._delivered.get(tp, records[0].offset) for tp, records in fetched.items()}
        self._delivered.update((tp, records[-1].offset + 1) for tp, records in fetched.items())
        self._note_positions(wanted)
        for tp, records in fetched.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            yield tp, _as_message(tp, Fetch(starts[tp], records), generation)

    def _note_positions(self, partitions: Iterable[TP]) -> None:
        """Right after a fetch, with no other under way: the one moment when position and delivery belong together."""
        assignment = self._thread._consumer._subscription.subscription.assignment
        for tp in partitions:
            state = assignment.state_value(tp) if assignment else None
            if state is None or not state.has_valid_position:
                continue
            # Records of a transaction under way can't be read yet: for us the log ends before them.
            stable = state.lso is not None and state.lso >= 0
            self.positions[tp] = ReadPosition(
                self._delivered.get(tp, 0), state.position, state.lso if stable else state.highwater
            )

    async def rewind(self, tp: TP, offset: int) -> None:
        """Read on from an offset; what was read before is not told apart, but by `Fetch.start`."""
        async with self._fetching:
            # A partition that is being taken away is positioned anew by whoever gets it.
            with contextlib.suppress(IllegalStateError):
                await self.seek_wait({tp: offset})
                self._delivered[tp] = offset
                self.positions.pop(tp, None)

    def withhold(self, tp: TP) -> None:
        """Read no more from this partition for now: whoever works on it has enough."""
        self._withheld.add(tp)

    def release(self, tp: TP) -> None:
        """Read from it again."""
        self._withheld.discard(tp)

    # ------------------------------------------------------------ committing
    def done(self, tp: TP, next_offset: int) -> None:
        """All records of `tp` before `next_offset` are done with; the next commit says so."""
        self._done[tp] = next_offset

    def ack(self, message: Message) -> bool:
        """Faust acks a batch when the agent has taken it; what is committed is what `done` reports."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> list[TP]:
        return [tp for tp in self._done if topics is None or tp in topics or tp.topic in topics]

    def _new_offset(self, tp: TP) -> int | None:
        return self._done.get(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Positions have no gaps."""

    def committed(self, tp: TP) -> int | None:
        """The offset last committed, as far as this consumer knows."""
        committed: int | None = self._committed_offset[tp]
        return committed

    # ------------------------------------------------------------ membership
    def is_member(self) -> bool:
        """Whether the group can't have given our partitions to others: it heard from us within the session's timeout."""
        session_seconds: float = self.app.conf.broker_session_timeout
        return time.monotonic() < self.heard_at + session_seconds

    def rejoin(self) -> None:
        """Ask the group for a new assignment."""
        self._thread.rejoin()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish the batches in hand and commit them, then let go."""
        await self.app.release_partitions(REVOKE_SECONDS)
        try:
            await asyncio.wait_for(self.commit(), COMMIT_SECONDS)
        except TimeoutError:
            log.warning("offsets were not committed before a rebalance; what they stand for is skipped by the marker")
        for tp in revoked:
            self._done.pop(tp, None)
            self._delivered.pop(tp, None)
            self.positions.pop(tp, None)
            self._withheld.discard(tp)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Members as of now."""
        self.heard_at = time.monotonic()
        await super().on_partitions_assigned(assigned, generation_id)
        if generation_id == self.app.consumer_generation_id:
            self.app.take_partitions(assigned, generation_id)


class BatchTransport(driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport, with batches."""

    Consumer = BatchConsumer


def _as_message(tp: TP, fetched: Fetch, generation: int) -> Message:
    last = fetched.records[-1]
    return ConsumerMessage(
        tp.topic, tp.partition, last.offset, last.timestamp / 1000.0, last.timestamp_type,
        (), None, fetched, None, 0, 0, tp, generation_id=generation,
    )  # fmt: skip


def credentials(settings: Settings) -> Any:
    """How Faust, and with it aiokafka, shows the broker who it is."""
    if settings.security_protocol == "PLAINTEXT":
        return None
    context = settings.ssl_context()
    if settings.security_protocol == "SSL":
        return faust.SSLCredentials(context=context)
    assert settings.sasl_password is not None
    return faust.SASLCredentials(
        username=settings.sasl_username,
        password=settings.sasl_password.get_secret_value(),
        mechanism=settings.sasl_mechanism,
        ssl_context=context,
    )
