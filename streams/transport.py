"""Batches through Faust: a transport that delivers one Faust event per partition and fetch, not per record.

Faust keeps what it is good at: group membership, assignment, recovery, timers, web. What its consumer does per
record (four tasks, acks in sorted lists, intervals of gaps) is replaced here by whole batches and one position per
partition, which the shell reports once the work up to it is done (`done`). See docs/architecture.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import faust
from aiokafka import ConsumerRecord
from faust.serializers import codecs
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage, Message

POLL_SECONDS = 1.0
WITHHELD_POLL_SECONDS = 0.05
"""While some partitions are withheld, polls are short, so that a released one is soon read again."""

COMMIT_SECONDS = 5.0
"""How long a rebalance waits for the commit of what was folded."""

log = logging.getLogger(__name__)

Records = list[ConsumerRecord]
Outgoing = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Key, value and headers of a record to produce."""


class BatchCodec(codecs.Codec):  # type: ignore[misc]
    """Passes a list of aiokafka records through Faust untouched."""

    def loads(self, s: Any) -> Any:
        """As it is."""
        return s

    def dumps(self, s: Any) -> Any:
        """As it is."""
        return s


BATCH = "tierstream-batch"
codecs.register(BATCH, BatchCodec())


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a partition has been read: what was handed over, what the fetcher passed, and where the log ends."""

    delivered: int
    """The offset after the last record handed to Faust, or where reading started."""
    position: int
    """The offset that the fetcher reads next; beyond `delivered` where the log holds no records, as after a transaction."""
    end: int | None
    """The log's end, None until the broker told."""


class BatchConsumer(driver.Consumer):  # type: ignore[misc]
    """Reads batches and commits positions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reach: dict[TP, Reach] = {}
        self._done: dict[TP, int] = {}
        self._withheld: set[TP] = set()
        self._delivered: dict[TP, int] = {}

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
        fetched = await self._getmany(wanted, WITHHELD_POLL_SECONDS if self._withheld else POLL_SECONDS)
        if self.should_stop or fetched is None:
            return
        if not self.flow_active:
            # A rebalance came in between: what was fetched is fetched again from the committed offsets.
            await self.perform_seek()
            return
        if self.app.consumer_generation_id != generation:
            return
        for tp, records in fetched.items():
            self._delivered[tp] = records[-1].offset + 1
        self._note_reach(wanted)
        for tp, records in fetched.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            yield tp, _as_message(tp, records, generation)

    def _note_reach(self, partitions: Iterable[TP]) -> None:
        """Right after a fetch, with no other under way: the one moment when position and delivery belong together."""
        assignment = self._thread._consumer._subscription.subscription.assignment
        for tp in partitions:
            state = assignment.state_value(tp) if assignment else None
            if state is None or not state.has_valid_position:
                continue
            self.reach[tp] = Reach(self._delivered.get(tp, 0), state.position, state.highwater)

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

    # ------------------------------------------------------------ rebalancing
    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish the batches in hand and commit them, then let go."""
        await self.app.release_partitions()
        try:
            await asyncio.wait_for(self.commit(), COMMIT_SECONDS)
        except TimeoutError:
            log.warning("offsets were not committed before a rebalance; what they stand for is skipped by the marker")
        for tp in revoked:
            self._done.pop(tp, None)
            self._delivered.pop(tp, None)
            self.reach.pop(tp, None)
            self._withheld.discard(tp)
        await super().on_partitions_revoked(revoked)


class BatchProducer(driver.Producer):  # type: ignore[misc]
    """An idempotent producer: a retry after a lost answer neither repeats nor reorders."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class BatchTransport(driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport, with batches."""

    Consumer = BatchConsumer
    Producer = BatchProducer


def _as_message(tp: TP, records: Records, generation: int) -> Message:
    last = records[-1]
    return ConsumerMessage(
        tp.topic, tp.partition, last.offset, last.timestamp / 1000.0, last.timestamp_type,
        (), None, records, None, 0, 0, tp, generation_id=generation,
    )  # fmt: skip


async def produce(
    app: faust.App,
    topic: str,
    partition: int,
    records: Iterable[Outgoing],
) -> None:
    """Append records to a partition in as few RecordBatches as hold them; return once all are acknowledged.

    Raises KafkaError if any is not, or ValueError if one is larger than a whole batch.
    """
    producer = app.producer._producer
    sent: list[asyncio.Future[Any]] = []
    batch = producer.create_batch()
    for key, value, headers in records:
        if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
            batch.close()
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                raise ValueError(f"a record of {len(value or b'')} bytes for {topic} is larger than a batch")
    if batch.record_count():
        batch.close()
        sent.append(await producer.send_batch(batch, topic, partition=partition))
    if sent:
        await asyncio.gather(*sent)


async def produce_atomically(
    app: faust.App, topic: str, partition: int, records: Iterable[tuple[bytes, bytes | None]]
) -> None:
    """Append all records as one RecordBatch, which Kafka appends whole or not at all; return once acknowledged."""
    producer = app.producer._producer
    batch = producer.create_batch()
    for key, value in records:
        if batch.append(key=key, value=value, timestamp=None) is None:
            raise ValueError(f"a changelog batch for {topic} is larger than {app.conf.producer_max_batch_size} bytes")
    batch.close()
    await (await producer.send_batch(batch, topic, partition=partition))
