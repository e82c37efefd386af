"""Reads the numbers and times of exports, in the formats that a mapping names."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from models import units
from models.events import Rejected
from streams.sources.mapping_file import MappingFile

TIMES_CACHED: Final = 65_536
EXACT: Final = Context(prec=units.MAX_AMOUNT_CHARACTERS, traps=[Inexact, InvalidOperation, Overflow])
"""A result that does not fit is an error; nothing is rounded."""
NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,2})?", re.ASCII)
# The last group has three digits; the groups before it have three, or two as in India.
_GROUPED: Final = re.compile(r"[+-]?\d{1,3}(,\d{2,3})*,\d{3}(\.\d+)?", re.ASCII)


class Unmappable(ValueError):
    """A row from which no event can be made; `code` is a reason code of models.events."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code

    def as_rejected(self) -> Rejected:
        """The exception as a value."""
        return Rejected(self.code, str(self))


class NumberFormat:
    """The format of the numbers in an export."""

    def __init__(self, file: MappingFile) -> None:
        self._thousands = file.thousands
        self._ignored = str.maketrans("", "", file.ignore)
        # A mark that the mapping does not name is ambiguous, so it makes a number unreadable.
        marks = {",": "?", ".": "?"} | ({file.thousands: ","} if file.thousands else {}) | {file.decimal: "."}
        self._marks = {ord(mark): meaning for mark, meaning in marks.items()}
        self.is_plain = file.decimal == "." and not file.thousands and not file.ignore
        """Whether the format is that of event bodies; then the decoder reports what is wrong with a number."""

    def read(self, value: Any) -> Decimal:
        """The exact number of a value; of a float its shortest decimal form. Raises Unmappable."""
        if isinstance(value, Decimal) and value.is_finite():
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._exactly(repr(value), value)
        if self.is_plain and isinstance(value, str) and NUMBER.fullmatch(value):
            return self._exactly(value, value)
        text = as_text(value).translate(self._ignored).strip()
        if text[:1] == "(" and text[-1:] == ")":
            text = f"-{text[1:-1]}"  # as bookkeepers write a negative amount
        plain = text.translate(self._marks)
        if self._thousands and _GROUPED.fullmatch(plain):
            plain = plain.replace(",", "")
        return self._exactly(plain, value)

    @staticmethod
    def _exactly(plain: str, value: Any) -> Decimal:
        if len(plain) > units.MAX_AMOUNT_CHARACTERS or not NUMBER.fullmatch(plain):
            raise Unmappable("bad_amount", f"{quoted(value)} is not a number as the mapping says they are written")
        return EXACT.create_decimal(plain)


def time_reader(file: MappingFile) -> Callable[[Any], str]:
    """A function that converts a time in one of the file's formats to RFC 3339. It raises Unmappable."""
    formats = [file.time_format] if isinstance(file.time_format, str) else file.time_format
    zone: tzinfo = (
        ZoneInfo(file.zone)
        if file.zone is not None
        else timezone(timedelta(milliseconds=units.parse_utc_offset(file.utc_offset)))
    )

    def as_rfc3339(at_ms: int, value: Any) -> str:
        if not 0 <= at_ms < units.LATEST_MS:
            raise Unmappable("bad_time", f"{quoted(value)} is not within 1970 and 2100")
        return units.format_time(at_ms)

    def to_ms(at: datetime) -> int:
        # Of an hour that occurs twice, when clocks are set back, the first is used.
        return units.ms_from_datetime(at if at.tzinfo else at.replace(tzinfo=zone))

    @lru_cache(TIMES_CACHED)
    def read_text(text: str) -> str:
        for one in formats:
            try:
                if one == "rfc3339":
                    return as_rfc3339(to_ms(datetime.fromisoformat(text)), text)
                if one in ("epoch-s", "epoch-ms"):
                    return as_rfc3339(_epoch_ms(text, one), text)
                return as_rfc3339(to_ms(datetime.strptime(text, one)), text)  # noqa: DTZ007
            except Unmappable:
                raise
            except (ValueError, OverflowError, InvalidOperation):
                continue
        raise Unmappable("bad_time", f"{quoted(text)} is not a time written as {' or '.join(formats)}")

    def read(value: Any) -> str:
        if isinstance(value, datetime):
            return as_rfc3339(to_ms(value), value)
        if isinstance(value, date):
            return as_rfc3339(to_ms(datetime.combine(value, time.min)), value)
        return read_text(as_text(value).strip())

    return read


def _epoch_ms(text: str, unit: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 20:
        return int(text) * (1000 if unit == "epoch-s" else 1)
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(text)
    return int(number * 1000 if unit == "epoch-s" else number)


def is_empty(value: Any) -> bool:
    """Whether a cell is empty: None, an empty text, or not a number (pandas' missing value)."""
    if isinstance(value, str):
        return not value
    return value is None or (isinstance(value, float) and value != value)  # noqa: PLR0124


def as_text(value: Any) -> str:
    """A value as a CSV file would contain it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(value)


def quoted(value: Any) -> str:
    """A value as messages quote it, at most 60 characters of it."""
    text = repr(as_text(value))
    return text if len(text) <= 60 else f"{text[:60]}…"
