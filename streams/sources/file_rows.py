"""Reads the rows of CSV and JSONL files: each row is a dict, with the number of the line that it begins in."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import orjson

from models.events import Rejected
from streams.sources.compression import READ_ERRORS, OpenFile, open_decompressed
from streams.sources.logs import LINES_AT_ONCE, LogError
from streams.sources.mapping import Mapping
from streams.sources.mapping_file import WHITESPACE

Rows = Iterator[tuple[int, dict[str, Any] | Rejected]]
"""Numbers of lines or rows, from 1, each with its row, or with the reason why the row can't be read."""


def csv_rows(
    path: Path, mapping: Mapping, on_bytes: Callable[[int], None], open_file: OpenFile = open_decompressed
) -> Rows:
    """The rows of a CSV file, with the line in which each begins. Raises LogError."""
    file = mapping.file
    # Spreadsheets write a byte order mark before the name of the first column.
    encoding = "utf-8-sig" if file.encoding.lower() in ("utf-8", "utf8") else file.encoding
    line = 0
    with ExitStack() as files:
        try:
            content, raw = files.enter_context(open_file(path))
            text = io.TextIOWrapper(content, encoding, newline="")
            lines = (
                csv.reader(text, delimiter=file.delimiter) if file.delimiter != WHITESPACE else _WhitespaceReader(text)
            )
            header = file.header or next(iter(lines), [])
            check_columns(path, mapping, header, "line 1: ")
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


def json_rows(
    path: Path, mapping: Mapping, on_bytes: Callable[[int], None], open_file: OpenFile = open_decompressed
) -> Rows:
    """The objects of a JSONL file, with their lines. Raises LogError."""
    number = 0
    with ExitStack() as files:
        try:
            lines, raw = files.enter_context(open_file(path))
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


def check_columns(path: Path, mapping: Mapping, header: list[str], where: str) -> None:
    """Raises LogError if the file has no column that the mapping names."""
    missing = mapping.missing_column(header)
    if missing is not None:
        raise LogError(f"{path}, {where}there is no column {missing!r}; the columns are {', '.join(header)}")
