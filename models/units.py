"""Times, durations and money: their text forms, and the integers that the program computes with.

In the program a time is an integer number of milliseconds since the epoch in UTC and a duration one of milliseconds
(`_ms`); money is an integer number of minor units of a currency (`_minor`). As text, a time is RFC 3339, a duration is
like `"30d"`, and money is a decimal with its ISO 4217 code.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Final

from mypy_extensions import i64

SECOND_MS: Final[int] = 1_000
MINUTE_MS: Final[int] = 60 * SECOND_MS
HOUR_MS: Final[int] = 60 * MINUTE_MS
DAY_MS: Final[int] = 24 * HOUR_MS
WEEK_MS: Final[int] = 7 * DAY_MS

LATEST_MS: Final[int] = 4_102_444_800_000
"""2100-01-01: no event is accepted at or after it, so every instant computed from one can be written as RFC 3339."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
ONE_MS: Final = timedelta(milliseconds=1)
_EPOCH_ORDINAL: Final = EPOCH.toordinal()
_TIMES: Final = [f"T{minute // 60:02d}:{minute % 60:02d}:" for minute in range(24 * 60)]
_SECONDS: Final = [f"{second:02d}" for second in range(60)]
_HUNDREDTHS: Final = [f"{part:02d}" for part in range(100)]
_UNIT: Final = [1, 10, 100, 1_000, 10_000]
"""Minor units of one major unit, by number of decimals."""
_MILLISECONDS: Final = [f".{ms:03d}Z" for ms in range(1000)]
_MOST_DATES: Final = 50_000
_dates: Final[dict[int, str]] = {}
"""A cache of the dates of days since the epoch: the part of a time that is expensive to format, and that repeats."""

_UNIT_MS = {"ms": 1, "s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS, "w": WEEK_MS}
_DURATION = re.compile(r"(\d+)\s*(ms|s|m|h|d|w)")
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)")
# ASCII digits only; Decimal alone would also accept "1_000", " 7 " and "٣".
_DECIMAL = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)

# ISO 4217: every currency has two decimals but these.
_DECIMALS = dict.fromkeys(
    "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0
) | dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3)

MAX_AMOUNT_CHARACTERS: Final[int] = 64
"""Far more than any amount needs; the cost of parsing a decimal grows faster than its length, so it is limited."""

MOST_PLAIN_CHARACTERS: Final = 15
"""A float represents every number of so many digits exactly enough, so a plain JSON number is read from its digits."""
NOT_PLAIN: Final = -1
QUOTE: Final = 0x22
POINT: Final = 0x2E
ZERO: Final = 0x30

# As many digits as an amount may have: the default of 28 would round.
_EXACT = Context(prec=MAX_AMOUNT_CHARACTERS)
_OUT_OF_RANGE = Decimal(10) ** 30
_SYMBOLS = {"CNY": "¥", "USD": "$", "EUR": "€", "GBP": "£"}


def ms_from_datetime(at: datetime) -> int:
    """Milliseconds since the epoch of an aware datetime, rounded down.

    >>> ms_from_datetime(datetime(1970, 1, 2, tzinfo=UTC))
    86400000
    """
    if at.tzinfo is not UTC:
        return (at - EPOCH) // ONE_MS
    # The same without a timedelta, since this runs for every event.
    day_seconds = at.hour * 3600 + at.minute * 60 + at.second
    return (at.toordinal() - _EPOCH_ORDINAL) * DAY_MS + day_seconds * SECOND_MS + at.microsecond // 1000


