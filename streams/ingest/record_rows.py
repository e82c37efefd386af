"""A record of another topic as a row for a mapping: the fields of its value, its key, headers, timestamp and place."""

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
"""The head of the wire format of registries: a zero byte, with which no JSON begins, and the schema's id in four bytes.
"""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Read = Callable[[bytes], Any]
"""Decodes a value in the wire format. Raises whatever its library raises."""
Readers = Mapping[int, Read | Rejected]
"""Readers by schema id, or the reason why there is none."""


class SourceRecord(NamedTuple):
    """A record as it was read from a source."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None
    headers: list[tuple[str, bytes | None]] | None

    @classmethod
    def of(cls, message: Any) -> SourceRecord:
        """The record in a message of librdkafka."""
        kind, timestamp_ms = message.timestamp()
        return cls(
            message.topic(), message.partition(), message.offset(), message.key(), message.value(),
            timestamp_ms if kind else None, message.headers(),
        )  # fmt: skip

    @property
    def origin(self) -> str:
        """The place of the record; it is the id of the event if the event has no id."""
        return f"{self.topic}/{self.partition}:{self.offset}"


def schema_id_of(value: bytes | None) -> int | None:
    r"""The schema id of a value in the wire format of registries; None for any other value.

    >>> schema_id_of(b"\x00\x00\x00\x01\x02..."), schema_id_of(b"{}")
    (258, None)
    """
    if value is None or len(value) < HEAD_BYTES or value[0]:
        return None
    return int.from_bytes(value[1:HEAD_BYTES], "big")


class Rows:
    """Makes rows from the records of a topic: the fields of the value, and those of the other columns that are asked
    for.
    """

    def __init__(self, columns: set[str]) -> None:
        self._headers = {name: name.removeprefix(HEADER) for name in columns if name.startswith(HEADER)}
        self._wants_key = KEY in columns
        self.reads_key = any(name.startswith(f"{KEY}.") for name in columns)
        """Whether keys are decoded like values, for their fields."""
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
            # If a header occurs several times the last one counts, as in Kafka's own clients.
            headers = dict(record.headers or ())
            row.update((name, headers.get(header)) for name, header in self._headers.items())
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
    except Exception as error:  # a library may raise anything for bytes that anybody may have written
        return Rejected("unreadable", f"not as its schema {schema_id} says: {type(error).__name__}: {error}"[:1_000])
