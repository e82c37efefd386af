"""Event logs as files: JSONL, plain or gzipped, each line an event body with its topic, or in a file named after it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final, Protocol

import msgspec

from models.events import Event, Rejected
from streams.merge import Record
from streams.topics import INPUTS

FILE_PARTITION: Final = 0
LINES_A_REPORT: Final = 1_000


class LogError(ValueError):
    """A log that can't be read; the message names the file and the way to mend it."""


class Decodes(Protocol):
    """What makes events of a log's records."""

    def decode(
        self, topic: str, value: bytes | None, key: bytes | None = None, timestamp_ms: int | None = None
    ) -> Event | Rejected:
        """The event in a value, or why there is none."""


class Log(Protocol):
    """Where events come from. `bytes` is how much there is to read, None if that is not known."""

    @property
    def bytes(self) -> int | None:
        """Its size."""

    def streams(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> list[Iterator[Record]]:
        """Streams of records, each in its own order; `on_bytes` is told how much was read. Raises LogError."""


class _Topic(msgspec.Struct):
    topic: str | None = None


_topic_of_line = msgspec.json.Decoder(_Topic).decode


class LogFile:
    """One file of a log, read line by line. A line's number, from 1, is its offset. Raises LogError if it can't be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes: int | None
        name = path.name.removesuffix(".gz")
        stem = name.removesuffix(".jsonl").removesuffix(".ndjson")
        self.topic = next((topic for topic in INPUTS if stem == topic or stem.endswith(f"-{topic}")), None)

        try:
            self.bytes = None if path.suffix == ".gz" else path.stat().st_size
            with self._open():
                pass
        except OSError as error:
            raise LogError(f"{self.path}: {error.strerror or error}; give a JSONL file, plain or .gz") from None

    def streams(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> list[Iterator[Record]]:
        """The file is one stream of records: its lines, decoded. Empty lines are skipped."""
        return [self._records(decoder, on_bytes)]

    def _records(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> Iterator[Record]:
        try:
            with self._open() as lines:
                read = 0
                for number, line in enumerate(lines, 1):
                    read += len(line)
                    if number % LINES_A_REPORT == 0:
                        on_bytes(read)
                        read = 0
                    value = line.rstrip(b"\r\n")
                    if value.strip():
                        yield self._record(number, value, decoder)
        except (OSError, EOFError, zlib.error) as error:
            raise LogError(f"{self.path}: {error}; is it a whole file?") from None

    def _record(self, number: int, value: bytes, decoder: Decodes) -> Record:
        topic = self._topic(value)
        if topic in INPUTS:
            return Record(topic, FILE_PARTITION, number, None, value, None, decoder.decode(topic, value))
        named = "names no topic" if topic is None else f"names the topic {topic!r}"
        detail = f"{self.path.name}, line {number} {named}; it should be one of {', '.join(INPUTS)}"
        code = "missing_field" if topic is None else "unknown_value"
        return Record(topic or "", FILE_PARTITION, number, None, value, None, Rejected(code, detail))

    def _topic(self, value: bytes) -> str | None:
        if self.topic is not None:
            return self.topic
        try:
            return _topic_of_line(value).topic
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def _open(self) -> IO[bytes]:
        if self.path.suffix == ".gz":
            return gzip.open(self.path, "rb")  # type: ignore[return-value]
        return self.path.open("rb")
