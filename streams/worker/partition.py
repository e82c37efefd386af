"""One partition of this worker: taken, restored, folded batch by batch, released, forgotten.

What happens within a batch is in flow.py. This module is about what happens around batches: when the group assigns and
revokes partitions, and when the broker is away for a while.
"""

from __future__ import annotations

import asyncio
import logging
import time
from enum import Enum
from typing import Final

from aiokafka.errors import KafkaError

from models.outputs import PROFILES
from streams.engine.table import Table
from streams.telemetry.stats import FENCED, INTERRUPTED
from streams.topics import shadow_of
from streams.worker.census import PartitionCensus
from streams.worker.context import PartitionContext, PartitionDelivery
from streams.worker.delivery import Delivery, Fenced, Interrupted, translate_error
from streams.worker.fetch import Fetch
from streams.worker.flow import Flow
from streams.worker.inputs import Inputs
from streams.worker.profiles import Profiles
from streams.worker.restoring import PartitionRestorer, check_nothing_is_lost
from streams.worker.shadow import Shadow

log = logging.getLogger(__name__)

IDLE_SECONDS: Final = 0.2
"""How often a partition without records looks at the clock."""
RETRY_SECONDS: Final = (0.5, 10.0)
"""How long a partition whose batch was interrupted waits before it is restored again: at first, and at most."""
LAST_PROFILES_SECONDS: Final = 1.0
"""How long a partition that is being released still publishes profiles; the next owner publishes the rest."""


class PartitionState(Enum):
    """What a partition is doing. The value is what /stats says while the partition does not fold."""

    UNASSIGNED = "its next assignment"
    WAITING = "waiting for the others to let go"
    BECOMING_OWNER = "becoming its owner"
    RESTORING = "restoring"
    INTERRUPTED = "interrupted"
    FOLDING = "folding"


