"""`tierstream replay`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import models
from models import units
from streams.engine.gc_tuning import collect_rarely
from streams.sources.kafka_log import KafkaLog, log_with_journal
from streams.sources.logs import Log, LogError
from streams.sources.named_logs import Sorting, open_logs
from streams.sources.options import (
    DEFAULT_SORT_MEMORY,
    JournalOption,
    LogsArgument,
    MapOption,
    RecordedLinesOption,
    SortFolderOption,
    SortMemoryOption,
    SortOption,
)
from streams.terminal import (
    INTERRUPTED,
    JsonOption,
    PolicyOption,
    ProcessesOption,
    example,
    fail,
    refuse,
    say,
    say_json,
)
from streams.workshop.replay.checkpoint import Checkpoints
from streams.workshop.replay.run import replay_journal, replay_logs
from streams.workshop.replay.seed import read_seed
from streams.workshop.replay.shares import replay_in_shares


@example("tierstream replay purchases.jsonl complaints.jsonl.gz --policy annual-spend --out replayed")
def replay(
    logs: LogsArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the output files.")],
    policy: PolicyOption = "retail-three-tier",
    until: Annotated[
        str | None, typer.Option(help="Advance every customer to this time at the end; default: the latest event.")
    ] = None,
    maps: MapOption = [],  # noqa: B006
    sort: SortOption = False,
    sort_memory: SortMemoryOption = DEFAULT_SORT_MEMORY,
    sort_folder: SortFolderOption = None,
    by_journal: JournalOption = False,
    workers: ProcessesOption = 1,
    recorded_lines: RecordedLinesOption = False,
    seed: Annotated[
        str | None,
        typer.Option(
            help="Begin with the customers of a worker's table: kafka://HOST:PORT, with the worker's settings. Topics of that "
            "broker are read from where the table ends."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Save the progress in this file, regularly and on Ctrl-C; the same command continues from there."
        ),
    ] = None,
    checkpoint_every: Annotated[str, typer.Option(help="Time between two checkpoints.")] = "1m",
    as_json: JsonOption = False,
) -> None:
    """Fold event logs into output files, without a broker.

    The same log and policy always give the same bytes. Writes tier-changes.jsonl, churn-risk.jsonl, life-cycle.jsonl,
    alerts.jsonl, profiles.jsonl and dead-letters.jsonl.
    """
    try:
        chosen = models.load(policy)
        until_ms = None if until is None else units.parse_time(until)
        sorting = Sorting.from_options(sort, sort_memory, sort_folder)
        if workers > 1 and chosen.relative is not None and not recorded_lines:
            raise LogError(
                f"the thresholds of {chosen.ref} depend on all customers, so one process has to read them all: leave out "
                "--workers, or give --recorded-lines with a log that has the thresholds of a worker"
            )
        shown = not as_json and sys.stderr.isatty()
        collect_rarely()
        if (seed is not None or checkpoint is not None) and (by_journal or workers > 1):
            raise LogError("--seed and --checkpoint are for a replay in one process, without --journal")
        checkpoints = None if checkpoint is None else Checkpoints(checkpoint, units.parse_duration(checkpoint_every))
        seeded = None if seed is None else read_seed(seed, chosen)
        with open_logs(logs, maps, sorting, shown, None if seeded is None else seeded.next_offsets) as opened:
            if by_journal:
                summary = replay_journal(log_with_journal(opened, until), chosen, out, shown)
            elif workers > 1:
                summary = replay_in_shares(_only_files(opened), chosen, out, until_ms, shown, workers)
            else:
                summary = replay_logs(opened, chosen, out, until_ms, shown, recorded_lines, seeded, checkpoints)
    except ValueError as error:
        raise refuse(str(error)) from None
    except KeyboardInterrupt:
        how = (
            "" if checkpoint is None or not checkpoint.exists() else "; the same command continues from the checkpoint"
        )
        raise fail(f"stopped; {out} is incomplete{how}", INTERRUPTED) from None
    if as_json:
        say_json(summary)
        return
    table = Table(title=f"Replayed under {chosen.ref}", show_header=False)
    for name, value in summary.items():
        table.add_row(name.replace("_", " "), _shown(value))
    Console().print(table)
    say(f"written to {out}")


def _only_files(opened: list[Log]) -> list[Log]:
    """The logs, if several processes can read them. Raises LogError."""
    if any(isinstance(log, KafkaLog) for log in opened):
        raise LogError("--workers is for files: a topic is read by one process")
    return opened


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {count:,}" for name, count in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
