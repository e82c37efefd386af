"""The logs that the arguments of a command name: files, folders, globs, or the topics of a broker."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, NamedTuple

from streams.sources.compression import COMPRESSED_ENDINGS, uncompressed_name
from streams.sources.file_rows import csv_rows, json_rows
from streams.sources.kafka_span import SCHEME, Offsets
from streams.sources.logs import JSONL, Log, LogError, LogFile
from streams.sources.mapped_log import MappedLog
from streams.sources.mapping import Mapping
from streams.sources.sorting import SortedLog

CSV: Final = (".csv", ".tsv", ".txt")
PARQUET: Final = (".parquet", ".pq")
SUPPORTED: Final = (
    f"files ending in {', '.join((*JSONL, *CSV))} (also compressed: {', '.join(COMPRESSED_ENDINGS)}) or "
    f"{', '.join(PARQUET)}, folders "
    'and quoted globs of them ("2026/*.csv.gz"), and kafka://HOST:PORT'
)

_SIZE: Final = re.compile(r"(\d+)\s*(kB|MB|GB|KiB|MiB|GiB)")
_UNIT_BYTES: Final = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class Sorting(NamedTuple):
    """How logs are sorted before they are read."""

    memory_bytes: int
    folder: Path | None

    @classmethod
    def from_options(cls, sort: bool, memory: str, folder: Path | None) -> Sorting | None:
        """The options --sort, --sort-memory and --sort-folder; None if logs are read unsorted. Raises ValueError."""
        memory_bytes = parse_size(memory)
        return cls(memory_bytes, folder) if sort or folder is not None else None


@contextmanager
def open_logs(
    names: Sequence[str],
    maps: Sequence[str],
    sorting: Sorting | None = None,
    progress: bool = False,
    next_offsets: Offsets | None = None,
) -> Iterator[list[Log]]:
    """The named logs, or with `sorting` one log of all of them; topics are read from `next_offsets` on.

    Raises LogError or SettingsError.
    """
    logs = find_logs(names, maps, next_offsets)
    if sorting is None:
        yield logs
        return
    with SortedLog(logs, sorting.memory_bytes, sorting.folder, progress) as log:
        yield [log]


def parse_size(text: str) -> int:
    """Bytes of a size such as `512MB`. Raises ValueError.

    >>> parse_size("512MB"), parse_size("2GiB")
    (512000000, 2147483648)
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(
            f"{text!r} is not a size; write a whole number and one of {', '.join(_UNIT_BYTES)}, as in 512MB"
        )
    return int(match[1]) * _UNIT_BYTES[match[2]]


def find_logs(names: Sequence[str], maps: Sequence[str], next_offsets: Offsets | None = None) -> list[Log]:
    """The named logs, unsorted. Raises LogError or SettingsError."""
    logs: list[Log] = []
    mappings = Mappings(maps)
    for name in names:
        if name.startswith(("redis://", "rediss://")):
            raise LogError(
                f"{name.partition('@')[2] or name}: Redis holds profiles, no events; read them from kafka://HOST:PORT"
            )
        if name.startswith(SCHEME):
            from streams.sources.kafka_log import log_at

            logs.append(log_at(name, next_offsets))
        else:
            logs += (_open_file(path, mappings.of(path), number) for number, path in enumerate(_paths(name), len(logs)))
    _check_names(logs)
    mappings.check_all_used()
    return logs


def _paths(name: str) -> list[Path]:
    """The files that a name stands for. Raises LogError if there are none."""
    path = Path(name)
    if path.is_dir():
        found = sorted(one for one in path.iterdir() if one.is_file() and kind_of(one) is not None)
    elif glob.has_magic(name) and not path.exists():
        found = [one for one in map(Path, sorted(glob.glob(name, recursive=True))) if one.is_file()]
    else:
        return [path]
    if not found:
        raise LogError(f"{name}: there is nothing to read in it; logs are {SUPPORTED}")
    return found


def kind_of(path: Path) -> tuple[str, ...] | None:
    """The endings of the kind of file that a path names, packed or not; None for a kind that is not read."""
    ending = Path(uncompressed_name(path)).suffix
    kind = next((kind for kind in (JSONL, CSV, PARQUET) if ending in kind), None)
    return None if kind is PARQUET and path.suffix in COMPRESSED_ENDINGS else kind


def _open_file(path: Path, mapping: Mapping | None, number: int) -> Log:
    kind = kind_of(path)
    if kind is None:
        raise LogError(f"{path}: what kind of file is it? Logs are {SUPPORTED}")
    if mapping is None and kind is not JSONL:
        raise LogError(
            f"{path}: it needs --map, a TOML file that says which column is which field, or a preset; "
            "tierstream mappings list shows these"
        )
    if mapping is None:
        return LogFile(path, number)
    if kind is not PARQUET:
        return MappedLog(path, mapping, json_rows if kind is JSONL else csv_rows, number)
    from streams.sources.parquet import parquet_rows

    return MappedLog(path, mapping, parquet_rows, number)


class Mappings:
    """The mappings of --map, each for all files or for the files whose names match its glob."""

    def __init__(self, given: Sequence[str]) -> None:
        self._by_pattern: dict[str, Mapping] = {}
        for one in given:
            pattern, equals, name = ("", "", one) if Path(one).exists() else one.rpartition("=")
            pattern = pattern if equals else "*"
            if pattern in self._by_pattern:
                raise LogError(f"--map {one}: there are two for {pattern}; give GLOB=FILE for each kind of file")
            self._by_pattern[pattern] = Mapping.named(name)
        self._used: set[str] = set()

    def of(self, path: Path) -> Mapping | None:
        """The mapping of a file: the first whose glob matches its name, else the one for all files."""
        fits = [one for one in self._by_pattern if one != "*" and (fnmatch(path.name, one) or fnmatch(str(path), one))]
        for pattern in (*fits, "*"):
            if pattern in self._by_pattern:
                self._used.add(pattern)
                return self._by_pattern[pattern]
        return None

    def check_all_used(self) -> None:
        """Raises LogError if no file is read with a mapping, for example because its glob is misspelt."""
        for pattern in self._by_pattern:
            if pattern not in self._used:
                raise LogError(
                    f"--map: no file matches {pattern!r}" if pattern != "*" else "--map: no file is read with it"
                )


def _check_names(logs: Sequence[Log]) -> None:
    """Raises LogError if rows of two files would get the same event ids."""
    without_ids = [log for log in logs if isinstance(log, MappedLog) and log.mapping.needs_event_ids]
    for name, count in Counter(log.path.name for log in without_ids).items():
        if count > 1:
            raise LogError(
                f"{count} files have the name {name}, and the ids of their events are made from file name and line: "
                "map event_id, or rename the files"
            )
