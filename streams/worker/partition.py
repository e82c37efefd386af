"""One partition of this worker: taken, restored, folded batch by batch, released, forgotten.

What becomes of a batch is in flow.py; this is what happens around batches, as the group gives partitions and takes them away, and
as the broker goes away and comes back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from enum import Enum
from typing import TYPE_CHECKING, Final

from aiokafka.errors import KafkaError

from models.outputs import PROFILES
from streams.engine.table import Table
from streams.telemetry.stats import FENCED, INTERRUPTED
from streams.topics import shadow_of
from streams.worker.context import PartitionContext, PartitionDelivery
from streams.worker.delivery import Delivery, Fenced, Interrupted, in_our_words
from streams.worker.fetch import Fetch
from streams.worker.flow import Flow
from streams.worker.inputs import Inputs
from streams.worker.profiles import Profiles
from streams.worker.restoring import PartitionRestorer, check_that_nothing_is_lost
from streams.worker.shadow import Shadow

if TYPE_CHECKING:
    from streams.worker.census import PartitionCensus

log = logging.getLogger(__name__)

IDLE_SECONDS: Final = 0.2
"""How often a partition without records looks at its clocks."""
RETRY_SECONDS: Final = (0.5, 10.0)
"""After how long a partition whose batch was interrupted begins anew: at first, and at the most."""
LAST_PROFILES_SECONDS: Final = 1.0
"""How long a partition that is released still publishes profiles; the next owner publishes the rest."""


class PartitionState(Enum):
    """What a partition is doing; the value is what /stats says while it does not fold."""

    UNASSIGNED = "its next assignment"
    WAITING = "waiting for the others to let go"
    BECOMING_OWNER = "becoming its owner"
    RESTORING = "restoring"
    INTERRUPTED = "interrupted"
    FOLDING = "folding"


class PartitionWorker:
    """Folds the input topics of one partition, for as long as it is assigned to this worker.

    What it holds outlives a rebalance that leaves the partition here: nobody else can have written in between.
    """

    def __init__(self, context: PartitionContext, number: int, delivery: PartitionDelivery | None = None) -> None:
        self.context = context
        self.number = number
        self.log = logging.LoggerAdapter(log, {"partition": number})
        self.spans = None if context.spans is None else context.spans.of_partition(number)
        self.delivery: PartitionDelivery = Delivery(context, number) if delivery is None else delivery
        self.inputs = Inputs(context, number, self.spans)
        self.flow: Flow | None = None
        """None: the partition has to be restored."""
        self.state = PartitionState.UNASSIGNED
        self.detail = ""
        """How far a restoration is, or why the partition was interrupted."""
        self.caught_up = False
        """Whether all that was there when it was taken is folded."""
        self.generation = 0
        self._stopping = False
        self._idle = False
        self._task: asyncio.Task[None] | None = None
        interval_seconds = context.settings.profile_interval / 1000
        self.profiles = [Profiles(PROFILES, self.delivery, lambda: self.table, interval_seconds)]
        """Of the table, then of the shadow."""
        self.shadow: Shadow | None = None
        if context.shadow_policy is not None:
            self.shadow = shadow = Shadow(context.shadow_policy, self.delivery, number)
            self.profiles.append(Profiles(shadow_of(PROFILES), self.delivery, lambda: shadow.table, interval_seconds))
        self.census: PartitionCensus | None = None
        if context.policy.relative is not None:
            from streams.worker.census import PartitionCensus  # its sketches are for the few policies that need them

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

    # ------------------------------------------------------------ the group gives and takes
    def take(self, generation: int) -> None:
        """Fold in this generation of the group. What is held is current only if none was missed."""
        if generation != self.generation + 1:
            self.flow = None
        self.generation = self.delivery.generation = generation
        self._stopping = self.caught_up = self._idle = False
        self._enter(PartitionState.WAITING)
        self.inputs.withhold()
        self._task = asyncio.create_task(self._run())

    async def release(self, seconds: float) -> None:
        """Finish the batch being folded, within so many seconds, and fold no more; timers stop at once."""
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
        """Let go of everything: the partition has gone to another worker."""
        self.flow = None
        await self.delivery.close()

    # ------------------------------------------------------------ from taken to released
    async def _run(self) -> None:
        """Fold until released. What passes is tried again from what was committed; what does not stops the worker."""
        pause_seconds, most_seconds = RETRY_SECONDS
        try:
            while not self._stopping:
                try:
                    try:
                        flow = await self._get_ready()
                    except KafkaError as error:
                        raise in_our_words(error, self.number) from error
                    pause_seconds = RETRY_SECONDS[0]
                    await self._fold_until_released(flow)
                except Interrupted as error:
                    self.context.stats.count_interruption(INTERRUPTED)
                    self.log.warning("partition %d begins anew from what is committed: %s", self.number, error)
                    self.flow = None
                    self._enter(PartitionState.INTERRUPTED, str(error))
                    await asyncio.sleep(pause_seconds)
                    pause_seconds = min(2 * pause_seconds, most_seconds)
        except Fenced:
            self.context.stats.count_interruption(FENCED)
            self.log.warning("partition %d has another owner; its batch in hand is left to that one", self.number)
            self.flow = None
            if self.generation == self.context.generation:
                self.context.consumer.rejoin()
        except asyncio.CancelledError:
            if self.state is PartitionState.FOLDING:
                # In the middle of a batch; before it folds, what it holds is what was committed.
                self.flow = None
            raise
        except Exception as error:
            self.flow = None
            self.context.fail(error)

    async def _get_ready(self) -> Flow:
        """Hold what is committed, and have records come from there on."""
        is_restored = self.flow is None
        if self.flow is None:
            async with self.context.restoring_slots:
                self.flow = await self._restore()
                self.context.wake_view()
        flow = self.flow
        for profiles in self.profiles:
            profiles.forget_round()
        while self.context.is_rebalancing:
            # At the end of a rebalance Faust seeks to the committed positions; ours come after that.
            await asyncio.sleep(0.02)
        self.inputs.begin_after(flow.table.marker.offsets)
        if is_restored:
            await check_that_nothing_is_lost(self.context, self.inputs)
        await self.inputs.rewind()
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
            self.context.stats.count_profiles(await profiles.last_ones(deadline))

    async def step(self, flow: Flow) -> bool:
        """Fold one batch, if there is anything to fold, and publish profiles; returns whether there was anything to do."""
        folded = await flow.fold_next_batch()
        self.caught_up = self.caught_up or self.inputs.has_caught_up(flow.table.marker.offsets)
        idle, published = not folded and self.inputs.merge.is_drained(), 0
        for profiles in self.profiles:
            published += await profiles.turn(idle)
        self.context.stats.count_profiles(published)
        counted = self.census is not None and self.caught_up and await self.census.turn(flow.table, flow.time_ms())
        return bool(published) or counted or folded

    async def _wait_for_work(self, flow: Flow) -> None:
        """Until there are records, a customer is due, or it is time to look at the inputs again."""
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

    # ------------------------------------------------------------ asked from outside
    def offer(self, topic: str, fetch: Fetch) -> None:
        """Take records from the transport. Before the partition folds, they come again from where the restored table ends."""
        if self.is_folding:
            assert self.flow is not None
            self.inputs.offer(topic, fetch, may_withhold=not self.flow.begun)

    def lag(self, topic: str) -> int | None:
        """How far what was folded of an input is behind its end, in offsets; None if that is not known."""
        if not self.is_folding:
            return None
        assert self.flow is not None
        return self.inputs.lag(topic, self.flow.table.marker.offsets)

    def waits_for(self) -> list[str]:
        """What is still to be done before everything on the broker is folded, announced and published; empty if it is."""
        if not self.is_folding:
            said = self.state.value if self.state is not PartitionState.FOLDING else PartitionState.UNASSIGNED.value
            between = ": " if self.state is PartitionState.INTERRUPTED else ", "
            return [f"partition {self.number}: {said}" + (f"{between}{self.detail}" if self.detail else "")]
        assert self.flow is not None
        flow, table = self.flow, self.flow.table
        found = self.inputs.waits_for()
        if not self._idle or flow.begun or table.schedule.next_ms() <= table.clock_ms:
            found.append("a batch in hand")
        if not table.review.is_over():
            found.append(f"{len(table.review)} customers to be judged under edition {table.editions.number}")
        if self.shadow is not None:
            found += self.shadow.waits_for(table.clock_ms)
        unprofiled = sum(len(profiles.due) for profiles in self.profiles)
        if unprofiled:
            found.append(f"{unprofiled} profiles")
        return [f"partition {self.number}: {what}" for what in found]