class PartitionWorker:
    """Folds the input topics of one partition, for as long as it is assigned to this worker.

    Its table is kept over a rebalance that leaves the partition with this worker: no other worker can have written in
    between.
    """

    def __init__(self, context: PartitionContext, number: int, delivery: PartitionDelivery | None = None) -> None:
        self.context = context
        self.number = number
        self.log = logging.LoggerAdapter(log, {"partition": number})
        self.spans = None if context.spans is None else context.spans.of_partition(number)
        self.delivery: PartitionDelivery = Delivery(context, number) if delivery is None else delivery
        self.inputs = Inputs(context, number, self.spans)
        self.flow: Flow | None = None
        """None while the partition has to be restored."""
        self.state = PartitionState.UNASSIGNED
        self.detail = ""
        """How far restoring is, or why the partition was interrupted."""
        self.caught_up = False
        """Whether all records that the inputs had when the partition was taken are folded."""
        self.generation = 0
        self._stopping = False
        self._idle = False
        self._task: asyncio.Task[None] | None = None
        interval_seconds = context.settings.profile_interval / 1000
        self.profiles = [Profiles(PROFILES, self.delivery, lambda: self.table, interval_seconds)]
        """The profiles of the table, then those of the shadow."""
        self.shadow: Shadow | None = None
        if context.shadow_policy is not None:
            self.shadow = shadow = Shadow(context.shadow_policy, self.delivery, number)
            self.profiles.append(Profiles(shadow_of(PROFILES), self.delivery, lambda: shadow.table, interval_seconds))
        self.census: PartitionCensus | None = None
        if context.policy.relative is not None:
            self.census = PartitionCensus(context.settings, number, self.delivery, context.policy.relative)

    @property
    def table(self) -> Table | None:
        """The partition's customers; None while it has to be restored."""
        return None if self.flow is None else self.flow.table

    @property
    def is_folding(self) -> bool:
        """Whether the partition is restored and takes records."""
        return self.state is PartitionState.FOLDING and self.flow is not None

    def _enter(self, state: PartitionState, detail: str = "") -> None:
        self.state, self.detail = state, detail

    # ------------------------------------------------------------ assigned and revoked by the group
    def take(self, generation: int) -> None:
        """Fold in this generation of the group. The table in memory is current only if the worker missed no
        generation.
        """
        if generation != self.generation + 1:
            self.flow = None
        self.generation = self.delivery.generation = generation
        self._stopping = self.caught_up = self._idle = False
        self._enter(PartitionState.WAITING)
        self.inputs.withhold()
        self._task = asyncio.create_task(self._run())

    async def release(self, seconds: float) -> None:
        """Finish the batch in progress, within so many seconds, and fold no more; timers stop at once."""
        self._stopping = True
        self.inputs.arrived.set()
        task, self._task = self._task, None
        if task is None:
            return
        if not self.is_folding:
            task.cancel()
        _, late = await asyncio.wait({task}, timeout=seconds)
        if late:
            task.cancel()
            await asyncio.wait({task})

    async def forget(self) -> None:
        """Drop the table and close the producer: the partition has moved to another worker."""
        self.flow = None
        await self.delivery.close()

    # ------------------------------------------------------------ from taken to released
    async def _run(self) -> None:
        """Fold until released. After a temporary failure the partition is restored as committed; any other stops the
        worker.
        """
        pause_seconds, most_seconds = RETRY_SECONDS
        try:
            while not self._stopping:
                try:
                    try:
                        flow = await self._get_ready()
                    except KafkaError as error:
                        raise translate_error(error, self.number) from error
                    pause_seconds = RETRY_SECONDS[0]
                    await self._fold_until_released(flow)
                except Interrupted as error:
                    self.context.stats.count_interruption(INTERRUPTED)
                    self.log.warning("partition %d is restored again as committed: %s", self.number, error)
                    self.flow = None
                    self._enter(PartitionState.INTERRUPTED, str(error))
                    await asyncio.sleep(pause_seconds)
                    pause_seconds = min(2 * pause_seconds, most_seconds)
        except Fenced:
            self.context.stats.count_interruption(FENCED)
            self.log.warning("partition %d has another owner; the batch in progress is left to that owner", self.number)
            self.flow = None
            if self.generation == self.context.generation:
                self.context.consumer.rejoin()
        except asyncio.CancelledError:
            if self.state is PartitionState.FOLDING:
                # Cancelled within a batch. (Before the partition folds, its table is as committed.)
                self.flow = None
            raise
        except Exception as error:
            self.flow = None
            self.context.fail(error)

    async def _get_ready(self) -> Flow:
        """Have the table as committed, and the consumer read on from there."""
        is_restored = self.flow is None
        if self.flow is None:
            async with self.context.restoring_slots:
                self.flow = await self._restore()
                self.context.wake_view()
        flow = self.flow
        for profiles in self.profiles:
            profiles.forget_round()
        while self.context.is_rebalancing:
            # At the end of a rebalance Faust seeks to the committed positions; our own seek has to come later.
            await asyncio.sleep(0.02)
        self.inputs.begin_after(flow.table.marker.offsets)
        # What was read beyond the table is read again, so time begins where the table's does.
        flow.table.latest_ms = flow.table.clock_ms
        if is_restored:
            await check_nothing_is_lost(self.context, self.inputs)
        await self.inputs.rewind()
        # An owner before may have died between a batch and the next commit of the group, and nothing may come after it.
        self.inputs.mark_done(flow.table.marker.offsets)
        self._enter(PartitionState.FOLDING)
        self.inputs.release()
        return flow

    async def _restore(self) -> Flow:
        """Become the partition's owner, and restore it."""
        self._enter(PartitionState.BECOMING_OWNER)
        await self.delivery.open()
        self._enter(PartitionState.RESTORING)
        started = time.monotonic()
        restorer = PartitionRestorer(self.context, self.number, self.delivery, self.shadow)
        found = await restorer.restore(lambda progress: self._enter(PartitionState.RESTORING, progress))
        seconds, customers = time.monotonic() - started, len(found.table.customers)
        self.context.stats.record_restoration(customers, seconds)
        if self.spans is not None:
            self.spans.record_restoration(customers, seconds)
        self.log.info("partition %d: restored %d customers in %.1f s", self.number, customers, seconds)
        return Flow(self.context, self.number, *found, self.inputs, self.delivery, self.shadow, self.spans)

    async def _fold_until_released(self, flow: Flow) -> None:
        while not self._stopping:
            self._idle = not await self.step(flow)
            if self._idle:
                await self._wait_for_work(flow)
        deadline = time.monotonic() + LAST_PROFILES_SECONDS
        for profiles in self.profiles:
            self.context.stats.count_profiles(await profiles.publish_until(deadline))

    async def step(self, flow: Flow) -> bool:
        """Fold one batch, publish profiles, count for a census; returns False if there was nothing to do."""
        folded = await flow.fold_next_batch()
        self.caught_up = self.caught_up or self.inputs.has_caught_up(flow.table.marker.offsets)
        idle, published = not folded and self.inputs.merge.is_drained(), 0
        for profiles in self.profiles:
            published += await profiles.take_turn(idle)
        self.context.stats.count_profiles(published)
        counted = self.census is not None and self.caught_up and await self.census.take_turn(flow.table, flow.time_ms())
        return bool(published) or counted or folded

    async def _wait_for_work(self, flow: Flow) -> None:
        """Wait until there are records, a customer is due, or it is time to look at the inputs again."""
        held_up = self.inputs.merge.seconds_held_up(time.monotonic())
        seconds = min(IDLE_SECONDS, held_up) if held_up > 0 else IDLE_SECONDS
        if self.context.settings.clock == "wall":
            next_ms = flow.table.schedule.next_ms()
            if self.shadow is not None:
                next_ms = min(next_ms, self.shadow.next_ms())
            due_in = (next_ms - time.time_ns() // 1_000_000) / 1000
            seconds = min(seconds, max(due_in, 0.001))
        try:
            await asyncio.wait_for(self.inputs.arrived.wait(), seconds)
        except TimeoutError:
            return
        finally:
            self.inputs.arrived.clear()

    # ------------------------------------------------------------ called by the worker around it
    def offer(self, topic: str, fetch: Fetch) -> None:
        """Take records from the transport. Until the partition folds they are dropped: they are read again after
        restoring.
        """
        if self.is_folding:
            assert self.flow is not None
            self.inputs.offer(topic, fetch, may_withhold=not self.flow.unfinished)

    def lag(self, topic: str) -> int | None:
        """How many offsets the table is behind the end of an input; None if that is not known."""
        if not self.is_folding:
            return None
        assert self.flow is not None
        return self.inputs.lag(topic, self.flow.table.marker.offsets)

    def waits_for(self) -> list[str]:
        """What is still to be done until everything on the broker is folded, announced and published; empty if nothing
        is.
        """
        if not self.is_folding:
            state = PartitionState.UNASSIGNED if self.state is PartitionState.FOLDING else self.state
            separator = ": " if state is PartitionState.INTERRUPTED else ", "
            return [f"partition {self.number}: {state.value}" + (f"{separator}{self.detail}" if self.detail else "")]
        assert self.flow is not None
        flow, table = self.flow, self.flow.table
        found = self.inputs.waits_for()
        if not self._idle or flow.unfinished or table.schedule.next_ms() <= table.clock_ms:
            found.append("a batch in progress")
        if not table.review.is_over():
            found.append(f"{len(table.review)} customers to be judged under edition {table.editions.number}")
        if self.shadow is not None:
            found += self.shadow.waits_for(table.clock_ms)
        unprofiled = sum(len(profiles.due) for profiles in self.profiles)
        if unprofiled:
            found.append(f"{unprofiled} profiles")
        return [f"partition {self.number}: {what}" for what in found]
