"""Replay without a broker: the same fold over the same records gives the same bytes.

Several logs are merged by `occurred_at` just as the worker merges the topics of a partition; a stream's own order is
kept. Customers are held in memory, as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from models.policy import Policy
from streams.engine.batch import Batch
from streams.engine.journal import Entry, JournalError
from streams.engine.merge import Record, merged
from streams.sources.logs import Decodes, Log
from streams.sources.progress import progress_over
from streams.topics import FOLDED, INPUTS, JOURNAL
from streams.workshop.replay.checkpoint import Checkpoint, Checkpoints
from streams.workshop.replay.fold import Replay
from streams.workshop.replay.results import ResultFiles, Results, files_of

if TYPE_CHECKING:
    from streams.sources.kafka_log import KafkaLog
    from streams.workshop.replay.seed import Seed

EVENTS_A_BATCH: Final = 16_000
"""A customer is decoded and encoded once a batch, as in a worker (TIERSTREAM_MAX_BATCH)."""


def replay_logs(
    logs: Sequence[Log],
    policy: Policy,
    out: Path,
    until_ms: int | None,
    progress: bool,
    with_recorded_thresholds: bool = False,
    seed: Seed | None = None,
    checkpoints: Checkpoints | None = None,
) -> dict[str, Any]:
    """Replay logs into the output files in `out`, beginning with the customers of a seed; returns a summary. Raises LogError.

    With checkpoints it goes on where it was stopped.
    """
    if checkpoints is not None:
        return _replay_with_checkpoints(
            logs, policy, out, until_ms, progress, with_recorded_thresholds, seed, checkpoints
        )
    with ResultFiles(policy, out, files_of(logs)) as results:
        return replay_into(results, logs, until_ms, progress, with_recorded_thresholds, seed)


def replay_into(
    results: Results,
    logs: Sequence[Log],
    until_ms: int | None,
    progress: bool,
    with_recorded_thresholds: bool = False,
    seed: Seed | None = None,
) -> dict[str, Any]:
    """Replay logs, under the policy of `results`, into its sinks; returns a summary. Raises LogError."""
    policy = results.policy
    replay = Replay(policy, with_recorded_thresholds, None if seed is None else seed.partition())
    fold_all(replay, logs, [policy.decoder()] * len(logs), results.add, progress)
    return _finished(replay, results, until_ms)


def _finished(replay: Replay, results: Results, until_ms: int | None) -> dict[str, Any]:
    for batch in replay.finish(replay.partition.clock_ms if until_ms is None else until_ms):
        results.add(batch)
    return results.finish([replay.partition])


def _replay_with_checkpoints(
    logs: Sequence[Log],
    policy: Policy,
    out: Path,
    until_ms: int | None,
    progress: bool,
    with_recorded_thresholds: bool,
    seed: Seed | None,
    checkpoints: Checkpoints,
) -> dict[str, Any]:
    inputs = [one for log in logs for one in log.identity()]
    found = checkpoints.read(policy.ref, inputs, with_recorded_thresholds)
    with ResultFiles(policy, out, files_of(logs), found) as results:
        if found is None:
            replay = Replay(policy, with_recorded_thresholds, None if seed is None else seed.partition())
        else:
            replay = Replay.at(found, policy)
        begin = 0 if found is None else found.records

        def after_turn(records: int) -> None:
            if checkpoints.is_due:
                checkpoints.write(
                    Checkpoint(
                        policy=policy.ref,
                        inputs=inputs,
                        recorded_lines=with_recorded_thresholds,
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
    """Fold the records of logs, as `in_turns` gives them, without the first `begin`. `after_turn` is called with how many there
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
    """Replay what a worker folded, in the very order in which it did, into the output files in `out`.

    It ends where the journal ends: records that were never folded are left out. Raises LogError or JournalError.
    """
    with ResultFiles(policy, out) as results:
        with progress_over([log], progress) as reading:
            log.begin((*FOLDED, JOURNAL))
            replays = [
                replay_partition(log, number, policy, reading.on_bytes, results.add)
                for number in log.partitions(JOURNAL)
            ]
        return results.finish([replay.partition for replay in replays])


def replay_partition(
    log: KafkaLog,
    number: int,
    policy: Policy,
    on_bytes: Callable[[int], None],
    on_batch: Callable[[Batch], None],
    entries: Iterable[Entry] | None = None,
    replay: Replay | None = None,
) -> Replay:
    """Fold one partition by its journal, or by these entries of it; returns the replay with its customers at the end. It is folded
    by `replay`, if that is given. Raises JournalError.
    """
    replay, decoder = replay or Replay(policy, with_recorded_thresholds=True), policy.decoder()
    inputs = {name: _Ahead(log.placed_records(name, number, decoder, on_bytes)) for name in FOLDED}
    for entry in log.entries(number) if entries is None else entries:
        if entry.policy != policy.ref:
            raise JournalError(
                f"partition {number}, batch {entry.batch} was folded under {entry.policy}, not {policy.ref}: "
                f"give --policy {entry.policy}"
            )
        plan = replay.partition.plan_again(entry, lambda name, last: inputs[name].up_to(last), f"partition {number}")
        on_batch(replay.fold_plan(plan))
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
