"""The Faust app: it takes and releases partitions as the group assigns them, and stops as a whole."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any

import faust
from faust.types import TP

import models
from models.customer import BASE_LEVEL
from models.events import Decoder
from models.policy import Policy
from models.policy.editions import Editions
from streams.settings import Settings
from streams.telemetry.logs import log_final_error
from streams.telemetry.stats import Stats
from streams.terminal import FAILED
from streams.topics import FOLDED, OUTPUTS
from streams.view.customers import RedisView
from streams.worker.assignor import HeldPartitions
from streams.worker.partition import PartitionWorker
from streams.worker.transport import BatchTransport
from streams.worker.view_feed import ViewFeed

if TYPE_CHECKING:
    from streams.telemetry.spans import Spans

log = logging.getLogger(__name__)

PARTITIONS_RESTORED_AT_ONCE = 4

STOP_SECONDS = 10.0
"""How long a graceful stop waits for the batches in progress."""
GIVE_UP_SECONDS = 25.0
"""After how long a stop that does not end is forced."""


class TierstreamApp(faust.App):  # type: ignore[misc]
    """A Faust app with one `PartitionWorker` per assigned partition."""

    def __init__(self, settings: Settings, policy: Policy, spans: Spans | None = None, **options: Any) -> None:
        self.settings = settings
        self.spans = spans
        """None if nothing is traced."""
        self.policy = policy
        self.decoder: Decoder = policy.decoder()
        levels = [level.name for level in policy.risk.levels]
        self.stats = Stats(policy.ladder.tier_names, [BASE_LEVEL, *levels])
        self.shadow_policy = None if settings.shadow is None else models.load(settings.shadow)
        """The policy that is folded beside the first; None if there is none."""
        self.partition_workers: dict[int, PartitionWorker] = {}
        self.failure: BaseException | None = None
        """The error that stopped the worker; None if there was none."""
        self._has_assignment = False
        self.restoring_slots = asyncio.Semaphore(PARTITIONS_RESTORED_AT_ONCE)
        self._beside: set[asyncio.Future[Any]] = set()
        super().__init__(settings.table_app_id, **options)
        self.feed = None
        if settings.redis_url is not None:
            self.feed = ViewFeed(self, RedisView(settings.redis_url, settings.redis_prefix), self.editions_held)

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self, loop=self.loop)

    def _create_directories(self) -> None:
        """Nothing: this worker keeps nothing on disk, so it needs no folders of Faust."""

    @property
    def generation(self) -> int:
        """The present generation of the group."""
        generation: int = self.consumer_generation_id
        return generation

    @property
    def is_rebalancing(self) -> bool:
        """Whether the group is rebalancing."""
        return bool(self.rebalancing)

    def wake_view(self) -> None:
        """Have the serving view get the policies in force: a partition was restored."""
        if self.feed is not None:
            self.feed.wake()

    def editions_held(self) -> list[Editions]:
        """The editions of the assigned partitions that are restored."""
        tables = [worker.table for worker in self.partition_workers.values()]
        return [table.editions for table in tables if table is not None]

    # ------------------------------------------------------------ assignment
    def take_partitions(self, assigned: Iterable[TP], generation: int) -> None:
        """Fold the assigned partitions from now on; forget those that are no longer assigned."""
        if self.should_stop:
            return  # a rebalance that ends while the worker stops
        self._has_assignment = True
        assigned = set(assigned)
        inputs = {self.settings.topic(name) for name in FOLDED}
        numbers = {tp.partition for tp in assigned if tp.topic in inputs}
        gone = [self.partition_workers.pop(number) for number in set(self.partition_workers) - numbers]
        for worker in gone:
            self.spawn(worker.forget())
        for number in sorted(numbers):
            if number not in self.partition_workers:
                self.partition_workers[number] = PartitionWorker(self, number)
            self.partition_workers[number].take(generation)
        self.stats.count_rebalance()
        log.info("partitions %s are assigned, %d others were revoked", sorted(numbers), len(gone))
        if self.feed is not None:
            outputs = {self.settings.topic(name) for name in OUTPUTS}
            self.feed.take(tp for tp in assigned if tp.topic in outputs)

    def held_partitions(self) -> HeldPartitions:
        """The partitions whose customers are in memory here."""
        # Called in the consumer's thread.
        workers = list(self.partition_workers.items())
        numbers = tuple(number for number, worker in workers if worker.table is not None)
        return HeldPartitions(self.consumer_generation_id, numbers)

    async def release_partitions(self, seconds: float) -> None:
        """Finish the batches in progress and fold no more until the next assignment."""
        self._has_assignment = False
        await asyncio.gather(*(worker.release(seconds) for worker in self.partition_workers.values()))
        if self.feed is not None:
            await self.feed.stop()

    # ------------------------------------------------------------ end
    def fail(self, error: BaseException) -> None:
        """Stop the whole worker because of an error that a retry would not resolve; what is not committed is repeated
        later.

        The worker ends as by SIGTERM, with another status: a crash of Faust would stop the consumer's thread too early.
        """
        if self.failure is None:
            self.failure = error
            log.error("stopping: %s", error, exc_info=error)
            signal.raise_signal(signal.SIGTERM)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine in a task of its own."""
        task = asyncio.ensure_future(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def _give_up(self) -> None:
        """Exit at once: while the broker is away the clients wait for it even to leave the group. Nothing is lost by
        this.
        """
        why = "Kafka did not answer while the worker stopped; what was not committed is repeated by the next owner"
        if self.failure is not None:
            why = f"stopped by {type(self.failure).__name__}: {self.failure}"
        log_final_error(self.settings, why)
        sys.stderr.flush()
        os._exit(FAILED)

    async def on_stop(self) -> None:
        """Finish and commit the batches in progress before anything else stops."""
        watch = threading.Timer(GIVE_UP_SECONDS, self._give_up)
        watch.daemon = True
        watch.start()
        await self.release_partitions(STOP_SECONDS)
        await asyncio.gather(*(worker.forget() for worker in self.partition_workers.values()))
        if self.failure is None and self._consumer is not None:
            try:
                await asyncio.wait_for(self.consumer.commit(), STOP_SECONDS)
            except TimeoutError:
                log.warning("offsets were not committed in time; the marker makes the next owner skip these records")
        await super().on_stop()

    def is_ready(self) -> bool:
        """Whether every assigned partition has been read to its end since it was assigned; a spare worker may have
        none.
        """
        if self.failure is not None or self.rebalancing or not self._has_assignment:
            return False
        return all(worker.caught_up for worker in self.partition_workers.values())
