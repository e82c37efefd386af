"""A log in a format of its own (CSV, Parquet, JSONL with other field names), read through a mapping."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson
from xxhash import xxh3_64_hexdigest

from models.events import Rejected
from streams.engine.merge import Record
from streams.sources.file_rows import Rows
from streams.sources.logs import Decodes, LogError, file_identity, file_partition
from streams.sources.mapping import AMOUNT, ORIGIN, Mapping
from streams.sources.value_formats import EXACT, NUMBER

JOIN_FIELDS: Final = ("customer_id", "order_id", "occurred_at", "kind", "currency")
"""Adjacent rows whose values of these fields are equal are one purchase."""

MappedRow = tuple[int, str, Any, dict[str, Any] | Rejected]
"""The line of a row, the topic, the row, and the event body that the mapping gives for it."""


class MappedLog:
    """A file as a log. The offset of a record is the line in which its row begins; in Parquet, the row's number."""

    def __init__(
        self,
        path: Path,
        mapping: Mapping,
        rows: Callable[[Path, Mapping, Callable[[int], None]], Rows],
        number: int = 0,
    ) -> None:
        self.path = path
        self.mapping = mapping
        self.partition = file_partition(number)
        self.files = {self.partition: path.name}
        self._rows = rows
        try:
            self.bytes: int | None = path.stat().st_size
        except OSError as error:
            raise LogError(f"{path}: {error.strerror}; give a file that exists") from None

    def identity(self) -> list[dict[str, Any]]:
        """The file as it is now, and the mapping that reads it."""
        return file_identity(self.path, xxh3_64_hexdigest(msgspec.json.encode(self.mapping.file)))

    def streams(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> list[Iterator[Record]]:
        """One stream: the rows of the file."""
        return [self._records(decoder, on_bytes)]

    def _records(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> Iterator[Record]:
        rows = self._mapped_rows(on_bytes)
        for line, topic, row, body in join_rows(rows) if self.mapping.file.join_rows else rows:
            if isinstance(body, Rejected):
                yield Record(topic, self.partition, line, None, as_json(row), None, body)
            else:
                value = as_json(body)
                yield Record(topic, self.partition, line, None, value, None, decoder.decode(topic, value))

    def _mapped_rows(self, on_bytes: Callable[[int], None]) -> Iterator[MappedRow]:
        name, mapping = self.path.name, self.mapping
        for line, row in self._rows(self.path, mapping, on_bytes):
            if isinstance(row, Rejected):
                yield line, mapping.topic, None, row
                continue
            row[ORIGIN] = f"{name}:{line}"
            for topic, body in mapping.events(row):
                yield line, topic, row, body


def join_rows(rows: Iterable[MappedRow]) -> Iterator[MappedRow]:
    """Rows, with adjacent rows of the same order joined into one purchase of the sum of their amounts.

    Only one order is in memory at a time, so rows of an order that are not adjacent stay separate purchases.
    """
    held: MappedRow | None = None
    for one in rows:
        body = None if held is None else held[3]
        total = None if body is None else _total(body, one[3])
        if isinstance(body, dict) and total is not None:
            body[AMOUNT] = total
        else:
            if held is not None:
                yield held
            held = one
    if held is not None:
        yield held


def _total(first: dict[str, Any] | Rejected, second: dict[str, Any] | Rejected) -> str | None:
    """The sum of the amounts of two bodies; None if they are of two orders, or if an amount is not a plain number."""
    if isinstance(first, Rejected) or isinstance(second, Rejected) or "order_id" not in first:
        return None
    if any(first.get(name) != second.get(name) for name in JOIN_FIELDS):
        return None
    amounts = (first.get(AMOUNT), second.get(AMOUNT))
    if not all(isinstance(amount, str) and NUMBER.fullmatch(amount) for amount in amounts):
        return None  # the decoder rejects each of them, with its own reason
    try:
        return f"{EXACT.add(Decimal(first[AMOUNT]), Decimal(second[AMOUNT])):f}"
    except ArithmeticError:
        return None


def as_json(row: Any) -> bytes:
    """A row or a body as JSON; values that JSON does not have become text."""
    try:
        return orjson.dumps(row, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return json.dumps(row, default=str).encode()  # a number has more than 64 bits
