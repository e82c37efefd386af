"""Event logs in JSONL files, plain or compressed. A line is an event body; its topic is a field of the line or in the
file's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from models.events import Event, Rejected
from streams.engine.merge import Record, records_of_lines
from streams.sources.compression import READ_ERRORS, OpenFile, open_decompressed, uncompressed_name
from streams.topics import INPUTS

LINES_AT_ONCE: Final = 1_000
JSONL: Final = (".jsonl", ".ndjson")


class LogError(ValueError):
    """A log that can't be read; the message names the file and what to do."""


class Decodes(Protocol):
    """A decoder of a log's records. It is called for records in their order, and some records ahead of the fold."""

    def decode(
        self, topic: str, value: bytes | None, key: bytes | None = None, timestamp_ms: int | None = None
    ) -> Event | Rejected:
        """The event in a value, or why there is none."""


class Log(Protocol):
    """A source of events: a file, several files sorted into one, or the topics of a broker."""

    @property
    def bytes(self) -> int | None:
        """How many bytes there are to read, on disk; None if that is not known."""

    @property
    def files(self) -> dict[int, str]:
        """The names of its files, by the `partition` of their records (`file_partition`)."""

    def identity(self) -> list[dict[str, Any]]:
        """What a later run compares to see whether the log is unchanged: for each file its `path` and more.

        Raises LogError if the log has no such identity.
        """

    def streams(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> list[Iterator[Record]]:
        """Streams of records, each in its own order; `on_bytes` is called with the number of bytes read. Raises
        LogError.
        """


def file_identity(path: Path, mapping: str = "") -> list[dict[str, Any]]:
    """What a later run compares to see whether a file, and the mapping it is read with, are unchanged."""
    status = path.stat()
    return [{"path": str(path.resolve()), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "mapping": mapping}]


def file_partition(number: int) -> int:
    """The `partition` of the records of a file, by the file's number from 0: negative, so that it is none of a broker.

    >>> file_partition(0), file_partition(1)
    (-1, -2)
    """
    return -1 - number


class _Topic(msgspec.Struct):
    topic: str | None = None


_topic_of_line = msgspec.json.Decoder(_Topic).decode


class LogFile:
    """A JSONL file as a log. The offset of a record is its line number, from 1. Raises LogError if the file can't be
    read.

    With `lines_at_once` of 1, a line is delivered before the next one is asked for, which may not be there yet.
    """

    def __init__(
        self,
        path: Path,
        number: int = 0,
        open_file: OpenFile = open_decompressed,
        lines_at_once: int = LINES_AT_ONCE,
    ) -> None:
        self.path = path
        self._open_file = open_file
        self._lines_at_once = lines_at_once
        self.partition = file_partition(number)
        self.files = {self.partition: path.name}
        stem = uncompressed_name(path)
        for ending in JSONL:
            stem = stem.removesuffix(ending)
        self.topic = next((topic for topic in INPUTS if stem == topic or stem.endswith(f"-{topic}")), None)
        try:
            self.bytes: int | None = path.stat().st_size
            with path.open("rb"):
                pass
        except OSError as error:
            raise LogError(
                f"{self.path}: {error.strerror or error}; give a JSONL file, plain or compressed (.gz, .zst)"
            ) from None

    def identity(self) -> list[dict[str, Any]]:
        """The file as it is now."""
        return file_identity(self.path)

    def streams(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> list[Iterator[Record]]:
        """One stream: the lines of the file, decoded. Empty lines are skipped."""
        return [self._records(decoder, on_bytes)]

    def _records(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> Iterator[Record]:
        number = read = 0
        try:
            with self._open_file(self.path) as (lines, file):
                while True:
                    found: list[bytes] = []
                    try:
                        found.extend(islice(lines, self._lines_at_once))
                    finally:
                        # The lines that were read before a failure are still delivered.
                        yield from self._decoded(found, number + 1, decoder)
                        number += len(found)
                    if not found:
                        return
                    on_bytes(file.tell() - read)
                    read = file.tell()
        except READ_ERRORS as error:
            raise LogError(f"{self.path}, after line {number}: {error}; is it a whole file?") from None

    def _decoded(self, lines: list[bytes], number: int, decoder: Decodes) -> list[Record]:
        """Lines as records, empty lines left out; `number` is the number of the first line."""
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
