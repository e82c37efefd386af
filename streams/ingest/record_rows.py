"""A record of somebody else's topic as a row for a mapping: the fields of its value, and what else there is to a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import orjson

from models.events import Rejected
from streams.sources.mapping import ORIGIN

KEY: Final = "@key"
TIMESTAMP: Final = "@timestamp"
HEADER: Final = "@header."
PLACE: Final = ("@topic", "@partition", "@offset")
HEAD_BYTES: Final = 5
"""The wire format of registries: a zero, which JSON never begins with, and the schema's id in four bytes."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Read = Callable[[bytes], Any]
"""What makes of a value in the wire format what it says. Raises whatever its library does."""
Readers = Mapping[int, Read | Rejected]
"""By schema id; or why there is none."""


class SourceRecord(NamedTuple):
    """A record as it came."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None
    headers: list[tuple[str, bytes | None]] | None

    @classmethod
    def of(cls, message: Any) -> SourceRecord:
        """As librdkafka gives it."""
        kind, timestamp_ms = message.timestamp()
        return cls(
            message.topic(), message.partition(), message.offset(), message.key(), message.value(),
            timestamp_ms if kind else None, message.headers(),
        )  # fmt: skip

    @property
    def origin(self) -> str:
        """Where it lies: the id of its event, if it has no other."""
        return f"{self.topic}/{self.partition}:{self.offset}"


def schema_id_of(value: bytes | None) -> int | None:
    r"""Of a value in a registry's wire format; None of any other.

    >>> schema_id_of(b"\x00\x00\x00\x01\x02..."), schema_id_of(b"{}")
    (258, None)
    """
    if value is None or len(value) < HEAD_BYTES or value[0]:
        return None
    return int.from_bytes(value[1:HEAD_BYTES], "big")


class Rows:
    """Makes rows of one topic's records, with those columns beside the fields that are asked for."""

    def __init__(self, columns: set[str]) -> None:
        self._headers = {name: name.removeprefix(HEADER) for name in columns if name.startswith(HEADER)}
        self._wants_key = KEY in columns
        self.reads_key = any(name.startswith(f"{KEY}.") for name in columns)
        """Whether keys are read like values, for their fields."""
        self._wants_timestamp = TIMESTAMP in columns
        self._wants_place = not columns.isdisjoint(PLACE)

    def row(self, record: SourceRecord, readers: Readers) -> dict[str, Any] | Rejected:
        """The row of a record that has a value."""
        row = _read(record.value or b"", readers)
        if isinstance(row, Rejected):
            return row
        if not isinstance(row, dict):
            return Rejected("not_an_object", f"a {type(row).__name__}, not an object with fields")
        row[ORIGIN] = record.origin
        if self.reads_key:
            key = _read(record.key, readers) if record.key else None
            row[KEY] = None if isinstance(key, Rejected) else key
        elif self._wants_key:
            row[KEY] = record.key
        if self._wants_timestamp and record.timestamp_ms is not None:
            row[TIMESTAMP] = _EPOCH + timedelta(milliseconds=record.timestamp_ms)
        if self._wants_place:
            row.update(zip(PLACE, record[:3], strict=True))
        if self._headers:
            # Of a header that is there several times the last counts, as Kafka's own clients have it.
            there = dict(record.headers or ())
            row.update((name, there.get(header)) for name, header in self._headers.items())
        return row


def _read(value: bytes, readers: Readers) -> Any:
    schema_id = schema_id_of(value)
    if schema_id is None:
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            return Rejected("not_json", f"not JSON: {error}")
    read = readers[schema_id]
    if isinstance(read, Rejected):
        return read
    try:
        return read(value)
    except Exception as error:  # whatever a library comes upon in bytes that anybody may have written
        return Rejected("unreadable", f"not as its schema {schema_id} says: {type(error).__name__}: {error}"[:1_000])
