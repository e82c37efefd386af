"""Reads the rows of CSV, Parquet and JSONL files: each row is a dict, with the number of the line or row that it begins
in.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final

import orjson

from models.events import Rejected
from streams.sources.compression import READ_ERRORS, open_decompressed
from streams.sources.logs import LINES_AT_ONCE, LogError
from streams.sources.mapping import Mapping
from streams.sources.mapping_file import WHITESPACE

ROWS_A_BATCH: Final = 8_192

Rows = Iterator[tuple[int, dict[str, Any] | Rejected]]
"""Numbers of lines or rows, from 1, each with its row, or with the reason why the row can't be read."""


def csv_rows(path: Path, mapping: Mapping, on_bytes: Callable[[int], None]) -> Rows:
    """The rows of a CSV file, with the line in which each begins. Raises LogError."""
    file = mapping.file
    # Spreadsheets write a byte order mark before the name of the first column.
    encoding = "utf-8-sig" if file.encoding.lower() in ("utf-8", "utf8") else file.encoding
    line = 0
    with ExitStack() as files:
        try:
            content, raw = files.enter_context(open_decompressed(path))
            text = io.TextIOWrapper(content, encoding, newline="")
            lines = (
                csv.reader(text, delimiter=file.delimiter) if file.delimiter != WHITESPACE else _WhitespaceReader(text)
            )
            header = file.header or next(iter(lines), [])
            _check_columns(path, mapping, header, "line 1: ")
            read, line = 0, lines.line_num
            for number, cells in enumerate(lines):
                if number % LINES_AT_ONCE == 0:
                    on_bytes(raw.tell() - read)
                    read = raw.tell()
                begins, line = line + 1, lines.line_num
                if len(cells) == len(header):
                    yield begins, dict(zip(header, cells, strict=True))
                elif cells:
                    found = f"the row has {len(cells)} cells, the heading {len(header)}"
                    yield (
                        begins,
                        Rejected("wrong_type", f"{path.name}, line {begins}: {found}; is the delimiter right?"),
                    )
            on_bytes(raw.tell() - read)
        except UnicodeDecodeError as error:
            raise LogError(f"{path}, after line {line}: {error}; is the encoding {file.encoding}?") from None
        except (csv.Error, UnicodeError) as error:
            raise LogError(f"{path}, after line {line}: {error}; is it a CSV file?") from None
        except READ_ERRORS as error:
            raise LogError(f"{path}, after line {line}: {error}; is it a whole file?") from None


class _WhitespaceReader:
    """Rows whose cells are separated by any number of spaces, with the interface of `csv.reader`."""

    def __init__(self, text: IO[str]) -> None:
        self._text = text
        self.line_num = 0

    def __iter__(self) -> Iterator[list[str]]:
        for line in self._text:
            self.line_num += 1
            yield line.split()


def json_rows(path: Path, mapping: Mapping, on_bytes: Callable[[int], None]) -> Rows:
    """The objects of a JSONL file, with their lines. Raises LogError."""
    number = 0
    with ExitStack() as files:
        try:
            lines, raw = files.enter_context(open_decompressed(path))
            read = 0
            for number, line in enumerate(lines, 1):
                if number % LINES_AT_ONCE == 0:
                    on_bytes(raw.tell() - read)
                    read = raw.tell()
                if line.strip():
                    yield number, _object(line)
            on_bytes(raw.tell() - read)
        except READ_ERRORS as error:
            raise LogError(f"{path}, after line {number}: {error}; is it a whole file?") from None


def _object(line: bytes) -> dict[str, Any] | Rejected:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return Rejected("not_json", f"not JSON: {error}")
    return row if isinstance(row, dict) else Rejected("not_an_object", f"a {type(row).__name__}, not an object")


def parquet_rows(path: Path, mapping: Mapping, on_bytes: Callable[[int], None]) -> Rows:
    """The rows of a Parquet file, with their numbers. Only the columns of the mapping are read, some rows at a time.

    Raises LogError.
    """
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        # Without `buffer_size` pyarrow reads a whole row group at once, and a file may have only one.
        with parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            header = file.schema_arrow.names
            _check_columns(path, mapping, header, "")
            size, total = path.stat().st_size, max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(ROWS_A_BATCH, columns=mapping.columns(header)):
                for row in _without_nanoseconds(batch).to_pylist():
                    number += 1
                    yield number, row
                on_bytes(size * batch.num_rows // total)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, LogError):
            raise
        raise LogError(f"{path}, after row {number}: {error}; is it a whole Parquet file?") from None


def _without_nanoseconds(batch: Any) -> Any:
    """The same rows with times in microseconds: Python has no finer resolution."""
    import pyarrow

    for place, field in enumerate(batch.schema):
        if pyarrow.types.is_timestamp(field.type) and field.type.unit == "ns":
            coarse = pyarrow.timestamp("us", field.type.tz)
            batch = batch.set_column(place, field.name, batch.column(place).cast(coarse, safe=False))
    return batch


def _check_columns(path: Path, mapping: Mapping, header: list[str], where: str) -> None:
    missing = mapping.missing_column(header)
    if missing is not None:
        raise LogError(f"{path}, {where}there is no column {missing!r}; the columns are {', '.join(header)}")
