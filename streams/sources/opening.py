"""Which logs a command reads: files, or the topics of a broker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streams.settings import load_settings
from streams.sources.logs import Log, LogError, LogFile

LogsArgument = Annotated[
    list[str],
    typer.Argument(
        help="JSONL files, also .gz (a line names its topic, or the file does); CSV files with --map; "
        "or kafka://HOST:PORT for the input topics there."
    ),
]
CsvMapOption = Annotated[
    Path | None,
    typer.Option("--map", help="TOML file that says which CSV column is which field; docs/operations.md has one."),
]


def open_log(name: str, csv_map: Path | None) -> Log:
    """A file, or the topics of a broker. Raises LogError or SettingsError."""
    if name.startswith("kafka://"):
        from streams.sources.kafka_log import KafkaLog

        return KafkaLog(load_settings(broker=name.removeprefix("kafka://").rstrip("/")))
    if name.endswith(".csv"):
        from streams.sources.csv_log import CsvLog, load_mapping

        if csv_map is None:
            raise LogError(f"{name}: a CSV file needs --map, a TOML file that says which column is which field")
        return CsvLog(Path(name), load_mapping(csv_map))
    return LogFile(Path(name))
