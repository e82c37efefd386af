"""The Faust app: whose partitions come and go with the group, and which stops as a whole."""

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
from streams.telemetry.logs import last_words
from streams.telemetry.stats import Stats
from streams.terminal import FAILED
from streams.topics import INPUTS, OUTPUTS
from streams.view.customers import RedisView
from streams.worker.assignor import Held
from streams.worker.partition import PartitionWorker
from streams.worker.transport import BatchTransport
from streams.worker.view_feed import ViewFeed

if TYPE_CHECKING:
    from streams.telemetry.spans import Spans

log = logging.getLogger(__name__)

PARTITIONS_RESTORED_AT_ONCE = 4

STOP_SECONDS = 10.0
"""How long a graceful stop waits for the batch in hand."""
GIVE_UP_SECONDS = 25.0
"""When a stop that does not end is ended."""


class TierstreamApp(faust.App):  # type: ignore[misc]
    """A Faust app that folds whole batches, partition by partition."""

    def __init__(self, settings: Settings, policy: Policy, spans: Spans | None = None, **options: Any) -> None:
        self.settings = settings
        self.spans = spans
        """None: nothing is traced."""
        self.policy = policy
        self.decoder: Decoder = policy.decoder()
        levels = [level.name for level in policy.risk.levels]
        self.stats = Stats(policy.ladder.tier_names, [BASE_LEVEL, *levels])
        self.shadow_policy = None if settings.shadow is None else models.load(settings.shadow)
        """The policy that is folded beside the first."""
        self.partition_workers: dict[int, PartitionWorker] = {}
        self.failure: BaseException | None = None
        """What stopped the worker, if it did not stop of its own accord."""
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
        """Faust would make folders; nothing of ours is kept on disk."""

    @property
    def generation(self) -> int:
        """The group's present generation."""
        generation: int = self.consumer_generation_id
        return generation

    @property
    def is_rebalancing(self) -> bool:
        """Whether the group is about to share its partitions anew."""
        return bool(self.rebalancing)

    def wake_view(self) -> None:
        """A partition was restored: the view has to learn under which policies its customers are."""
        if self.feed is not None:
            self.feed.wake()

    def editions_held(self) -> list[Editions]:
        """The editions of the partitions that are here and restored."""
        tables = [worker.table for worker in self.partition_workers.values()]
        return [table.editions for table in tables if table is not None]

    # ------------------------------------------------------------ partitions come and go
    def take_partitions(self, assigned: Iterable[TP], generation: int) -> None:
        """Fold what is assigned from now on; what is not is forgotten."""
        if self.should_stop:
            return  # a rebalance that ends while the worker stops
        self._has_assignment = True
        assigned = set(assigned)
        inputs = {self.settings.topic(name) for name in INPUTS}
        numbers = {tp.partition for tp in assigned if tp.topic in inputs}
        gone = [self.partition_workers.pop(number) for number in set(self.partition_workers) - numbers]
        for worker in gone:
            self.spawn(worker.forget())
        for number in sorted(numbers):
            if number not in self.partition_workers:
                self.partition_workers[number] = PartitionWorker(self, number)
            self.partition_workers[number].take(generation)
        self.stats.rebalanced()
        log.info("partitions %s are here, %d others went", sorted(numbers), len(gone))
        if self.feed is not None:
            outputs = {self.settings.topic(name) for name in OUTPUTS}
            self.feed.take(tp for tp in assigned if tp.topic in outputs)

    def held(self) -> Held:
        """The partitions whose customers are in memory here."""
        # Asked for in the consumer's thread.
        workers = list(self.partition_workers.items())
        numbers = tuple(number for number, worker in workers if worker.table is not None)
        return Held(self.consumer_generation_id, numbers)

    async def release_partitions(self, seconds: float) -> None:
        """Finish the batches in hand and fold no more, until the next assignment says whose the partitions are."""
        self._has_assignment = False
        await asyncio.gather(*(worker.release(seconds) for worker in self.partition_workers.values()))
        if self.feed is not None:
            await self.feed.stop()

    # ------------------------------------------------------------ ends
    def fail(self, error: BaseException) -> None:
        """Stop the whole worker because of what does not pass; what is not acknowledged is done again.

        It ends as by SIGTERM, with another status: Faust's way of crashing takes the consumer's thread away from under it.
        """
        if self.failure is None:
            self.failure = error
            log.error("stopping: %s", error, exc_info=error)
            signal.raise_signal(signal.SIGTERM)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine beside everything else."""
        task = asyncio.ensure_future(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def _give_up(self) -> None:
        """With the broker away the clients wait for it even to say goodbye. Nothing is lost by leaving without."""
        why = "Kafka did not answer while the worker stopped; what was not committed is done again"
        if self.failure is not None:
            why = f"stopped by {type(self.failure).__name__}: {self.failure}"
        last_words(self.settings, why)
        sys.stderr.flush()
        os._exit(FAILED)

    async def on_stop(self) -> None:
        """Finish and commit the batches in hand before anything else stops."""
        watch = threading.Timer(GIVE_UP_SECONDS, self._give_up)
        watch.daemon = True
        watch.start()
        await self.release_partitions(STOP_SECONDS)
        await asyncio.gather(*(worker.forget() for worker in self.partition_workers.values()))
        if self.failure is None and self._consumer is not None:
            try:
                await asyncio.wait_for(self.consumer.commit(), STOP_SECONDS)
            except TimeoutError:
                log.warning("offsets were not committed in time; what they stand for is skipped by the table's marker")
        await super().on_stop()

    def is_ready(self) -> bool:
        """Every partition that is here was read to its end at least once since it came; one may have none, as a spare."""
        if self.failure is not None or self.rebalancing or not self._has_assignment:
            return False
        return all(worker.caught_up for worker in self.partition_workers.values())
