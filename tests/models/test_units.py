"""Times, durations and money."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import units
from models.units import AmountError

DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1970-01-01", 0),
        ("1997-01-01T00:00:00Z", 852_076_800_000),
        ("1997-01-01T08:00:00+08:00", 852_076_800_000),
        ("1997-01-01T00:00:00.001Z", 852_076_800_001),
        ("852076800000", 852_076_800_000),
    ],
)
def test_a_time_is_rfc_3339_a_date_or_milliseconds(text: str, at_ms: int) -> None:
    assert units.parse_time(text) == at_ms


@pytest.mark.parametrize("text", ["yesterday", "", "1997-02-30", "1997-13-01T00:00:00Z", "٣"])
def test_what_is_no_time_is_answered_with_what_would_be_one(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time; write 2026-01-31"):
        units.parse_time(text)


def test_a_time_of_day_without_an_offset_is_ambiguous_and_refused() -> None:
    with pytest.raises(ValueError, match="no offset from UTC; end it with Z"):
        units.parse_time("1997-01-01T00:00:00")


@given(st.integers(0, units.LATEST_MS * 2))
def test_a_time_survives_writing_and_reading(at_ms: int) -> None:
    written = units.format_time(at_ms)
    assert units.parse_time(written) == at_ms
    assert written.endswith("Z")


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001 - Hypothesis wants them naive
def test_microseconds_are_rounded_down(at: datetime) -> None:
    at_ms = units.ms_from_datetime(at.replace(tzinfo=UTC))
    assert units.parse_time(units.format_time(at_ms)) == at_ms
    cut_off = at.replace(tzinfo=UTC) - units.EPOCH - timedelta(milliseconds=at_ms)
    assert timedelta(0) <= cut_off < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [
        ("250ms", 250),
        ("2s", 2000),
        ("15m", 900_000),
        ("1h", 3_600_000),
        ("90d", 90 * DAY_MS),
        ("2w", 14 * DAY_MS),
        ("0d", 0),
    ],
)
def test_a_duration_is_a_whole_number_and_a_unit(text: str, duration_ms: int) -> None:
    assert units.parse_duration(text) == duration_ms


@pytest.mark.parametrize("text", ["90", "d", "1.5d", "-1d", "1y", "1d 2h", "1month", ""])
def test_what_is_no_duration_is_answered_with_what_would_be_one(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write a whole number and one of ms, s, m, h, d, w"):
        units.parse_duration(text)


@pytest.mark.parametrize(("text", "hours"), [("+08:00", 8), ("-05:30", -5.5), ("+00:00", 0), ("+05:45", 5.75)])
def test_an_offset_lies_east_or_west_of_utc(text: str, hours: float) -> None:
    assert units.parse_utc_offset(text) == hours * 3_600_000


@pytest.mark.parametrize("text", ["8", "+8:00", "+15:00", "+08:60", "Z", "08:00"])
def test_what_is_no_offset_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an offset from UTC; write it as \\+08:00"):
        units.parse_utc_offset(text)


# ---------------------------------------------------------------- money
@pytest.mark.parametrize(
    ("currency", "decimals"), [("USD", 2), ("CNY", 2), ("JPY", 0), ("KRW", 0), ("KWD", 3), ("BHD", 3)]
)
def test_a_currency_has_the_decimals_of_iso_4217(currency: str, decimals: int) -> None:
    assert units.currency_decimals(currency) == decimals


@pytest.mark.parametrize(
    ("amount", "decimals", "minor"),
    [
        ("29.33", 2, 2933),
        ("29.3", 2, 2930),
        ("29", 2, 2900),
        ("29.330", 2, 2933),
        (29.33, 2, 2933),
        (0.1, 2, 10),
        (29, 2, 2900),
        ("1500", 0, 1500),
        ("1500.00", 0, 1500),
        ("1.234", 3, 1234),
        (1.2, 3, 1200),
        ("0", 2, 0),
        ("1e3", 2, 100_000),
        ("-1.50", 2, -150),
        ("+5", 0, 5),
        (1e15, 2, 10**17),
    ],
)
def test_an_amount_is_counted_in_minor_units_exactly(amount: str | float, decimals: int, minor: int) -> None:
    assert units.parse_minor(amount, decimals) == minor


@pytest.mark.parametrize(
    ("amount", "decimals", "code"),
    [
        ("29.331", 2, "too_many_decimals"),
        ("0.5", 0, "too_many_decimals"),
        ("1.2345", 3, "too_many_decimals"),
        (1e-9, 2, "too_many_decimals"),
        ("1e-400", 2, "too_many_decimals"),
        ("1e400", 2, "amount_out_of_range"),
        ("1_000", 2, "bad_amount"),
        (" 7", 2, "bad_amount"),
        ("٣", 2, "bad_amount"),
        ("²", 2, "bad_amount"),
        ("1,000", 2, "bad_amount"),
        ("", 2, "bad_amount"),
        (".", 2, "bad_amount"),
        ("NaN", 2, "bad_amount"),
    ],
)
def test_an_amount_that_cannot_be_counted_has_a_reason_code(amount: str | float, decimals: int, code: str) -> None:
    with pytest.raises(AmountError, match=r"^amount") as caught:
        units.parse_minor(amount, decimals)
    assert caught.value.code == code


@given(st.integers(-(10**15), 10**15), st.sampled_from([0, 2, 3]))
def test_money_survives_writing_and_reading(minor: int, decimals: int) -> None:
    assert units.parse_minor(units.format_minor(minor, decimals), decimals) == minor


@pytest.mark.parametrize(
    ("minor", "currency", "words"),
    [
        (124_000, "CNY", "¥1,240.00"),
        (-5, "USD", "-$0.05"),
        (150, "SEK", "1.50 SEK"),
        (1500, "JPY", "1,500 JPY"),
        (1234, "KWD", "1.234 KWD"),
    ],
)
def test_money_in_words_has_its_symbol_or_its_code(minor: int, currency: str, words: str) -> None:
    assert units.money_in_words(minor, currency) == words
