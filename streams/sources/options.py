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
        "(?from=2026-01-01&topics=purchases). docs/replay.md tells more."
    ),
]
MapOption = Annotated[
    list[str],
    typer.Option(
        "--map",
        help="How files in a form of their own are read: a TOML file, or a preset (tierstream sources list). "
        "GLOB=FILE for the files whose names match, each with its own.",
    ),
]
SortOption = Annotated[
    bool, typer.Option("--sort", help="Sort the logs by time first, on disk where they don't fit into memory.")
]
SortMemoryOption = Annotated[str, typer.Option(help="How much of it --sort takes.")]
SortFolderOption = Annotated[
    Path | None,
    typer.Option(
        help="Sort in this folder and keep the result, so that a repeated sort continues there. Default: a temporary one."
    ),
]