def parse_time(text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time, a date (its midnight, UTC) or a whole number of ms.

    Raises ValueError with a sentence that says what is expected.

    >>> parse_time("1997-01-01T00:00:00Z"), parse_time("1997-01-01"), parse_time("852076800000")
    (852076800000, 852076800000, 852076800000)
    """
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a time; write 2026-01-31, 2026-01-31T12:00:00Z or milliseconds since 1970"
        ) from None
    if at.tzinfo is None:
        if len(text) > len("2026-01-31"):
            raise ValueError(f"{text!r} has no offset from UTC; end it with Z or +08:00")
        at = at.replace(tzinfo=UTC)
    return ms_from_datetime(at)


def format_time(at_ms: int) -> str:
    """RFC 3339 in UTC, with milliseconds only where there are any.

    >>> format_time(852076800000), format_time(852076800001)
    ('1997-01-01T00:00:00Z', '1997-01-01T00:00:00.001Z')
    """
    seconds, ms = at_ms // 1000, at_ms % 1000
    day, second = seconds // 86_400, seconds % 86_400
    date = _dates.get(day)
    if date is None:
        if len(_dates) >= _MOST_DATES:
            _dates.clear()
        date = _dates[day] = (EPOCH + timedelta(days=day)).date().isoformat()
    return f"{date}{_TIMES[second // 60]}{_SECONDS[second % 60]}{_MILLISECONDS[ms] if ms else 'Z'}"


def parse_duration(text: str) -> int:
    """Milliseconds of a duration such as `90d`, `1h` or `250ms`. Raises ValueError.

    >>> parse_duration("90d") == 90 * DAY_MS
    True
    """
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a duration; write a whole number and one of ms, s, m, h, d, w, as in 90d")
    return int(match[1]) * _UNIT_MS[match[2]]


def format_duration(duration_ms: int) -> str:
    """An exact duration in the largest units that fit.

    >>> format_duration(90 * DAY_MS), format_duration(90 * MINUTE_MS), format_duration(90 * DAY_MS + 1), format_duration(0)
    ('90d', '1h30m', '90d1ms', '0d')
    """
    written, rest = "", duration_ms
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _UNIT_MS[unit])
        written += f"{count}{unit}" if count else ""
    return written or "0d"


def parse_utc_offset(text: str) -> int:
    """Milliseconds east of UTC of an offset such as `+08:00`. Raises ValueError.

    >>> parse_utc_offset("+08:00") == 8 * HOUR_MS
    True
    """
    match = _OFFSET.fullmatch(text)
    if not match or int(match[2]) > 14 or int(match[3]) > 59:
        raise ValueError(f"{text!r} is not an offset from UTC; write it as +08:00")
    offset_ms = int(match[2]) * HOUR_MS + int(match[3]) * MINUTE_MS
    return -offset_ms if match[1] == "-" else offset_ms


def currency_decimals(currency: str) -> int:
    """How many decimals ISO 4217 gives a currency's minor unit.

    >>> currency_decimals("CNY"), currency_decimals("JPY"), currency_decimals("KWD")
    (2, 0, 3)
    """
    return _DECIMALS.get(currency, 2)


class AmountError(ValueError):
    """An amount that can't be counted in minor units; `code` is the reason code of events.py."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def parse_minor(amount: str | int | float, decimals: int) -> int:
    """A decimal amount in minor units, exactly. Raises AmountError.

    A float is taken at its shortest decimal form, so the JSON number 29.33 is 29.33.

    >>> parse_minor("29.33", 2), parse_minor(29.3, 2), parse_minor(29, 2), parse_minor("1500", 0)
    (2933, 2930, 2900, 1500)
    """
    text = amount if isinstance(amount, str) else repr(amount)
    whole, point, fraction = text.partition(".")
    if len(text) < 20 and text.isascii() and whole.isdigit() and (fraction.isdigit() if point else True):
        fraction = fraction.rstrip("0")
        if len(fraction) > decimals:
            raise AmountError("too_many_decimals", f"amount {text} has more than {decimals} decimals")
        return int(whole + fraction.ljust(decimals, "0"))
    return _parse_minor_slowly(text, decimals)


def parse_plain_minor(amount: bytes, decimals: int) -> int:
    """An amount as JSON has it in minor units, if it is plain: a few digits, at most so many of them decimals.

    NOT_PLAIN if it is not.

    >>> parse_plain_minor(b'"29.33"', 2), parse_plain_minor(b"29.3", 2), parse_plain_minor(b"2e3", 2)
    (2933, 2930, -1)
    """
    begin: i64 = 0
    end: i64 = len(amount)
    if end > MOST_PLAIN_CHARACTERS:
        return NOT_PLAIN
    if end > 1 and amount[0] == QUOTE:
        begin, end = 1, end - 1
    minor: i64 = 0
    point: i64 = -1
    for at in range(begin, end):
        digit = i64(amount[at]) - ZERO
        if 0 <= digit <= 9:
            minor = minor * 10 + digit
        elif digit == POINT - ZERO and point < 0 and at > begin:
            point = at
        else:
            return NOT_PLAIN
    missing = decimals if point < 0 else decimals - (end - 1 - point)
    if begin == end or point == end - 1 or missing < 0:
        return NOT_PLAIN
    for _ in range(missing):
        minor *= 10
    return minor


def _parse_minor_slowly(text: str, decimals: int) -> int:
    shown = text if len(text) <= 40 else text[:40] + "…"
    if len(text) > MAX_AMOUNT_CHARACTERS or not _DECIMAL.fullmatch(text):
        raise AmountError(
            "bad_amount", f"amount {shown!r} is not a decimal number of at most {MAX_AMOUNT_CHARACTERS} characters"
        )
    minor = Decimal(text).scaleb(decimals, _EXACT)
    if not -_OUT_OF_RANGE < minor < _OUT_OF_RANGE:
        raise AmountError("amount_out_of_range", f"amount {shown} is out of range")
    whole = int(minor)
    if whole != minor:
        raise AmountError("too_many_decimals", f"amount {shown} has more than {decimals} decimals")
    return whole


def format_minor(minor: int, decimals: int) -> str:
    """Money on the wire: a decimal string.

    >>> format_minor(-2933, 2), format_minor(5, 2), format_minor(1500, 0)
    ('-29.33', '0.05', '1500')
    """
    if not decimals:
        return str(minor)
    return _decimal(str(-minor // _UNIT[decimals] if minor < 0 else minor // _UNIT[decimals]), minor, decimals)


def _decimal(whole: str, minor: int, decimals: int) -> str:
    """The decimal of an amount; `whole` is its whole part as text, without a sign."""
    part = (-minor if minor < 0 else minor) % _UNIT[decimals]
    fraction = _HUNDREDTHS[part] if decimals == 2 else str(part).rjust(decimals, "0")
    return f"-{whole}.{fraction}" if minor < 0 else f"{whole}.{fraction}"


def money_in_words(minor: int, currency: str) -> str:
    """Money for people to read.

    >>> money_in_words(124_000, "CNY"), money_in_words(150, "SEK")
    ('¥1,240.00', '1.50 SEK')
    """
    decimals = currency_decimals(currency)
    whole = -minor // _UNIT[decimals] if minor < 0 else minor // _UNIT[decimals]
    written = str(whole) if whole < 1000 else f"{whole:,}"
    symbol = _SYMBOLS.get(currency, "")
    text = _decimal(symbol + written, minor, decimals) if decimals else ("-" if minor < 0 else "") + symbol + written
    return text if symbol else f"{text} {currency}"
