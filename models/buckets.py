"""A customer's purchases summed by time bucket, as packed bytes: most events change only the last few buckets.

A bucket is (number, purchases, orders, spend_minor): `number` is its start in units of the window's bucket width,
`orders` the purchases less those refunded in full. The first byte says how wide the numbers are: narrow, unless one of
the buckets needs wide ones, so equal buckets have equal bytes. Buckets are sorted by number, and empty ones are left
out.
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
"""The sum of some buckets: spend_minor, orders, and of these the part in buckets with more refunds than purchases,
refunded_minor and refunded_orders, which are never positive.
"""
NOTHING: Final[Total] = (0, 0, 0, 0)
Row = tuple[i64, i64, i64, i64]
"""A bucket as machine words."""


def count(data: bytes) -> i64:
    """The number of buckets.

    >>> int(count(add(add(EMPTY, 7, 1, 1, 250), 7, 1, 1, 100)))
    1
    """
    if not data:
        return 0
    size: i64 = len(data)
    return size // _NARROW_SIZE if data[0] == 0 else size // _WIDE_SIZE


def get(data: bytes, index: i64) -> Row:
    """The bucket at an index, which must be in range."""
    if data[0] != 0:
        found: Row = _unpack_wide(data, 1 + index * _WIDE_SIZE)
        return found
    at = 1 + index * _NARROW_SIZE
    word = read_i64_le(data, at)
    return word & _NUMBER, word >> _PURCHASES_AT & _PURCHASES, word >> _ORDERS_AT, i64(read_i32_le(data, at + 8))


def number_at(data: bytes, index: i64) -> i64:
    """The number of the bucket at an index, which must be in range."""
    return i64(read_i32_le(data, 1 + index * (_NARROW_SIZE if data[0] == 0 else _WIDE_SIZE))) & _NUMBER


def unpack(data: bytes) -> list[Bucket]:
    """All buckets, in order.

    >>> unpack(add(add(EMPTY, 7, 1, 1, 250), 5, 0, -1, -90))
    [Bucket(number=5, purchases=0, orders=-1, spend_minor=-90), Bucket(number=7, purchases=1, orders=1, spend_minor=250)]
    """
    return [Bucket(*one) for one in rows(data)]


def rows(data: bytes) -> list[tuple[int, int, int, int]]:
    """All buckets, in order, as plain tuples."""
    return list((_NARROW if data[0] == 0 else _WIDE).iter_unpack(memoryview(data)[1:])) if data else []


def pack(buckets: Iterable[tuple[int, int, int, int]]) -> bytes:
    """The bytes of buckets, which must be in order.

    >>> pack([(5, 0, -1, -90), (7, 1, 1, 250)]) == add(add(EMPTY, 7, 1, 1, 250), 5, 0, -1, -90)
    True
    """
    kept = list(buckets)
    if not kept:
        return EMPTY
    if all(_fits(purchases, orders, spend) for _, purchases, orders, spend in kept):
        return _IS_NARROW + b"".join([_NARROW.pack(*one) for one in kept])
    return _IS_WIDE + b"".join([_pack_wide(*one) for one in kept])


def first_from(data: bytes, number: i64) -> i64:
    """The index of the first bucket with this number or a later one; the number of buckets if there is none."""
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
    return pack(rows(data)[index:])


def total(data: bytes, first: i64, end: i64) -> Total:
    """The sum of the buckets from number `first` to before number `end`.

    >>> total(add(add(EMPTY, 7, 1, 1, 250), 5, 0, -1, -90), 5, 8)
    (160, 0, -90, -1)
    """
    if not data or number_at(data, 0) >= end:
        return NOTHING
    # Python ints: the sum of any number of buckets has to be right.
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
    """The bucket with this number; an empty one if it is missing."""
    index = first_from(data, number)
    if index < count(data) and number_at(data, index) == number:
        return get(data, index)
    return (number, 0, 0, 0)


def has_purchase(data: bytes, first: i64, end: i64) -> bool:
    """Whether any bucket from number `first` to before number `end` holds a purchase."""
    index = count(data)
    # From the end: callers nearly always ask about the present day.
    while index > 0:
        index -= 1
        number = number_at(data, index)
        if number < first:
            return False
        if number < end and get(data, index)[1]:
            return True
    return False


def active_periods(data: bytes, begin: i64, buckets_a_period: i64) -> int:
    """How many periods of `buckets_a_period` buckets, on a grid from number 0, have an order; counts buckets from index
    `begin` on.
    """
    found = 0
    index, last, buckets = begin, i64(-1), count(data)
    while index < buckets:
        period = number_at(data, index) // buckets_a_period
        if period != last and get(data, index)[2] > 0:
            found, last = found + 1, period
        index += 1
    return found


def add(data: bytes, number: i64, purchases: i64, orders: i64, spend_minor: i64) -> bytes:
    """The buckets with these amounts added to the bucket of `number`. They must fit into 64 bits
    (models.facts.would_overflow).
    """
    if not data:
        data = _IS_NARROW
    index = count(data)
    is_there = False
    # The bucket is nearly always the last one, or a new one after it.
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
        return pack([*kept[:index], *new, *kept[index + is_there :]])
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
