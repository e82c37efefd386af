"""What a customer bought, by stretches of time, as packed bytes: most events touch only the last few of them.

A bucket is (number, purchases, orders, spend_minor): `number` is its start in units of the window's bucket width, `orders`
the purchases less those refunded in full. The bytes begin with one that tells how wide the numbers are: narrow, unless
one of the buckets needs more, so that the same buckets are the same bytes. Sorted by number; a bucket that holds nothing does not exist.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from librt.strings import BytesWriter, read_i32_le, read_i64_le, write_i32_le, write_i64_le
from mypy_extensions import i32, i64

EMPTY: Final[bytes] = b""
_NARROW: Final = struct.Struct("<IHhi")
_WIDE: Final = struct.Struct("<IIiq")
_NARROW_SIZE: Final = 12
_WIDE_SIZE: Final = 20
_IS_NARROW: Final = b"\x00"
_IS_WIDE: Final = b"\x01"
_unpack_wide: Final = _WIDE.unpack_from
_pack_wide: Final = _WIDE.pack
# A narrow bucket's number, purchases and orders are one machine word.
_NUMBER: Final = 0xFFFF_FFFF
_PURCHASES_AT: Final = 32
_PURCHASES: Final = 0xFFFF
_ORDERS_AT: Final = 48


class Bucket(NamedTuple):
    """One bucket, unpacked."""

    number: int
    purchases: int
    orders: int
    spend_minor: int


Total = tuple[int, int, int, int]
"""What some buckets add up to: spend_minor, orders, and of that what is in those with more refunds than purchases,
neither of which is positive: refunded_minor, refunded_orders.
"""
NOTHING: Final[Total] = (0, 0, 0, 0)
Row = tuple[i64, i64, i64, i64]
"""A bucket, in machine words."""


def count(data: bytes) -> i64:
    """How many buckets there are."""
    if not data:
        return 0
    size: i64 = len(data)
    return size // _NARROW_SIZE if data[0] == 0 else size // _WIDE_SIZE


def get(data: bytes, index: i64) -> Row:
    """The bucket at an index, which must exist."""
    if data[0] != 0:
        found: Row = _unpack_wide(data, 1 + index * _WIDE_SIZE)
        return found
    at = 1 + index * _NARROW_SIZE
    word = read_i64_le(data, at)
    return word & _NUMBER, word >> _PURCHASES_AT & _PURCHASES, word >> _ORDERS_AT, i64(read_i32_le(data, at + 8))


def number_at(data: bytes, index: i64) -> i64:
    """The number of the bucket at an index, which must exist."""
    return i64(read_i32_le(data, 1 + index * (_NARROW_SIZE if data[0] == 0 else _WIDE_SIZE))) & _NUMBER


def listed(data: bytes) -> list[Bucket]:
    """All buckets, in order.

    >>> listed(add(add(EMPTY, 7, 1, 1, 250), 5, 0, -1, -90))
    [Bucket(number=5, purchases=0, orders=-1, spend_minor=-90), Bucket(number=7, purchases=1, orders=1, spend_minor=250)]
    """
    return [Bucket(*one) for one in rows(data)]


def rows(data: bytes) -> list[tuple[int, int, int, int]]:
    """All buckets, in order, as plain tuples."""
    return list((_NARROW if data[0] == 0 else _WIDE).iter_unpack(memoryview(data)[1:])) if data else []


def packed(buckets: Iterable[tuple[int, int, int, int]]) -> bytes:
    """Buckets in order, as bytes."""
    kept = list(buckets)
    if not kept:
        return EMPTY
    if all(_fits(purchases, orders, spend) for _, purchases, orders, spend in kept):
        return _IS_NARROW + b"".join([_NARROW.pack(*one) for one in kept])
    return _IS_WIDE + b"".join([_pack_wide(*one) for one in kept])


def first_from(data: bytes, number: i64) -> i64:
    """The index of the first bucket with this number or a later one; how many there are if there is none."""
    low: i64 = 0
    high = count(data)
    while low < high:
        middle = (low + high) >> 1
        if number_at(data, middle) < number:
            low = middle + 1
        else:
            high = middle
    return low


def since(data: bytes, number: i64) -> bytes:
    """The buckets with this number or a later one."""
    if not data or number_at(data, 0) >= number:
        return data
    index = first_from(data, number)
    if index == count(data):
        return EMPTY
    if data[0] == 0:
        return data[:1] + data[1 + index * _NARROW_SIZE :]
    return packed(rows(data)[index:])


def total(data: bytes, first: i64, end: i64) -> Total:
    """What the buckets from number `first` to before number `end` add up to."""
    if not data or number_at(data, 0) >= end:
        return NOTHING
    # Ints: however many buckets, their sum has to be right.
    spend = orders = refunded_minor = refunded_orders = 0
    index, buckets = first_from(data, first), count(data)
    while index < buckets:
        number, _, its_orders, its_spend = get(data, index)
        if number >= end:
            break
        spend += its_spend
        orders += its_orders
        if its_spend < 0:
            refunded_minor += its_spend
        if its_orders < 0:
            refunded_orders += its_orders
        index += 1
    return spend, orders, refunded_minor, refunded_orders


def at(data: bytes, number: i64) -> Row:
    """The bucket with this number; one that holds nothing if there is none."""
    index = first_from(data, number)
    if index < count(data) and number_at(data, index) == number:
        return get(data, index)
    return (number, 0, 0, 0)


def has_purchase(data: bytes, first: i64, end: i64) -> bool:
    """Whether any bucket from number `first` to before number `end` holds a purchase."""
    index = count(data)
    # From the end: what is asked about is nearly always the present day.
    while index > 0:
        index -= 1
        number = number_at(data, index)
        if number < first:
            return False
        if number < end and get(data, index)[1]:
            return True
    return False


def active_periods(data: bytes, begin: i64, buckets_a_period: i64) -> int:
    """How many periods of so many buckets, on a grid from number 0, hold an order in the buckets from index `begin` on."""
    found = 0
    index, last, buckets = begin, i64(-1), count(data)
    while index < buckets:
        period = number_at(data, index) // buckets_a_period
        if period != last and get(data, index)[2] > 0:
            found, last = found + 1, period
        index += 1
    return found


def add(data: bytes, number: i64, purchases: i64, orders: i64, spend_minor: i64) -> bytes:
    """The buckets with so much added to that of `number`. What is in one fits into 64 bits (models.facts.would_overflow)."""
    if not data:
        data = _IS_NARROW
    index = count(data)
    is_there = False
    # What is added to is nearly always the last, or comes after it.
    last = number_at(data, index - 1) if index else i64(-1)
    if last >= number:
        index = index - 1 if last == number else first_from(data, number)
        is_there = number_at(data, index) == number
    if is_there:
        _, its_purchases, its_orders, its_spend = get(data, index)
        purchases, orders, spend_minor = its_purchases + purchases, its_orders + orders, its_spend + spend_minor
    holds_something = purchases != 0 or orders != 0 or spend_minor != 0
    if data[0] != 0 or not _fits(purchases, orders, spend_minor):
        kept = rows(data)
        new = [(number, purchases, orders, spend_minor)] if holds_something else []
        return packed([*kept[:index], *new, *kept[index + is_there :]])
    begin = 1 + index * _NARROW_SIZE
    end = begin + _NARROW_SIZE if is_there else begin
    if not holds_something:
        rest = data[:begin] + data[end:]
        return rest if len(rest) > 1 else EMPTY
    changed = BytesWriter()
    changed.write(data)
    changed.truncate(begin)
    write_i64_le(changed, number | purchases << _PURCHASES_AT | orders << _ORDERS_AT)
    write_i32_le(changed, i32(spend_minor))
    if end < len(data):
        changed.write(data[end:])
    return changed.getvalue()


def _fits(purchases: i64, orders: i64, spend_minor: i64) -> bool:
    return purchases < 1 << 16 and -(1 << 15) <= orders < 1 << 15 and -(1 << 31) <= spend_minor < 1 << 31
