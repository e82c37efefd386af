"""A customer encoded as bytes, for tables, changelogs and checkpoints.

    schema version (1 byte), due_at_ms (8), edition (2), all big-endian: read without decoding the rest
    flags (1)                    which of the parts in brackets are present
    recent, buckets              each after its length
    clock_ms, seq, events        numbers, like everything that follows but names: zigzag, seven bits a byte (LEB128)
    first and last purchase      as ms before the clock, like most times here; times that are seldom near it are absolute
    purchase days, orders, spend_minor, window: first bucket, spend_minor, orders; last_day_minor
    tier, tier_since_ms          a name follows its length
    [tier_due_ms] [risk level, since, last alert] [stage, since, behaviour] [latest seq by topic] [region, since]
    [rare parts]                 MessagePack

A part that is absent is as in a new customer. Equal customers have equal bytes. The codec is hand-written, since every
changed customer passes through it once per batch: with machine words it takes a fifth of the instructions of a general
one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from librt.strings import BytesWriter, read_i64_be, write_i16_be, write_i64_be
from mypy_extensions import i16, i64, mypyc_attr, u8

from models import buckets
from models.customer import BASE_LEVEL, NEVER_MS, NO_SEQS, Customer, Facts, Standing
from models.customer_parts import Alert, ComplaintStep, Lock, Prospecting, Region, Satisfaction

SCHEMA_VERSION: Final = 5
EDITIONS_SINCE: Final = 3
"""The schema version from which the header has the edition."""
_HEADER_BYTES: Final = 11
_HEADER_BYTES_BEFORE_3: Final = 9

# Flags: which optional parts are present.
_TIER_DUE: Final = 1
_RISK: Final = 2
_LIFE: Final = 4
_SEQS: Final = 8
_REGION: Final = 16
_RARE: Final = 32
_ALL_FLAGS: Final = 63

_SEVEN_BITS: Final = 0x7F
_MORE: Final = 0x80
_LAST_SHIFT: Final = 63
_WORD_WITHOUT_7: Final = 2**57 - 1
_WORD_WITHOUT_1: Final = 2**63 - 1
_MOST_NAMES: Final = 4_096

_Rare = tuple[
    int, list[ComplaintStep], Satisfaction | None, int, int, int, Lock | None, Alert | None, Prospecting | None, str
]  # fmt: skip
"""Parts that most customers don't have: when their data was erased, complaints, satisfaction, spend and orders of the
window's buckets with more refunds than purchases, when their tier is lost, lock, alert, the prospect's marks, the
announced qualification.
"""
_encode_rare: Final = msgspec.msgpack.Encoder().encode
_decode_rare: Final = msgspec.msgpack.Decoder(_Rare).decode


class StateError(ValueError):
    """Bytes that are not a customer of any known schema version."""


# ---------------------------------------------------------------- reading the header alone
def due_at_ms_of(data: bytes) -> i64:
    """`due_at_ms` of an encoded customer, without decoding it."""
    due_at_ms = read_i64_be(data, 1)
    # It was larger in version 1.
    if due_at_ms < NEVER_MS:
        return due_at_ms
    return NEVER_MS


def edition_of(data: bytes) -> int:
    """`edition` of an encoded customer, without decoding it."""
    return data[9] << 8 | data[10] if data[0] >= EDITIONS_SINCE else 0


# ---------------------------------------------------------------- writing
def encode(customer: Customer) -> bytes:
    """The bytes of a customer, in the newest schema version.

    >>> from models.customer import Customer, Facts, Standing
    >>> someone = Customer(NEVER_MS, 0, 0, 0, b"", Facts(), Standing("none", 0))
    >>> encode(someone)[:1] == bytes([SCHEMA_VERSION])
    True
    """
    facts, standing, clock_ms = customer.facts, customer.standing, i64(customer.clock_ms)
    rare = _rare(customer)
    flags: i64 = 0
    if customer.tier_due_ms != NEVER_MS:
        flags |= _TIER_DUE
    if standing.risk_since_ms != 0 or standing.last_alert_ms != -1 or standing.risk_level != BASE_LEVEL:
        flags |= _RISK
    if standing.stage:
        flags |= _LIFE
    if customer.seq:
        flags |= _SEQS
    if facts.region is not None:
        flags |= _REGION
    if rare is not None:
        flags |= _RARE
    to = BytesWriter()
    to.append(u8(SCHEMA_VERSION))
    write_i64_be(to, i64(customer.due_at_ms))
    edition = i64(customer.edition)
    write_i16_be(to, i16(edition - 65536 if edition >= 32768 else edition))
    to.append(u8(flags))
    _write_common_parts(to, customer)
    if flags & _TIER_DUE:
        _write(to, customer.tier_due_ms - clock_ms)
    if flags & _RISK:
        _write_name(to, standing.risk_level)
        _write(to, standing.risk_since_ms)
        _write(to, standing.last_alert_ms)
    if flags & _LIFE:
        _write_name(to, standing.stage)
        _write(to, clock_ms - standing.stage_since_ms)
        _write_name(to, standing.behaviour)
    if flags & _SEQS:
        for seq in customer.latest_seqs:
            _write(to, seq)
    if facts.region is not None:
        _write_name(to, facts.region.name)
        _write(to, facts.region.at_ms)
    if rare is not None:
        to.write(_encode_rare(rare))
    return to.getvalue()


def _write_common_parts(to: BytesWriter, customer: Customer) -> None:
    facts, standing, clock_ms = customer.facts, customer.standing, i64(customer.clock_ms)
    _write_bytes(to, customer.recent)
    _write_bytes(to, facts.buckets)
    _write(to, clock_ms)
    _write(to, customer.seq)
    _write(to, customer.events)
    _write(to, clock_ms - facts.first_purchase_ms)
    _write(to, clock_ms - facts.last_purchase_ms)
    _write(to, facts.purchase_days)
    _write(to, facts.orders)
    _write(to, facts.spend_minor)
    _write(to, facts.window_first)
    _write(to, facts.window_spend_minor)
    _write(to, facts.window_orders)
    _write(to, facts.last_day_minor)
    _write_name(to, standing.tier)
    _write(to, clock_ms - standing.tier_since_ms)


def _rare(customer: Customer) -> _Rare | None:
    facts, standing = customer.facts, customer.standing
    if (
        facts.complaints
        or facts.satisfaction is not None
        or standing.downgrade_at_ms != NEVER_MS
        or facts.window_refunded_minor
        or facts.window_refunded_orders
        or standing.lock is not None
        or standing.alert is not None
        or customer.erased_at_ms >= 0
        or facts.prospecting is not None
    ):
        return (
            customer.erased_at_ms, facts.complaints, facts.satisfaction, facts.window_refunded_minor,
            facts.window_refunded_orders, standing.downgrade_at_ms, standing.lock, standing.alert,
            facts.prospecting, standing.qualification,
        )  # fmt: skip
    return None


def _write(to: BytesWriter, number: i64) -> None:
    # Zigzag: 0, -1, 1, -2 become 0, 1, 2, 3, so that what is near 0 is short.
    word = number << 1 ^ number >> 63
    while word & ~_SEVEN_BITS:
        to.append(u8(word & _SEVEN_BITS | _MORE))
        word = word >> 7 & _WORD_WITHOUT_7
    to.append(u8(word))


def _write_bytes(to: BytesWriter, part: bytes) -> None:
    _write(to, len(part))
    to.write(part)


_name_bytes: Final[dict[str, bytes]] = {}
_names: Final[dict[bytes, str]] = {}
"""Caches of the names of tiers, levels, stages and regions: there are few, and they repeat."""


def _write_name(to: BytesWriter, name: str) -> None:
    written = _name_bytes.get(name)
    if written is None:
        if len(_name_bytes) >= _MOST_NAMES:
            _name_bytes.clear()
        written = _name_bytes[name] = name.encode()
    _write_bytes(to, written)


# ---------------------------------------------------------------- reading
@mypyc_attr(acyclic=True, free_list_len=1)
class _Reader:
    """Reads parts of some bytes one after the other. Raises ValueError or IndexError where the next part is missing or
    malformed.
    """

    def __init__(self, data: bytes, at: i64) -> None:
        self._data = data
        self._at = at

    def number(self) -> i64:
        data, at = self._data, self._at
        word: i64 = 0
        shift: i64 = 0
        while True:
            if shift > _LAST_SHIFT:
                raise ValueError("a number is longer than one can be")
            byte = i64(data[at])
            at += 1
            word |= (byte & _SEVEN_BITS) << shift
            if byte < _MORE:
                break
            shift += 7
        self._at = at
        return word >> 1 & _WORD_WITHOUT_1 ^ -(word & 1)

    def part(self) -> bytes:
        length = self.number()
        begin = self._at
        if length < 0 or length > len(self._data) - begin:
            raise ValueError("it ends too soon")
        self._at = begin + length
        return self._data[begin : begin + length]

    def name(self) -> str:
        written = self.part()
        name = _names.get(written)
        if name is None:
            if len(_names) >= _MOST_NAMES:
                _names.clear()
            name = _names[written] = written.decode()
        return name

    def rest(self) -> bytes:
        begin, self._at = self._at, len(self._data)
        return self._data[begin:]

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError("it does not end where it should")


def decode(data: bytes) -> Customer:
    """The customer in `data`, of this schema version or an older one. Raises StateError.

    >>> from models.customer import Customer, Facts, Standing
    >>> someone = Customer(NEVER_MS, 0, 0, 0, b"", Facts(), Standing("none", 0))
    >>> decode(encode(someone)) == someone
    True
    """
    try:
        if data[0] == SCHEMA_VERSION:
            return _decode_newest(data)
        header_bytes = _HEADER_BYTES if data[0] >= EDITIONS_SINCE else _HEADER_BYTES_BEFORE_3
        return _customer(due_at_ms_of(data), edition_of(data), _upcast(data[0], data[header_bytes:]))
    except (msgspec.MsgspecError, RecursionError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise StateError(f"not a customer's state: {error}") from error


def _decode_newest(data: bytes) -> Customer:
    flags = i64(data[_HEADER_BYTES])
    if flags & ~_ALL_FLAGS:
        raise ValueError("it has a flag that is not known")
    read = _Reader(data, _HEADER_BYTES + 1)
    recent, its_buckets = read.part(), read.part()
    clock_ms, seq, events = read.number(), read.number(), read.number()
    first_ms, last_ms = clock_ms - read.number(), clock_ms - read.number()
    facts = Facts(
        first_ms, last_ms, read.number(), read.number(), read.number(), its_buckets,
        read.number(), read.number(), read.number(), last_day_minor=read.number(),
    )  # fmt: skip
    standing = Standing(read.name(), clock_ms - read.number())
    tier_due_ms = clock_ms + read.number() if flags & _TIER_DUE else NEVER_MS
    customer = Customer(
        due_at_ms_of(data), clock_ms, seq, events, recent, facts, standing, tier_due_ms, -1, edition_of(data)
    )
    if flags & _RISK:
        standing.risk_level = read.name()
        standing.risk_since_ms, standing.last_alert_ms = read.number(), read.number()
    if flags & _LIFE:
        standing.stage, standing.stage_since_ms = read.name(), clock_ms - read.number()
        standing.behaviour = read.name()
    if flags & _SEQS:
        customer.latest_seqs = (read.number(), read.number(), read.number(), read.number())
    if flags & _REGION:
        name = read.name()
        facts.region = Region(read.number(), name)
    if flags & _RARE:
        _set_rare_parts(customer, _decode_rare(read.rest()))
    read.end()
    return customer


def _set_rare_parts(customer: Customer, rare: _Rare) -> None:
    facts, standing = customer.facts, customer.standing
    customer.erased_at_ms, facts.complaints, facts.satisfaction = rare[0], rare[1], rare[2]
    facts.window_refunded_minor, facts.window_refunded_orders = rare[3], rare[4]
    standing.downgrade_at_ms, standing.lock, standing.alert = rare[5], rare[6], rare[7]
    facts.prospecting, standing.qualification = rare[8], rare[9]


# ---------------------------------------------------------------- older versions
_Row = tuple[
    int, int, int, bytes, int,
    int, int, int, int, int, bytes, int, int, int,
    str, int, str, int, int,
    int,
    tuple[str, int, str] | None,
    tuple[int, int, int, int] | None,
    Region | None,
    _Rare | None,
]  # fmt: skip
"""A customer in version 4, without `due_at_ms` and `edition`: the fields of the customer, of the facts and of the
standing, and the rare parts. It is in MessagePack, like all versions before 5.
"""


def _customer(due_at_ms: int, edition: int, row: _Row) -> Customer:
    facts = Facts(row[5], row[6], row[7], row[8], row[9], row[10], row[11], row[12], row[13], last_day_minor=row[19])
    standing = Standing(row[14], row[15], NEVER_MS, None, row[16], row[17], row[18])
    tier_due_ms = NEVER_MS if row[4] < 0 else row[4]
    customer = Customer(due_at_ms, row[0], row[1], row[2], row[3], facts, standing, tier_due_ms, -1, edition)
    if row[20] is not None:
        standing.stage, standing.stage_since_ms, standing.behaviour = row[20]
    customer.latest_seqs = NO_SEQS if row[21] is None else row[21]
    facts.region = row[22]
    if row[23] is not None:
        _set_rare_parts(customer, row[23])
    return customer


def _from_1_to_2(body: list[Any]) -> list[Any]:
    """The nested arrays became one row without `due_at_ms`, with the rare parts apart; buckets became bytes; NEVER_MS
    became smaller, or -1; `tier_due_ms` was added.
    """
    due_at_ms, clock_ms, seq, events, recent, facts, standing, erased_at_ms = body
    first, last, days, orders, spend, listed, (window_first, *_), complaints, satisfaction = facts
    tier, tier_since_ms, downgrade_at_ms, lock, level, risk_since_ms, last_alert_ms, alert_action = standing
    kept = buckets.pack(map(tuple, listed))
    window_spend, window_orders, refunded_minor, refunded_orders = buckets.total(kept, window_first, NEVER_MS)
    return [
        clock_ms, seq, events, recent, -1 if due_at_ms >= NEVER_MS else due_at_ms,
        first, last, days, orders, spend, kept, window_first, window_spend, window_orders,
        tier, tier_since_ms, level, risk_since_ms, last_alert_ms,
        [
            erased_at_ms, complaints, satisfaction, refunded_minor, refunded_orders, min(downgrade_at_ms, NEVER_MS), lock,
            alert_action,
        ],
    ]  # fmt: skip


def _from_2_to_3(body: list[Any]) -> list[Any]:
    """`last_day_minor` was added, which is not known until the next purchase; stage, behaviour and the prospect were
    added. The header got the edition.
    """
    rare = body[-1] and [*body[-1], None, ""]
    return [*body[:-1], 0, None, rare]


def _from_3_to_4(body: list[Any]) -> list[Any]:
    """The latest `seq` of each topic was added (the next output on each names no previous one), and the region, and the
    alert, which begins with the next one. The note of the last action on an alert was removed.
    """
    rare = body[-1]
    if rare is not None:
        rare = [*rare[:7], None, *rare[8:]]
    return [*body[:-1], None, None, rare]


UPCASTS: Final[dict[int, Callable[[list[Any]], list[Any]]]] = {1: _from_1_to_2, 2: _from_2_to_3, 3: _from_3_to_4}
"""For each older schema version, the function that turns its decoded array into that of the next version, up to the
last version that was an array. Version 5 has the same content as version 4 in another encoding.
"""
_LAST_ROW_VERSION: Final = 4


def _upcast(version: int, data: bytes) -> _Row:
    if not 1 <= version <= _LAST_ROW_VERSION:
        raise StateError(f"state has schema version {version}; this program knows up to {SCHEMA_VERSION}")
    body: list[Any] = msgspec.msgpack.decode(data)
    while version != _LAST_ROW_VERSION:
        body, version = UPCASTS[version](body), version + 1
    row: _Row = msgspec.convert(body, _Row)
    return row
