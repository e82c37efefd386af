"""The engine: one partition's customers in memory, and everything that folding a batch does to them.

The worker and the replay both hold this class, so that a replay equals the live run by construction. What differs is around
it: the worker writes each batch to Kafka between `outcome` and `apply`; a replay has nothing to write.

    batch = partition.new_batch()
    for _ in batch.fold(plan): ...
    outcome = partition.outcome(batch, plan.until_ms)
    partition.apply(outcome)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from models.policy.editions import Editions
from streams.engine.batch import Batch, Changes
from streams.engine.journal import Entry, plan_of
from streams.engine.merge import Record
from streams.engine.plan import NOBODY, Plan, make_plan
from streams.engine.schedule import Review, Schedule

NO_TIME_MS: Final = -1
"""The time of a partition that has folded nothing."""


class Outcome(NamedTuple):
    """What a folded batch changes in its partition, once it is taken over."""

    changes: Changes
    editions: Editions
    clock_ms: int
    latest_ms: int
    customers: int
    """How many customers there are then."""
    checksum: int
    """The `fingerprint`s of all of them then, xored."""


class Partition:
    """The customers of one partition, as bytes: who is due, which editions they are judged under, and how far time has come.

    With an event clock the partition's time is that of the latest event; else it is what each plan says.
    """

    def __init__(
        self,
        editions: Editions,
        customers: dict[bytes, bytes] | None = None,
        clock_ms: int = NO_TIME_MS,
        has_event_clock: bool = True,
        checksum: int = 0,
    ) -> None:
        self.customers: dict[bytes, bytes] = {} if customers is None else customers
        self.schedule = Schedule(self.customers)
        self.editions = editions
        self.review = Review(self.customers, editions.number)
        """The customers that are still to be judged under the latest edition."""
        self.clock_ms = clock_ms
        """How far customers have been advanced."""
        self.latest_ms = clock_ms
        """The time of the latest event folded."""
        self.checksum = checksum
        self._has_event_clock = has_event_clock

    # ------------------------------------------------------------ what a batch will do
    def plan(
        self,
        until_ms: int,
        records: Iterator[Record],
        max_records: int,
        max_bytes: int,
        beside: Mapping[bytes, bytes] = NOBODY,
    ) -> Plan:
        """Some customers that are due at `until_ms`, then records, as many as fit: see `make_plan`."""
        return make_plan(self.customers, self.schedule, self.review, until_ms, records, max_records, max_bytes, beside)

    def plan_without_limits(self, records: list[Record]) -> Plan:
        """Every customer that is due or still to be judged, then all these records."""
        reviewed = list(self.review.take(len(self.review)))
        return Plan(self.clock_ms, list(self.schedule.due(self.clock_ms)), reviewed, records)

    def plan_again(self, entry: Entry, take_up_to: Callable[[str, int], Iterable[Record]], where: str) -> Plan:
        """The plan that a journal's entry describes. Raises JournalError: see `plan_of`."""
        return plan_of(entry, self.customers, self.schedule, take_up_to, where)

    # ------------------------------------------------------------ folding it
    def new_batch(self, without_bodies: bool = False) -> Batch:
        """A batch of these customers, to be folded."""
        return Batch(self.editions, self.customers, without_bodies)

    def outcome(self, batch: Batch, until_ms: int) -> Outcome:
        """What a folded batch, whose plan advanced customers to `until_ms`, changes here; nothing is changed yet."""
        changes, editions = batch.changes(), batch.editions
        if editions is self.editions and self.review.is_over():
            editions = editions.latest_only()
        return Outcome(
            changes,
            editions,
            max(self.clock_ms, until_ms, batch.latest_ms) if self._has_event_clock else until_ms,
            max(self.latest_ms, batch.latest_ms),
            len(self.customers) + changes.new,
            self.checksum ^ changes.checksum,
        )

    def apply(self, outcome: Outcome) -> None:
        """Take a folded batch over."""
        self.schedule.enter(outcome.changes.due)
        self.customers.update(outcome.changes.states)
        if outcome.editions.number != self.editions.number:
            self.review = Review(self.customers, outcome.editions.number)
        self.editions = outcome.editions
        self.clock_ms, self.latest_ms, self.checksum = outcome.clock_ms, outcome.latest_ms, outcome.checksum

    def fold_at_once(self, plan: Plan, without_bodies: bool = False) -> Batch:
        """Fold a plan and take it over; returns the batch with its outputs."""
        batch = self.new_batch(without_bodies)
        for _ in batch.fold(plan):
            pass
        self.apply(self.outcome(batch, plan.until_ms))
        return batch
