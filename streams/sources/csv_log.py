"""A log as CSV: any shop's export, with a small TOML file that says which column is which field.

topic = "purchases"
delimiter = ";"                     # "," without it
encoding = "latin-1"                # UTF-8 without it
time_format = "%d/%m/%Y %H:%M"      # RFC 3339 without it
utc_offset = "+08:00"               # of times that give none
[columns]                           # field = column
customer_id = "Customer"
amount = "Total"
[constants]                         # field = the same for every row
currency = "GBP"
kind = "purchase"
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import orjson

from models import units
from models.events import Rejected
from streams.merge import Record
from streams.sources.logs import FILE_PARTITION, Decodes, LogError
from streams.topics import INPUTS

TIMES = ("occurred_at", "original_occurred_at")


class Mapping(msgspec.Struct, forbid_unknown_fields=True):
    """The mapping file."""

    topic: str
    columns: dict[str, str]
    constants: dict[str, str | int | bool] = {}
    delimiter: str = ","
    encoding: str = "utf-8"
    time_format: str | None = None
    utc_offset: str = "+00:00"


def load_mapping(path: Path) -> Mapping:
    """The mapping in a TOML file. Raises LogError."""
    try:
        mapping = msgspec.convert(tomllib.loads(path.read_text("utf-8")), Mapping)
        units.parse_utc_offset(mapping.utc_offset)
        if mapping.topic not in INPUTS:
            raise ValueError(f"topic {mapping.topic!r} is not among {', '.join(INPUTS)}")
        if len(mapping.delimiter) != 1:
            raise ValueError(f"delimiter {mapping.delimiter!r} is not one character")
        "".encode(mapping.encoding)
    except OSError as error:
        raise LogError(f"{path}: {error.strerror}; give the path of a mapping file") from None
    except (ValueError, LookupError, msgspec.ValidationError) as error:
        raise LogError(f"{path}: {error}; docs/operations.md has an example") from None
    return mapping


class CsvLog:
    """One CSV file, read row by row. A row's line number is its offset; without an event_id, so is its event id."""

    def __init__(self, path: Path, mapping: Mapping) -> None:
        self.path = path
        self.mapping = mapping
        self._zone = timezone(timedelta(milliseconds=units.parse_utc_offset(mapping.utc_offset)))
        try:
            self.bytes: int | None = path.stat().st_size
        except OSError as error:
            raise LogError(f"{path}: {error.strerror}; give a CSV file") from None

    def streams(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> list[Iterator[Record]]:
        """The file is one stream."""
        return [self._records(decoder, on_bytes)]

    def _records(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> Iterator[Record]:
        mapping = self.mapping
        with self.path.open(encoding=mapping.encoding, newline="") as text:
            rows = csv.DictReader(text, delimiter=mapping.delimiter)
            try:
                missing = [column for column in mapping.columns.values() if column not in (rows.fieldnames or ())]
                if missing:
                    found = ", ".join(rows.fieldnames or ())
                    raise LogError(f"{self.path}: there is no column {missing[0]!r}; the columns are {found}")
                for row in rows:
                    on_bytes(sum(map(len, filter(None, row.values() if None not in row else ()))))
                    yield self._record(rows.line_num, row, decoder)
            except (UnicodeDecodeError, csv.Error) as error:
                raise LogError(
                    f"{self.path}, after line {rows.line_num}: {error}; is the encoding {mapping.encoding}?"
                ) from None

    def _record(self, line: int, row: dict[str, str], decoder: Decodes) -> Record:
        topic = self.mapping.topic
        body: dict[str, Any] = {"event_id": f"{self.path.name}:{line}", **self.mapping.constants}
        body |= {field: row[column] for field, column in self.mapping.columns.items() if row[column] not in (None, "")}
        try:
            body |= {field: self._time(body[field]) for field in TIMES if field in body}
        except ValueError as error:
            value = orjson.dumps(body)
            return Record(topic, FILE_PARTITION, line, None, value, None, Rejected("bad_time", str(error)))
        for field in ("score", "satisfaction"):
            if str(body.get(field, "")).isdigit():
                body[field] = int(body[field])
        value = orjson.dumps(body)
        return Record(topic, FILE_PARTITION, line, None, value, None, decoder.decode(topic, value))

    def _time(self, written: str) -> int:
        if self.mapping.time_format is None:
            at = datetime.fromisoformat(written)
        else:
            at = datetime.strptime(written, self.mapping.time_format)  # noqa: DTZ007
        return units.ms_from_datetime(at if at.tzinfo else at.replace(tzinfo=self._zone))
