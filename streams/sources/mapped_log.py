"""A log in a form of its own (CSV, Parquet, JSONL with other names), read through a mapping."""

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

JOINED_BY: Final = ("customer_id", "order_id", "occurred_at", "kind", "currency")
"""Adjacent rows that agree in these are one purchase."""

Made = tuple[int, str, Any, dict[str, Any] | Rejected]
"""A row's line, the topic, the row, and the body made of it."""


class MappedLog:
    """One file, read row by row. The line in which a row begins, or its number, is its offset."""

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
            raise LogError(f"{path}: {error.strerror}; give a file that is there") from None

    def identity(self) -> list[dict[str, Any]]:
        """The file as it is now, and the mapping."""
        return file_identity(self.path, xxh3_64_hexdigest(msgspec.json.encode(self.mapping.file)))

    def streams(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> list[Iterator[Record]]:
        """The file is one stream."""
        return [self._records(decoder, on_bytes)]

    def _records(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> Iterator[Record]:
        made = self._made(on_bytes)
        for line, topic, row, body in joined(made) if self.mapping.file.join_rows else made:
            if isinstance(body, Rejected):
                yield Record(topic, self.partition, line, None, as_json(row), None, body)
            else:
                value = as_json(body)
                yield Record(topic, self.partition, line, None, value, None, decoder.decode(topic, value))

    def _made(self, on_bytes: Callable[[int], None]) -> Iterator[Made]:
        name, mapping = self.path.name, self.mapping
        for line, row in self._rows(self.path, mapping, on_bytes):
            if isinstance(row, Rejected):
                yield line, mapping.topic, None, row
                continue
            row[ORIGIN] = f"{name}:{line}"
            for topic, body in mapping.events(row):
                yield line, topic, row, body


def joined(made: Iterable[Made]) -> Iterator[Made]:
    """Rows with those that are of the same order, one after the other, as one purchase of the sum of their amounts.

    No more than one order is held. Rows of an order that lie apart stay purchases of their own.
    """
    held: Made | None = None
    for one in made:
        total = None if held is None else _total(held[3], one[3])
        if held is not None and total is not None:
            held[3][AMOUNT] = total  # type: ignore[index]
        else:
            if held is not None:
                yield held
            held = one
    if held is not None:
        yield held


def _total(first: dict[str, Any] | Rejected, second: dict[str, Any] | Rejected) -> str | None:
    """What two bodies come to, if they are of the same order."""
    if isinstance(first, Rejected) or isinstance(second, Rejected) or "order_id" not in first:
        return None
    if any(first.get(name) != second.get(name) for name in JOINED_BY):
        return None
    amounts = (first.get(AMOUNT), second.get(AMOUNT))
    if not all(isinstance(amount, str) and NUMBER.fullmatch(amount) for amount in amounts):
        return None  # the decoder says of each what is wrong with it
    try:
        return f"{EXACT.add(Decimal(first[AMOUNT]), Decimal(second[AMOUNT])):f}"
    except ArithmeticError:
        return None


def as_json(row: Any) -> bytes:
    """A row or a body as JSON; what JSON has no form for, as text."""
    try:
        return orjson.dumps(row, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return json.dumps(row, default=str).encode()  # it has a number of more than 64 bits
