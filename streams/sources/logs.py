"""Event logs as files: JSONL, plain or packed, each line an event body with its topic, or in a file named after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from models.events import Event, Rejected
from streams.engine.merge import Record, records_of_lines
from streams.sources.compression import READ_ERRORS, open_decompressed, uncompressed_name
from streams.topics import INPUTS

LINES_AT_ONCE: Final = 1_000
JSONL: Final = (".jsonl", ".ndjson")


class LogError(ValueError):
    """A log that can't be read; the message names the file and the way to mend it."""


class Decodes(Protocol):
    """What makes events of a log's records. It is asked for them in their order, of some ahead."""

    def decode(
        self, topic: str, value: bytes | None, key: bytes | None = None, timestamp_ms: int | None = None
    ) -> Event | Rejected:
        """The event in a value, or why there is none."""


class Log(Protocol):
    """Where events come from."""

    @property
    def bytes(self) -> int | None:
        """How much there is to read, as it lies there; None if that is not known."""

    @property
    def files(self) -> dict[int, str]:
        """The names of its files, by what stands in records for their partition."""

    def identity(self) -> list[dict[str, Any]]:
        """What tells whether it is still the same; of each file its `path` and more. Raises LogError if nothing does."""

    def streams(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> list[Iterator[Record]]:
        """Streams of records, each in its own order; `on_bytes` is told how much was read. Raises LogError."""


def file_identity(path: Path, mapping: str = "") -> list[dict[str, Any]]:
    """What tells whether a file, read in some way, is still the same."""
    status = path.stat()
    return [{"path": str(path.resolve()), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "mapping": mapping}]


def file_partition(number: int) -> int:
    """What stands for a log's file, by its number from 0, where records of a broker have their partition.

    >>> file_partition(0), file_partition(1)
    (-1, -2)
    """
    return -1 - number


class _Topic(msgspec.Struct):
    topic: str | None = None


_topic_of_line = msgspec.json.Decoder(_Topic).decode


class LogFile:
    """One file of a log, read line by line. A line's number, from 1, is its offset. Raises LogError if it can't be read."""

    def __init__(self, path: Path, number: int = 0) -> None:
        self.path = path
        self.partition = file_partition(number)
        self.files = {self.partition: path.name}
        stem = uncompressed_name(path)
        for ending in JSONL:
            stem = stem.removesuffix(ending)
        self.topic = next((topic for topic in INPUTS if stem == topic or stem.endswith(f"-{topic}")), None)
        try:
            self.bytes: int | None = path.stat().st_size
            with open_decompressed(path):
                pass
        except OSError as error:
            raise LogError(
                f"{self.path}: {error.strerror or error}; give a JSONL file, plain or packed (.gz, .zst)"
            ) from None

    def identity(self) -> list[dict[str, Any]]:
        """The file as it is now."""
        return file_identity(self.path)

    def streams(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> list[Iterator[Record]]:
        """The file is one stream of records: its lines, decoded. Empty lines are skipped."""
        return [self._records(decoder, on_bytes)]

    def _records(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> Iterator[Record]:
        number = read = 0
        try:
            with open_decompressed(self.path) as (lines, file):
                while True:
                    found: list[bytes] = []
                    try:
                        found.extend(islice(lines, LINES_AT_ONCE))
                    finally:
                        # Lines that were read before a failure come before it.
                        yield from self._decoded(found, number + 1, decoder)
                        number += len(found)
                    if not found:
                        return
                    on_bytes(file.tell() - read)
                    read = file.tell()
        except READ_ERRORS as error:
            raise LogError(f"{self.path}, after line {number}: {error}; is it a whole file?") from None

    def _decoded(self, lines: list[bytes], number: int, decoder: Decodes) -> list[Record]:
        """Lines, the first of which has this number, decoded; empty ones are left out."""
        if self.topic is not None:
            return records_of_lines(lines, number, self.topic, self.partition, decoder.decode)
        values = ((at, line.rstrip(b"\r\n")) for at, line in enumerate(lines, number))
        return [self._record(at, value, decoder) for at, value in values if value and not value.isspace()]

    def _record(self, number: int, value: bytes, decoder: Decodes) -> Record:
        topic = _topic_named(value)
        if topic in INPUTS:
            return Record(topic, self.partition, number, None, value, None, decoder.decode(topic, value))
        named = "names no topic" if topic is None else f"names the topic {topic!r}"
        detail = f"{self.path.name}, line {number} {named}; it should be one of {', '.join(INPUTS)}"
        code = "missing_field" if topic is None else "unknown_value"
        return Record(topic or "", self.partition, number, None, value, None, Rejected(code, detail))


def _topic_named(value: bytes) -> str | None:
    try:
        return _topic_of_line(value).topic
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
