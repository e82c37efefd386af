"""The arguments and options of commands that read logs: the logs, their mappings, and sorting them first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_SORT_MEMORY: Final = "512MB"

LogsArgument = Annotated[
    list[str],
    typer.Argument(
        help="JSONL files (a line names its topic, or the file does), CSV and Parquet files with --map, also packed "
        "(.gz, .zst); folders and globs of them; or kafka://HOST:PORT for the input topics there, or a part of them "
        "(?from=2026-01-01&topics=purchases). docs/replay.md has more."
    ),
]
MapOption = Annotated[
    list[str],
    typer.Option(
        "--map",
        help="How to read files that are not event bodies: a TOML file, or a preset (tierstream sources list). "
        "GLOB=FILE is for the files whose names match; may be given for several globs.",
    ),
]
SortOption = Annotated[
    bool, typer.Option("--sort", help="Sort the logs by time first, on disk if they don't fit into memory.")
]
SortMemoryOption = Annotated[str, typer.Option(help="How much memory --sort may use.")]
SortFolderOption = Annotated[
    Path | None,
    typer.Option(
        help="Sort in this folder and keep the result, so that a repeated sort continues there. Default: a temporary one."
    ),
]
