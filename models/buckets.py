"""What a customer bought, by stretches of time, as packed bytes: most events touch only the last few of them.

A bucket is (number, purchases, orders, spend_minor): `number` is its start in units of the window's bucket width, `orders`
the purchases less those refunded in full. The bytes begin with one that tells how wide the numbers are: narrow, unless
one of the buckets needs more, so that the same buckets are the same bytes. Sorted by number; a bucket that holds nothing does not exist.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

EMPTY: Final[bytes] = b""
_NARROW: Final = struct.Struct("<IHhi")
_WIDE: Final = struct.Struct("<IIiq")
_NARROW_SIZE: Final = 12
_WIDE_SIZE: Final = 20
_IS_NARROW: Final = b"\x00"
_IS_WIDE: Final = b"\x01"
_unpack_wide: Final = _WIDE.unpack_from
_pack_narrow: Final = _NARROW.pack
_pack_wide: Final = _WIDE.pack


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


def count(data: bytes) -> int:
    """How many buckets there are."""
    if not data:
        return 0
    return len(data) // (_NARROW_SIZE if data[0] == 0 else _WIDE_SIZE)


def get(data: bytes, index: int) -> tuple[int, int, int, int]:
    """The bucket at an index, which must exist. Narrow ones are read byte by byte: compiled, that is the quickest."""
    if data[0] != 0:
        found: tuple[int, int, int, int] = _unpack_wide(data, 1 + index * _WIDE_SIZE)
        return found
    at = 1 + index * _NARROW_SIZE
    orders = data[at + 6] | data[at + 7] << 8
    spend = data[at + 8] | data[at + 9] << 8 | data[at + 10] << 16 | data[at + 11] << 24
    return (
        data[at] | data[at + 1] << 8 | data[at + 2] << 16 | data[at + 3] << 24,
        data[at + 4] | data[at + 5] << 8,
        orders - (1 << 16) if orders >= 1 << 15 else orders,
        spend - (1 << 32) if spend >= 1 << 31 else spend,
    )


def number_at(data: bytes, index: int) -> int:
    """The number of the bucket at an index, which must exist."""
    begin = 1 + index * (_NARROW_SIZE if data[0] == 0 else _WIDE_SIZE)
    return data[begin] | data[begin + 1] << 8 | data[begin + 2] << 16 | data[begin + 3] << 24


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
        return _IS_NARROW + b"".join([_pack_narrow(*one) for one in kept])
    return _IS_WIDE + b"".join([_pack_wide(*one) for one in kept])


def first_from(data: bytes, number: int) -> int:
    """The index of the first bucket with this number or a later one; how many there are if there is none."""
    low, high = 0, count(data)
    while low < high:
        middle = (low + high) // 2
        if number_at(data, middle) < number:
            low = middle + 1
        else:
            high = middle
    return low


def since(data: bytes, number: int) -> bytes:
    """The buckets with this number or a later one."""
    if not data or number_at(data, 0) >= number:
        return data
    index = first_from(data, number)
    if index == count(data):
        return EMPTY
    if data[0] == 0:
        return data[:1] + data[1 + index * _NARROW_SIZE :]
    return packed(rows(data)[index:])


def total(data: bytes, first: int, end: int) -> Total:
    """What the buckets from number `first` to before number `end` add up to."""
    if not data or number_at(data, 0) >= end:
        return NOTHING
    spend = orders = refunded_minor = refunded_orders = 0
    for index in range(first_from(data, first), count(data)):
        number, _, its_orders, its_spend = get(data, index)
        if number >= end:
            break
        spend += its_spend
        orders += its_orders
        if its_spend < 0:
            refunded_minor += its_spend
        if its_orders < 0:
            refunded_orders += its_orders
    return spend, orders, refunded_minor, refunded_orders


def at(data: bytes, number: int) -> tuple[int, int, int, int]:
    """The bucket with this number; one that holds nothing if there is none."""
    index = first_from(data, number)
    if index < count(data) and number_at(data, index) == number:
        return get(data, index)
    return (number, 0, 0, 0)


def has_purchase(data: bytes, first: int, end: int) -> bool:
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


def active_periods(data: bytes, begin: int, buckets_a_period: int) -> int:
    """How many periods of so many buckets, on a grid from number 0, hold an order in the buckets from index `begin` on."""
    found, last = 0, -1
    for index in range(begin, count(data)):
        period = number_at(data, index) // buckets_a_period
        if period != last and get(data, index)[2] > 0:
            found, last = found + 1, period
    return found


def add(data: bytes, number: int, purchases: int, orders: int, spend_minor: int) -> bytes:
    """The buckets with so much added to that of `number`."""
    if not data:
        return packed([(number, purchases, orders, spend_minor)]) if purchases or orders or spend_minor else EMPTY
    index = count(data)
    last = number_at(data, index - 1)
    if last < number:
        if data[0] == 0 and (purchases or orders or spend_minor) and _fits(purchases, orders, spend_minor):
            return data + _pack_narrow(number, purchases, orders, spend_minor)
    else:
        index = index - 1 if last == number else first_from(data, number)
    size = _NARROW_SIZE if data[0] == 0 else _WIDE_SIZE
    begin = 1 + index * size
    if begin < len(data) and number_at(data, index) == number:
        _, its_purchases, its_orders, its_spend = get(data, index)
        return _put(
            data, begin, begin + size, number, its_purchases + purchases, its_orders + orders, its_spend + spend_minor
        )
    return _put(data, begin, begin, number, purchases, orders, spend_minor)


def _put(data: bytes, begin: int, end: int, number: int, purchases: int, orders: int, spend_minor: int) -> bytes:
    """The buckets with the bytes from `begin` to `end` replaced by this bucket, or by nothing if it holds nothing."""
    holds_something = bool(purchases or orders or spend_minor)
    if data[0] == 0 and _fits(purchases, orders, spend_minor):
        if holds_something:
            return data[:begin] + _pack_narrow(number, purchases, orders, spend_minor) + data[end:]
        rest = data[:begin] + data[end:]
        return rest if len(rest) > 1 else EMPTY
    size = _NARROW_SIZE if data[0] == 0 else _WIDE_SIZE
    kept = rows(data)
    new = [(number, purchases, orders, spend_minor)] if holds_something else []
    return packed(kept[: (begin - 1) // size] + new + kept[(end - 1) // size :])


def _fits(purchases: int, orders: int, spend_minor: int) -> bool:
    return purchases < 1 << 16 and -(1 << 15) <= orders < 1 << 15 and -(1 << 31) <= spend_minor < 1 << 31
