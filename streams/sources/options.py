"""The options and arguments of commands that read logs, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_SORT_MEMORY: Final = "512MB"
_LOGS: Final = (
    "JSONL files (each line names its topic, or the file does); CSV and Parquet files with --map; all also packed (.gz, "
    ".zst); folders and globs of them; or kafka://HOST:PORT for the input topics there, or a part of them "
    "(?from=2026-01-01&topics=purchases). docs/replay.md says more."
)

LogsArgument = Annotated[list[str], typer.Argument(help=_LOGS)]
SomeLogsArgument = Annotated[list[str] | None, typer.Argument(help=_LOGS)]
MapOption = Annotated[
    list[str],
    typer.Option(
        "--map",
        help="How to read files of another form: a TOML file, or a name that tierstream mappings list shows. GLOB=FILE is "
        "for the files whose names match; may be given again.",
    ),
]
SortOption = Annotated[
    bool, typer.Option("--sort", help="Sort the logs by time first, on disk where they do not fit into memory.")
]
SortMemoryOption = Annotated[str, typer.Option("--sort-memory", help="How much memory --sort uses.")]
SortFolderOption = Annotated[
    Path | None,
    typer.Option(
        "--sort-folder",
        help="Sort in this folder and keep what is done there: a second run continues. Default: a temporary folder.",
    ),
]
RecordedLinesOption = Annotated[
    bool,
    typer.Option(
        "--recorded-lines",
        help="Where thresholds depend on all customers: use those that a worker drew, from the log's commands.",
    ),
]
JournalOption = Annotated[
    bool,
    typer.Option(
        "--journal", help="Fold in the batches and the order in which the worker did; its topics in Kafka have them."
    ),
]
