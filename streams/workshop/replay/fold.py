"""A replay: one partition folded batch by batch with an event clock, and nothing to write.

The partition is the engine's, the same class that a worker holds. What a worker has beside it, a replay does by itself: where a
policy's thresholds follow the base it counts all customers, exactly, at the instants at which workers would.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import models
from models.bodies import Command
from models.customer import NEVER_MS
from models.events import Event
from models.policy import Policy
from models.policy.census import Census
from models.policy.editions import Editions
from streams.engine.batch import Batch
from streams.engine.merge import Record
from streams.engine.partition import Partition
from streams.engine.plan import Plan
from streams.engine.policy_on_wire import edition_body
from streams.workshop.replay.checkpoint import Checkpoint


class Replay:
    """Folds records into one partition.

    Where a policy's thresholds follow the base it counts the customers itself, and skips the thresholds that a worker recorded in
    `commands`; with `with_recorded_thresholds` it does the opposite. `without_bodies` leaves outputs without ids and bodies, for callers
    that only count them. It begins with the customers of `partition`, if that is given.

    >>> import models
    >>> from streams.engine.merge import records_of_lines
    >>> policy = models.load("annual-spend")
    >>> line = b'{"event_id":"p1","customer_id":"ada","kind":"purchase","order_id":"o1","amount":"250.00","currency":"USD",'
    >>> line += b'"occurred_at":"2024-03-01T00:00:00Z"}'
    >>> replay = Replay(policy)
    >>> [batch] = replay.fold(records_of_lines([line], 1, "purchases", 0, policy.decoder().decode))
    >>> [(output.topic, output.change) for output in batch.outputs]
    [('tier-changes', 'upgrade')]
    """

    def __init__(
        self,
        policy: Policy,
        with_recorded_thresholds: bool = False,
        partition: Partition | None = None,
        without_bodies: bool = False,
    ) -> None:
        self._without_bodies = without_bodies
        self.partition = Partition(Editions.of(policy)) if partition is None else partition
        self._decoder = policy.decoder()
        self._relative = None if with_recorded_thresholds else policy.relative
        self._census_ms = NEVER_MS
        """When the next census is due; of the first, once there was an event."""

    @classmethod
    def at(cls, checkpoint: Checkpoint, policy: Policy) -> Self:
        """As it was when the checkpoint was made."""
        editions = Editions.from_wire(policy, checkpoint.editions)
        partition = Partition(editions, checkpoint.customers, checkpoint.clock_ms)
        replay = cls(policy, checkpoint.recorded_lines, partition)
        replay._census_ms = checkpoint.census_ms
        return replay

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to hold of it."""
        return {
            "clock_ms": self.partition.clock_ms,
            "census_ms": self._census_ms,
            "editions": self.partition.editions.as_wire(),
            "customers": self.partition.customers,
        }

    def fold(self, records: list[Record]) -> Iterator[Batch]:
        """Advance customers to the time so far, then fold records in the order given."""
        if self._relative is None:
            yield self._fold(records)
            return
        begin = 0
        for place, record in enumerate(records):
            if self._census_ms == NEVER_MS and record.occurred_at_ms >= 0:
                self._census_ms = self._boundary_after(record.occurred_at_ms)
            if record.occurred_at_ms >= self._census_ms:
                yield from self._count_everybody(records[begin:place], record.occurred_at_ms)
                begin = place
        yield self._fold(records[begin:])

    def finish(self, until_ms: int) -> Iterator[Batch]:
        """Advance customers to `until_ms`."""
        if self._relative is not None and self._census_ms <= until_ms:
            yield from self._count_everybody([], until_ms)
        self.partition.clock_ms = max(self.partition.clock_ms, until_ms)
        yield self._fold([])

    def fold_plan(self, plan: Plan) -> Batch:
        """Fold what a plan says."""
        return self.partition.fold_at_once(plan, self._without_bodies)

    def _fold(self, records: list[Record]) -> Batch:
        if self._relative is not None:
            records = [record for record in records if not self._has_thresholds_of_a_worker(record)]
        return self.fold_plan(self.partition.plan_without_limits(records))

    # ------------------------------------------------------------ thresholds that follow the base
    def _count_everybody(self, before: list[Record], now_ms: int) -> Iterator[Batch]:
        """Fold what came before the census that is due, count, and begin the edition with its thresholds."""
        assert self._relative is not None
        yield self._fold(before)
        partition = self.partition
        # Of several that were missed only the last would be seen.
        as_of_ms = self._boundary_after(now_ms) - self._relative.every_ms
        self._census_ms = as_of_ms + self._relative.every_ms
        partition.clock_ms = max(partition.clock_ms, as_of_ms)
        census, policy = Census(as_of_ms), partition.editions.current
        for state in partition.customers.values():
            census.add(models.decode(state), policy)
        if not len(census):
            return
        body = edition_body(partition.editions.number + 1, as_of_ms, census.breakpoints(self._relative))
        command = Record("commands", 0, -1, None, body, None, self._decoder.decode("commands", body))
        yield self.fold_plan(Plan(as_of_ms, list(partition.schedule.due(as_of_ms)), [], [command]))
        yield self._fold([])

    def _boundary_after(self, at_ms: int) -> int:
        assert self._relative is not None
        return (at_ms // self._relative.every_ms + 1) * self._relative.every_ms

    @staticmethod
    def _has_thresholds_of_a_worker(record: Record) -> bool:
        event = record.decoded
        body = event.body if isinstance(event, Event) else None
        return (
            isinstance(body, Command)
            and body.command == "use_edition"
            and body.parameters is None
            and body.policy is None
        )
