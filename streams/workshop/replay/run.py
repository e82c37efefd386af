"""Replay without a broker: the same fold over the same records gives the same bytes.

Several logs are merged by `occurred_at` just as the worker merges the topics of a partition; a stream's own order is
kept. Customers are held in memory, as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import models
from models.bodies import Command
from models.customer import NEVER_MS
from models.editions import Editions
from models.events import Event
from models.policy import Policy
from models.relative import Census
from streams.engine.batch import Batch, Plan, Review, Schedule
from streams.engine.journal import Entry, JournalError, plan_of
from streams.engine.merge import Record, merged
from streams.engine.policy_on_wire import edition_body
from streams.sources.kafka_span import Offsets
from streams.sources.logs import Decodes, Log
from streams.sources.progress import progress_over
from streams.topics import INPUTS, JOURNAL
from streams.workshop.replay.checkpoint import Checkpoint, Checkpoints
from streams.workshop.replay.results import ResultFiles, Results, files_of

if TYPE_CHECKING:
    from streams.sources.kafka_log import KafkaLog
    from streams.workshop.replay.seed import Seed

EVENTS_A_BATCH: Final = 16_000
"""A customer is decoded and encoded once a batch, as in a worker (TIERSTREAM_MAX_BATCH)."""


class Replay:
    """Customers in memory, folded batch by batch with an event clock, as the worker does.

    Where a policy's lines depend on all customers, it counts them itself, exactly, and passes over the lines that a worker
    drew; `with_recorded_lines` does the opposite. `quietly` leaves outputs without ids and bodies, for who only counts them.
    """

    def __init__(
        self, policy: Policy, with_recorded_lines: bool = False, seed: Seed | None = None, quietly: bool = False
    ) -> None:
        self._quietly = quietly
        self.editions = Editions.of(policy) if seed is None else seed.editions
        self.customers: dict[bytes, bytes] = {} if seed is None else dict(seed.customers)
        self.schedule = Schedule(self.customers)
        self.review = Review(self.customers, self.editions.number)
        self.clock_ms = -1 if seed is None else seed.clock_ms
        self._decoder = policy.decoder()
        self._relative = None if with_recorded_lines else policy.relative
        self._census_ms = NEVER_MS
        """When the next census is due; of the first, once there was an event."""

    @classmethod
    def at(cls, checkpoint: Checkpoint, policy: Policy) -> Self:
        """As it was when the checkpoint was made."""
        from streams.workshop.replay.seed import Seed  # it knows the broker, which most replays need not

        editions = Editions.from_wire(policy, checkpoint.editions)
        customers = Seed(checkpoint.customers, checkpoint.clock_ms, editions, Offsets({}))
        replay = cls(policy, checkpoint.recorded_lines, customers)
        replay._census_ms = checkpoint.census_ms
        return replay

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to hold of it."""
        return {
            "clock_ms": self.clock_ms,
            "census_ms": self._census_ms,
            "editions": self.editions.as_wire(),
            "customers": self.customers,
        }

    def fold(self, records: list[Record]) -> Iterator[Batch]:
        """Cross the lines that the time so far has reached, then fold records in the order given."""
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
        """Cross the lines up to `until_ms`."""
        if self._relative is not None and self._census_ms <= until_ms:
            yield from self._count_everybody([], until_ms)
        self.clock_ms = max(self.clock_ms, until_ms)
        yield self._fold([])

    def do(self, plan: Plan) -> Batch:
        """Do what a plan says."""
        batch = Batch(self.editions, self.customers, self._quietly)
        for _ in batch.fold(plan):
            pass
        changes = batch.changes()
        self.schedule.enter(changes.due)
        self.customers.update(changes.states)
        self.clock_ms = max(self.clock_ms, plan.until_ms, batch.latest_ms)
        if batch.editions is not self.editions:
            self.editions = batch.editions
            self.review = Review(self.customers, self.editions.number)
        elif self.review.is_over():
            self.editions = self.editions.settled()
        return batch

    def _fold(self, records: list[Record]) -> Batch:
        if self._relative is not None:
            records = [record for record in records if not self._is_drawn_by_a_worker(record)]
        reviewed = list(self.review.take(len(self.review)))
        return self.do(Plan(self.clock_ms, list(self.schedule.due(self.clock_ms)), reviewed, records))

    # ------------------------------------------------------------ lines that depend on all customers
    def _count_everybody(self, before: list[Record], now_ms: int) -> Iterator[Batch]:
        """Fold what came before the census that is due, count, and begin the edition with its lines."""
        assert self._relative is not None
        yield self._fold(before)
        # Of several that were missed only the last would be seen.
        as_of_ms = self._boundary_after(now_ms) - self._relative.every_ms
        self._census_ms = as_of_ms + self._relative.every_ms
        self.clock_ms = max(self.clock_ms, as_of_ms)
        census, policy = Census(as_of_ms), self.editions.current
        for state in self.customers.values():
            census.add(models.decode(state), policy)
        if not len(census):
            return
        body = edition_body(self.editions.number + 1, as_of_ms, census.breakpoints(self._relative))
        decoded = self._decoder.decode("commands", body)
        yield self.do(
            Plan(
                as_of_ms, list(self.schedule.due(as_of_ms)), [], [Record("commands", 0, -1, None, body, None, decoded)]
            )
        )
        yield self._fold([])

    def _boundary_after(self, at_ms: int) -> int:
        assert self._relative is not None
        return (at_ms // self._relative.every_ms + 1) * self._relative.every_ms

    @staticmethod
    def _is_drawn_by_a_worker(record: Record) -> bool:
        event = record.decoded
        body = event.body if isinstance(event, Event) else None
        return (
            isinstance(body, Command)
            and body.command == "use_edition"
            and body.parameters is None
            and body.policy is None
        )

    def profiles(self) -> Iterator[bytes]:
        """The profile of every customer, in the order of their ids; none for the erased."""
        for key in sorted(self.customers):
            profile = models.profile(models.decode(self.customers[key]), key.decode(), self.editions.current)
            if profile is not None:
                yield profile


def replay_logs(
    logs: Sequence[Log],
    policy: Policy,
    out: Path,
    until_ms: int | None,
    progress: bool,
    with_recorded_lines: bool = False,
    seed: Seed | None = None,
    checkpoints: Checkpoints | None = None,
) -> dict[str, Any]:
    """Replay logs into the output files in `out`, beginning with the customers of a seed; returns a summary. Raises LogError.

    With checkpoints it goes on where it was stopped.
    """
    if checkpoints is not None:
        return _replay_with_checkpoints(logs, policy, out, until_ms, progress, with_recorded_lines, seed, checkpoints)
    with ResultFiles(policy, out, files_of(logs)) as results:
        return replay_into(results, logs, until_ms, progress, with_recorded_lines, seed)


def replay_into(
    results: Results,
    logs: Sequence[Log],
    until_ms: int | None,
    progress: bool,
    with_recorded_lines: bool = False,
    seed: Seed | None = None,
) -> dict[str, Any]:
    """Replay logs, under the policy of `results`, into its sinks; returns a summary. Raises LogError."""
    policy = results.policy
    replay = Replay(policy, with_recorded_lines, seed)
    fold_all(replay, logs, [policy.decoder()] * len(logs), results.add, progress)
    return _finished(replay, results, until_ms)


def _finished(replay: Replay, results: Results, until_ms: int | None) -> dict[str, Any]:
    for batch in replay.finish(replay.clock_ms if until_ms is None else until_ms):
        results.add(batch)
    return results.finish([replay])


def _replay_with_checkpoints(
    logs: Sequence[Log],
    policy: Policy,
    out: Path,
    until_ms: int | None,
    progress: bool,
    with_recorded_lines: bool,
    seed: Seed | None,
    checkpoints: Checkpoints,
) -> dict[str, Any]:
    inputs = [one for log in logs for one in log.identity()]
    found = checkpoints.read(policy.ref, inputs, with_recorded_lines)
    with ResultFiles(policy, out, files_of(logs), found) as results:
        if found is None:
            replay = Replay(policy, with_recorded_lines, seed)
        else:
            replay = Replay.at(found, policy)
        begin = 0 if found is None else found.records

        def after_turn(records: int) -> None:
            if checkpoints.is_due:
                checkpoints.write(
                    Checkpoint(
                        policy=policy.ref,
                        inputs=inputs,
                        recorded_lines=with_recorded_lines,
                        records=records,
                        output_bytes=results.written(),
                        events=results.events,
                        counts=results.counts,
                        **replay.state(),
                    )
                )

        with checkpoints.stopping_between_turns():
            decoders = [policy.decoder()] * len(logs)
            fold_all(replay, logs, decoders, results.add, progress, begin=begin, after_turn=after_turn)
        summary = _finished(replay, results, until_ms)
    checkpoints.remove()
    return summary


def fold_all(
    replay: Replay,
    logs: Sequence[Log],
    decoders: Sequence[Decodes],
    on_batch: Callable[[Batch], None],
    progress: bool,
    keep: Sequence[Callable[[Record], bool]] | None = None,
    what: str = "replaying",
    begin: int = 0,
    after_turn: Callable[[int], None] = lambda records: None,
) -> None:
    """Fold the records of logs, as `in_turns` gives them, without the first `begin`; after each turn it is told how many there
    were, these included. Raises LogError.
    """
    taken = begin
    for turn in in_turns(logs, decoders, progress, keep, what, begin):
        for batch in replay.fold(turn):
            on_batch(batch)
        taken += len(turn)
        after_turn(taken)


def in_turns(
    logs: Sequence[Log],
    decoders: Sequence[Decodes],
    progress: bool,
    keep: Sequence[Callable[[Record], bool]] | None,
    what: str,
    begin: int = 0,
) -> Iterator[list[Record]]:
    """The records of logs, each decoded by its own decoder, merged by time; per log those to `keep`, and of all of them not the
    first `begin`. Raises LogError.
    """
    with progress_over(logs, progress, what) as reading:
        streams = []
        for number, log in enumerate(logs):
            for stream in log.streams(decoders[number], reading.on_bytes):
                streams.append(stream if keep is None else filter(keep[number], stream))
        records = islice(merged(streams, INPUTS), begin, None)
        while turn := list(islice(records, EVENTS_A_BATCH)):
            yield turn
            reading.on_events(len(turn))


def replay_journal(log: KafkaLog, policy: Policy, out: Path, progress: bool) -> dict[str, Any]:
    """Replay what a worker folded, in the very order in which it did, into the four output files in `out`.

    Ends where the journal ends; what was never folded is not told. Raises LogError or JournalError.
    """
    with ResultFiles(policy, out) as results:
        with progress_over([log], progress) as reading:
            log.begin((*INPUTS, JOURNAL))
            replays = [
                replay_partition(log, number, policy, reading.on_bytes, results.add)
                for number in log.partitions(JOURNAL)
            ]
        return results.finish(replays)


def replay_partition(
    log: KafkaLog,
    number: int,
    policy: Policy,
    on_bytes: Callable[[int], None],
    on_batch: Callable[[Batch], None],
    entries: Iterable[Entry] | None = None,
    replay: Replay | None = None,
) -> Replay:
    """One partition's history by its journal, or by these entries of it; gives its customers as they are at the end. It is folded
    by `replay`, if that is given. Raises JournalError.
    """
    replay, decoder = replay or Replay(policy, with_recorded_lines=True), policy.decoder()
    inputs = {name: _Ahead(log.records(name, number, decoder, on_bytes)) for name in INPUTS}
    for entry in log.entries(number) if entries is None else entries:
        if entry.policy != policy.ref:
            raise JournalError(
                f"partition {number}, batch {entry.batch} was folded under {entry.policy}, not {policy.ref}: "
                f"give --policy {entry.policy}"
            )
        plan = plan_of(
            entry, replay.customers, replay.schedule, lambda name, last: inputs[name].up_to(last), f"partition {number}"
        )
        on_batch(replay.do(plan))
    return replay


class _Ahead:
    """Records of one partition, taken up to an offset at a time."""

    def __init__(self, records: Iterator[Record]) -> None:
        self._records = records
        self._ahead = next(records, None)

    def up_to(self, last_offset: int) -> Iterator[Record]:
        while self._ahead is not None and self._ahead.offset <= last_offset:
            yield self._ahead
            self._ahead = next(self._records, None)
