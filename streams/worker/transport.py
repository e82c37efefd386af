"""Batches through Faust: a transport that delivers one Faust event per partition and fetch, not per record.

Faust does group membership, assignment, timers and web pages. The work of its consumer per record (four tasks, acks in
sorted lists, intervals of gaps) is replaced by whole batches and one offset per partition, which is reported once
everything before it is done (`mark_done`). See docs/decisions/0027-positions-in-marker.md.
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

from streams.broker.aiokafka_patches import record_heartbeats
from streams.broker.aiokafka_readers import connection_options
from streams.settings import Settings
from streams.worker.assignor import Assignor
from streams.worker.fetch import Fetch, ReadPosition

if TYPE_CHECKING:
    pass

POLL_SECONDS = 1.0
WITHHELD_POLL_SECONDS = 0.05
"""While some partitions are withheld, polls are short, so that a released partition is soon read again."""

FETCH_MAX_WAIT_MS: Final = 500
"""How long the broker may wait for the first byte of a fetch, when the last one was empty."""
BUSY_FETCH_MAX_WAIT_MS: Final = 5
"""The same while records arrive. A fetch asks for the partitions without buffered records, one fetch at a time: records
of other partitions that arrive in the meantime are not read until the broker has answered this fetch.
"""

REVOKE_SECONDS: Final = 5.0
"""How long a rebalance waits for the batches in progress."""
COMMIT_SECONDS: Final = 5.0
"""How long a rebalance waits for the commit of the folded offsets."""

log = logging.getLogger(__name__)


class BatchCodec(codecs.Codec):  # type: ignore[misc]
    """Passes the records of a fetch through Faust unchanged."""

    def loads(self, s: Any) -> Any:
        """As it is."""
        return s

    def dumps(self, s: Any) -> Any:
        """As it is."""
        return s


BATCH: Final = BatchCodec()


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's thread with the group's consumer, which reads committed records only and records its heartbeats."""

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        app, conf = self.app, self.app.conf
        self._assignor = Assignor(app.held_partitions)
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
            **connection_options(app.settings),
        )

    async def on_start(self) -> None:
        """Start the consumer, and record its heartbeats from now on."""
        await super().on_start()

        def record(sent_at: float) -> None:
            self.consumer.last_heartbeat_at = sent_at

        record_heartbeats(self._consumer, record)

    async def on_thread_stop(self) -> None:
        """Stop the consumer."""
        # While the broker is away aiokafka lets the cancellation of its own fetch through; it would end the thread, and
        # the worker would wait for the thread for ever.
        with contextlib.suppress(asyncio.CancelledError):
            await super().on_thread_stop()

    @property
    def patience_ms(self) -> int:
        """How long the broker may wait for records, from the next fetch on (ms)."""
        patience_ms: int = self._consumer._fetcher._fetch_max_wait_ms
        return patience_ms

    @patience_ms.setter
    def patience_ms(self, patience_ms: int) -> None:
        self._consumer._fetcher._fetch_max_wait_ms = patience_ms

    def rejoin(self) -> None:
        """Ask the group for a new assignment."""
        self.thread_loop.call_soon_threadsafe(self._consumer._coordinator.request_rejoin)


class BatchConsumer(driver.Consumer):  # type: ignore[misc]
    """Reads batches of records and commits one offset per partition."""

    last_heartbeat_at = 0.0
    """When the last heartbeat was sent that the group's coordinator answered (monotonic, seconds)."""

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
        """Yield one message per partition that has records; its value is a `Fetch`."""
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
            # There was a rebalance in between: after it every partition is read from where its table ends.
            return
        starts = {tp: self._delivered.get(tp, records[0].offset) for tp, records in fetched.items()}
        self._delivered.update((tp, records[-1].offset + 1) for tp, records in fetched.items())
        self._record_positions(wanted)
        for tp, records in fetched.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            yield tp, _as_message(tp, Fetch(starts[tp], records), generation)

    def _record_positions(self, partitions: Iterable[TP]) -> None:
        """Record how far partitions are read. Right after a fetch, with no other in progress, position and delivery
        agree.
        """
        assignment = self._thread._consumer._subscription.subscription.assignment
        for tp in partitions:
            state = assignment.state_value(tp) if assignment else None
            if state is None or not state.has_valid_position:
                continue
            # Records of an open transaction can't be read yet: for this consumer the partition ends before them.
            stable = state.lso is not None and state.lso >= 0
            self.positions[tp] = ReadPosition(
                self._delivered.get(tp, 0), state.position, state.lso if stable else state.highwater
            )

    async def rewind(self, tp: TP, offset: int) -> None:
        """Seek to an offset. Records of an earlier fetch may still arrive; `Fetch.start` shows that they are."""
        async with self._fetching:
            # A partition that is being revoked can't be positioned; its next owner does that.
            with contextlib.suppress(IllegalStateError):
                await self.seek_wait({tp: offset})
                self._delivered[tp] = offset
                self.positions.pop(tp, None)

    def withhold(self, tp: TP) -> None:
        """Pause reading a partition: enough of its records are waiting."""
        self._withheld.add(tp)

    def release(self, tp: TP) -> None:
        """Resume reading a partition."""
        self._withheld.discard(tp)

    # ------------------------------------------------------------ committing
    def mark_done(self, tp: TP, next_offset: int) -> None:
        """Record that all records of `tp` before `next_offset` are done; the next commit has this offset."""
        self._done[tp] = next_offset

    def ack(self, message: Message) -> bool:
        """Faust acks a batch when the agent has taken it; the offset that is committed is that of `mark_done`."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> list[TP]:
        return [tp for tp in self._done if topics is None or tp in topics or tp.topic in topics]

    def _new_offset(self, tp: TP) -> int | None:
        return self._done.get(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: one offset per partition needs no gaps."""

    def committed(self, tp: TP) -> int | None:
        """The offset last committed, as far as this consumer knows."""
        committed: int | None = self._committed_offset[tp]
        return committed

    # ------------------------------------------------------------ membership
    def is_member(self) -> bool:
        """Whether the group can't have assigned our partitions to others: it got a heartbeat within the session's
        timeout.
        """
        session_seconds: float = self.app.conf.broker_session_timeout
        return time.monotonic() < self.last_heartbeat_at + session_seconds

    def rejoin(self) -> None:
        """Ask the group for a new assignment."""
        self._thread.rejoin()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish the batches in progress and commit their offsets, then give the partitions up."""
        await self.app.release_partitions(REVOKE_SECONDS)
        try:
            await asyncio.wait_for(self.commit(), COMMIT_SECONDS)
        except TimeoutError:
            log.warning(
                "offsets were not committed before a rebalance; the marker makes the next owner skip these records"
            )
        for tp in revoked:
            self._done.pop(tp, None)
            self._delivered.pop(tp, None)
            self.positions.pop(tp, None)
            self._withheld.discard(tp)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Take the assigned partitions; the group has just confirmed the membership."""
        self.last_heartbeat_at = time.monotonic()
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
    """The credentials with which Faust, and through it aiokafka, authenticates with the broker."""
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
