"""Fuzzing: decoding arbitrary bytes neither raises nor takes long, and accepted events can be folded, encoded and
announced.

Times are compared with those of an ordinary event in the same run, never with a clock.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from timeit import timeit
from typing import Any

import pytest
from hypothesis import event as seen
from hypothesis import given
from hypothesis import strategies as st

from models import Customer, Event, Rejected, advance, apply, decode, encode, load, profile
from models.bodies import TOPIC_BODIES
from models.events import MAX_DETAIL_CHARACTERS, MAX_RECORD_BYTES, REASONS
from models.units import LATEST_MS
from tests.builders import (
    DAY,
    FROM_LIVE_SOURCES,
    SHIPPED,
    Wire,
    act_on_alert,
    complaint,
    erase,
    feedback,
    lock,
    ms,
    policy_text,
    purchase,
    refund,
    unlock,
)
from tests.running import Fold, policy_of

NOW_MS = ms("2024-01-01")


@dataclass
class Shop:
    """A shipped policy, a customer who has seen everything, and one valid event of each kind."""

    name: str
    customer: Customer = field(init=False)

    def __post_init__(self) -> None:
        self.policy = load(self.name)
        self.decoder = self.policy.decoder()
        currency, tier = self.policy.currency, self.policy.ladder.tiers[-1].name
        bought = partial(purchase, "ada", currency=currency, channel="store")
        returned = refund("ada", "9.99", on=NOW_MS, of=NOW_MS - DAY, full=True, currency=currency)
        complained = complaint("ada", on=NOW_MS, category="delivery", satisfaction=40)
        ordered = [lock("ada", tier, on=NOW_MS, actor="eve"), act_on_alert("ada", on=NOW_MS, reason="r", actor="eve")]
        self.wires = [bought("29.33", on=NOW_MS), returned, complained, feedback("ada", 90, on=NOW_MS), *ordered]
        self.wires += [unlock("ada", on=NOW_MS), erase("ada", on=NOW_MS)]
        fold = Fold(self.policy)
        for wire in [bought("90000", on=NOW_MS - days * DAY) for days in (900, 400, 300, 200, 2)] + self.wires[1:5]:
            fold.apply({**wire, "event_id": f"before-{wire['event_id']}"})
        self.customer = fold.customers["ada"]


SHOPS = [Shop(name) for name in SHIPPED]
SHOP = SHOPS[0]
ORDINARY = SHOP.wires[0]

Fields = list[tuple[bytes, bytes]]
"""A body before encoding: names and values as JSON text, so that both may be malformed, and names may be repeated."""


def fields_of(wire: Wire) -> Fields:
    return [(json.dumps(name).encode(), json.dumps(value).encode()) for name, value in wire.items() if name != "topic"]


def written(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"{" + b",".join(name + b":" + value for name, value in fields) + b"}"


def each_field_with(wire: Wire, value: bytes) -> Iterable[bytes]:
    """The body with this value in one field, for each of its fields in turn."""
    fields = fields_of(wire)
    for at, (name, _) in enumerate(fields):
        yield written([*fields[:at], (name, value), *fields[at + 1 :]])


# ---------------------------------------------------------------- what has to hold
def check(
    shop: Shop, topic: str, value: bytes | None, key: bytes | None = None, timestamp_ms: int | None = None
) -> Event | Rejected:
    """Decode, and hold everything that is promised of what comes out."""
    found = shop.decoder.decode(topic, value, key, timestamp_ms)
    if isinstance(found, Rejected):
        check_rejected(found)
    else:
        for customer in (None, shop.customer):
            check_folding(shop, customer, found)
    return found


def check_rejected(rejected: Rejected) -> None:
    assert rejected.code in REASONS
    assert len(rejected.detail) <= MAX_DETAIL_CHARACTERS
    assert rejected.detail.encode().decode() == rejected.detail


def check_folding(shop: Shop, customer: Customer | None, event: Event) -> Customer | None:
    """The event can be folded, the customer encoded, and their profile written now and long afterwards."""
    customer_id = event.customer_id
    assert customer_id.encode().decode() == customer_id
    following, outputs = apply(customer, event, shop.policy)
    if isinstance(outputs, Rejected):
        check_rejected(outputs)
        return following
    assert following is not None
    later, later_outputs = advance(following, LATEST_MS, shop.policy, customer_id)
    for state in (following, later):
        assert decode(encode(state)) == state
        body = profile(state, customer_id, shop.policy)
        assert body is None or strictly_json(body)["customer_id"] == customer_id
    for output in (*outputs, *later_outputs):
        assert strictly_json(output.body)["customer_id"] == output.customer_id == customer_id
    return following


def strictly_json(data: bytes) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    body: dict[str, Any] = json.loads(data.decode(), parse_constant=refuse)
    return body


# ---------------------------------------------------------------- extremes
LONE_SURROGATES = [
    rb'"\ud800"', rb'"\udfff"', rb'"a\uDBFFz"', rb'"\udc00\ud800"', rb'"\ud800\n"', rb'"\ud800\u0041"', rb'"a\ud83d"',
    b'"\xed\xa0\x80"', b'"\xed\xa0\xbd\xed\xb8\x80"',
]  # fmt: skip
NUMBERS = [
    b"0", b"-0", b"-0.0", b"1", b"-1", b"100", b"101", b"1.5", b"0.01", b"1e2", b"1E+2", b"1e-400", b"1e400", b"-1e400",
    b"1e99999999", b"1e-99999999", b"100000000000", b"100000000000.01", b"%d" % (LATEST_MS - 1), b"%d" % LATEST_MS,
    b"9007199254740993", b"9223372036854775808", b"18446744073709551616", b"1" + b"0" * 5000, b"-" + b"9" * 4300,
    b"9" * 4300, b"9" * 4301, b"9" * 60_000, b"0." + b"0" * 60_000 + b"1", b"0." + b"3" * 60_000, b"1e" + b"9" * 60_000,
    b"NaN", b"Infinity", b"-Infinity", b"01", b"+1", b".5", b"1.", b"0x10",
]  # fmt: skip
TEXTS = [
    b'""', b'" "', rb'"\u0000"', rb'"a\u0000b"', '"\u200f\u202eada\u2066"'.encode(), '"\ufeff"'.encode(), rb'"\/\b\f\n"',
    '"\U000e0001"'.encode(), "\"👩‍👩‍👧\"".encode(), b'"' + "é".encode() * 128 + b'"', b'"' + "😀".encode() * 129 + b'"',
    b'"' + "\U000e0001".encode() * 128 + b'"', b'"\xff"', b'"\xc3"', b'"\xc0\x80"', b'"\xf4\x90\x80\x80"', b'"\x00"', b'"\n"',
    rb'"\x"', rb'"\u00"', b'"', b"'ada'", b'"' + b"x" * 100_000 + b'"', b'"' + b"x" * 60_000 + b'"', b'"' + rb"\n" * 30_000 + b'"',
    b'"2024-01-01"', b'"2024-01-01T00:00:00"', b'"0001-01-01T00:00:00+23:59"', b'"9999-12-31T23:59:59-23:59"', b'"1970-01-01T00:00:00Z"',
    b'"2099-12-31T23:59:59.9999999Z"', b'"2024-01-01T00:00:00.' + b"9" * 60_000 + b'Z"', b'"2016-12-31T23:59:60Z"', b'"2024-02-30T00:00:00Z"',
]  # fmt: skip
SHAPES = [
    b"null", b"true", b"false", b"[]", b"{}", b"", b"nul", b"[" * 100_000, b"[" * 30_000 + b"]" * 30_000, b"[" * 900 + b"]" * 900,
    b'{"a":' * 100_000, b'{"a":' * 10_000 + b"0" + b"}" * 10_000, b"[" + b"0," * 1_000_000 + b"0]", b"[" + b"0," * 30_000 + b"0]",
]  # fmt: skip
EXTREMES = LONE_SURROGATES + NUMBERS + [b'"' + number + b'"' for number in NUMBERS] + TEXTS + SHAPES
UNKNOWN_NAMES = [
    b'"shop"',
    b'""',
    rb'"\u0000"',
    b'"' + b"k" * 60_000 + b'"',
    b'"' + rb"\n" * 30_000 + b'"',
    rb'"\ud800"',
    b'"\xff"',
]
UNKNOWN_NAMES += [rb'"\u0063ustomer_id"', b'"Customer_id"', b"shop"]
KEYS = [None, b"", b"ada", b"\xff" * 200, b"\xed\xa0\x80", "\U000e0001".encode() * 128, b"k" * 1_000_000]
TIMESTAMPS = [None, -(2**63), -1, 0, 1, NOW_MS - DAY - 1, NOW_MS, LATEST_MS, 2**63 - 1]


def test_no_extreme_value_of_any_field_makes_decoding_or_folding_raise() -> None:
    for wire in SHOP.wires:
        for extreme in EXTREMES:
            for value in each_field_with(wire, extreme):
                check(SHOP, wire["topic"], value)


def test_no_extreme_unknown_or_repeated_field_makes_decoding_or_folding_raise() -> None:
    for value in EXTREMES:
        check(SHOP, "purchases", written([*fields_of(ORDINARY), (b'"shop"', value)]))
        check(SHOP, "purchases", written([*fields_of(ORDINARY), (b'"amount"', value)]))
        check(SHOP, "purchases", written([(b'"amount"', value), *fields_of(ORDINARY)]))
    for name in UNKNOWN_NAMES:
        check(SHOP, "purchases", written([(name, b'"ada"'), *fields_of(ORDINARY)]))


@pytest.mark.parametrize("text", LONE_SURROGATES)
def test_a_lone_surrogate_in_any_field_is_rejected(text: bytes) -> None:
    for wire in SHOP.wires:
        for value in each_field_with(wire, text):
            assert isinstance(check(SHOP, wire["topic"], value), Rejected)


@pytest.mark.parametrize("topic", TOPIC_BODIES)
def test_an_event_cut_off_at_any_byte_is_not_json(topic: str) -> None:
    for wire in SHOP.wires:
        if wire["topic"] == topic:
            whole = written(fields_of(wire))
            assert isinstance(check(SHOP, topic, whole), Event)
            for end in range(len(whole)):
                found = check(SHOP, topic, whole[:end])
                assert isinstance(found, Rejected)
                assert found.code == "not_json"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp037"])
def test_an_event_in_another_encoding_is_not_json(encoding: str) -> None:
    for wire in SHOP.wires:
        found = check(SHOP, wire["topic"], written(fields_of(wire)).decode().encode(encoding))
        assert isinstance(found, Rejected)
        assert found.code == "not_json"


@given(st.sampled_from(list(TOPIC_BODIES)), st.binary(max_size=2000), st.sampled_from(KEYS) | st.binary(max_size=200))
def test_no_bytes_and_no_key_make_decoding_raise(topic: str, value: bytes, key: bytes | None) -> None:
    check(SHOP, topic, value, key)


# ---------------------------------------------------------------- mutations
VALUES = st.one_of(
    st.sampled_from(EXTREMES),
    st.text(max_size=128).map(lambda text: json.dumps(text).encode()),
    st.text(max_size=128).map(lambda text: json.dumps(text, ensure_ascii=False).encode()),
    st.integers(0, LATEST_MS - 1).map(lambda number: b"%d" % number),
    st.integers(0, 10**13).map(lambda cents: b'"%d.%02d"' % divmod(cents, 100)),
    st.text("0123456789.eE+-", max_size=80).map(lambda text: json.dumps(text).encode()),
    st.floats().map(lambda number: repr(number).encode()),
)


@st.composite
def records(draw: st.DrawFn, wires: list[Wire]) -> tuple[str, bytes, bytes]:
    """An event of some topic with some fields wrong, missing, doubled, strange or more: topic, value, the right key."""
    wire = draw(st.sampled_from(wires))
    customer_id = draw(st.text(min_size=1, max_size=128))
    fields = fields_of({**wire, "customer_id": customer_id, "event_id": draw(st.text(min_size=1, max_size=128))})
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(fields) - 1))
        name, value = fields[at]
        change = draw(st.sampled_from(["set", "set", "set", "drop", "double", "add", "swap"]))
        if change == "set":
            fields[at] = (name, draw(VALUES))
        elif change == "drop" and len(fields) > 1:
            del fields[at]
        elif change == "double":
            fields.insert(draw(st.integers(0, len(fields))), (name, draw(VALUES | st.just(value))))
        elif change == "add":
            fields.insert(at, (draw(st.sampled_from(UNKNOWN_NAMES)), draw(VALUES)))
        else:
            fields[at] = (name, draw(st.sampled_from(fields))[1])
    whole = written(fields)
    if draw(st.integers(0, 5)) == 0:
        at = draw(st.integers(0, min(len(whole), 1000)))
        whole = whole[:at] + draw(st.binary(max_size=4)) + whole[at + draw(st.integers(0, 4)) :]
    return wire["topic"], whole, customer_id.encode()


@given(st.sampled_from(SHOPS), st.data())
def test_mutated_events_are_rejected_or_can_be_folded_in_sequence(shop: Shop, data: st.DataObject) -> None:
    customer: Customer | None = None
    for topic, value, key in data.draw(st.lists(records(shop.wires), min_size=1, max_size=5)):
        shown_key = data.draw(st.just(key) | st.sampled_from(KEYS))
        timestamp_ms = data.draw(st.sampled_from(TIMESTAMPS))
        found = check(shop, topic, value, shown_key, timestamp_ms)
        seen(found.code if isinstance(found, Rejected) else "accepted")
        if isinstance(found, Event):
            customer = check_folding(shop, customer, found)


# ---------------------------------------------------------------- extremes that are accepted
@pytest.mark.parametrize("shop", SHOPS, ids=SHIPPED)
@pytest.mark.parametrize("kind", ["purchase", "refund"])
def test_the_largest_amount_can_be_folded_a_thousand_times(shop: Shop, kind: str) -> None:
    fold = Fold(shop.policy)
    for number in range(1000):
        bought = purchase("ada", "100000000000", on=NOW_MS + number, currency=shop.policy.currency)
        fold.apply({**bought, "kind": kind, "full_order": kind == "refund"})
    customer = fold.customers["ada"]
    assert abs(customer.facts.spend_minor) == 1000 * 10**13
    event = shop.decoder.decode("purchases", written(fields_of(shop.wires[0])))
    assert isinstance(event, Event)
    check_folding(shop, customer, event)


@pytest.mark.parametrize("window", ["trailing", "calendar-year", "anniversary-year"])
@pytest.mark.parametrize("utc_offset", ["-14:00", "+00:00", "+14:00"])
def test_the_first_and_the_last_moment_of_the_calendar_can_be_folded_in_either_order(
    window: str, utc_offset: str
) -> None:
    length = "365d" if window == "trailing" else None
    settings = {"kind": window, "length": length, "utc_offset": utc_offset, "lateness": "36500d"}
    policy = policy_of(policy_text(window=settings))
    edges = [0, 1, DAY, LATEST_MS - DAY, LATEST_MS - 1]
    for instants in (edges, edges[::-1]):
        fold = Fold(policy)
        for at_ms in instants:
            for wire in (
                purchase("ada", "100", on=at_ms),
                refund("ada", "10", on=at_ms, of=0),
                complaint("ada", f"c{at_ms}", on=at_ms, satisfaction=0),
                feedback("ada", 100, on=at_ms),
                lock("ada", "gold", on=at_ms),
                unlock("ada", on=at_ms),
            ):
                step = fold.apply(wire)
                assert decode(encode(step.customer)) == step.customer
                body = profile(step.customer, "ada", policy)
                assert body is not None
                strictly_json(body)
        for output in (*fold.outputs, *fold.advance(2 * LATEST_MS)):
            strictly_json(output.body)


# ---------------------------------------------------------------- how long it takes
ROUNDS = 15
MAX_RATIO = 200
"""No record takes longer than this many ordinary events; the longest is as long as 300 of them."""


def in_turns(
    cases: Mapping[str, Callable[[], object]], number: int, rounds: int, of: Callable[[list[float]], float]
) -> dict[str, float]:
    """The time of each case, measured round by round, so that a slow moment of the machine hits them all."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, call in cases.items():
            times[name].append(timeit(call, number=number))
    return {name: of(of_one) for name, of_one in times.items()}


def ratios(records: dict[str, tuple[str, bytes]], rounds: int = ROUNDS) -> dict[str, float]:
    """How many times as long as an ordinary event each record takes."""
    ordinary = partial(SHOP.decoder.decode, "purchases", written(fields_of(ORDINARY)))
    cases: dict[str, Callable[[], object]] = {
        name: partial(SHOP.decoder.decode, *record) for name, record in records.items()
    }
    cases[""] = lambda: [ordinary() for _ in range(50)]
    found = in_turns(cases, 1, rounds, statistics.median)
    return {name: 50 * found[name] / found[""] for name in records}


def nasty_records() -> dict[str, tuple[str, bytes]]:
    """Records of up to 64 KiB that might take long, by what is nasty about them."""
    fields = fields_of(ORDINARY)
    values = {value[:12].decode(errors="replace") + f" ({len(value)} bytes)": value for value in EXTREMES}
    values |= {f'"{digits[:1].decode()}… {tail}': b'"' + digits + tail.encode() + b'"'
               for digits in (b"1" * 60_000, b"0" * 60_000, b"1." + b"0" * 60_000, b"1.5" * 20_000, b"-" * 60_000)
               for tail in ("", "x", "e5", "e999")}  # fmt: skip
    found = {
        f"{name.decode()}: {shown}": ("purchases", written([*fields, (name, value)]))
        for shown, value in values.items()
        for name in (b'"amount"', b'"occurred_at"', b'"kind"', b'"currency"', b'"shop"')
    }
    score = fields_of(SHOP.wires[3])
    found |= {
        f"score: {shown}": ("feedback", written([*score, (b'"score"', value)])) for shown, value in values.items()
    }
    repeated = {
        f"{name.decode()} {value[:9].decode()}… again and again": (name, value)
        for name in (b'"amount"', b'"shop"', b'""', b'"occurred_at"', b'"customer_id"')
        for value in (b"1", b"9" * 18, b"9" * 4300, b'"2024-01-01T00:00:00Z"', b"0.1" * 1, b"1e300", b"0." + b"3" * 700)
    }
    for shown, pair in repeated.items():
        times = (MAX_RECORD_BYTES - 1000) // (len(b":,".join(pair)))
        found[shown] = ("purchases", written([pair] * times + fields))
    room = MAX_RECORD_BYTES - len(written(fields))
    found["distinct names"] = ("purchases", written([(b'"a%d"' % n, b"1") for n in range(6000)] + fields))
    found["a huge name"] = ("purchases", written([(UNKNOWN_NAMES[3], b"1"), *fields]))
    found["a huge escaped name"] = ("purchases", written([(UNKNOWN_NAMES[4], b"1"), *fields]))
    found["space before"] = ("purchases", b" " * room + written(fields))
    found["space after"] = ("purchases", written(fields) + b" " * room)
    return {name: record for name, record in found.items() if len(record[1]) <= MAX_RECORD_BYTES}


def test_no_record_takes_longer_than_as_many_bytes_of_ordinary_events() -> None:
    assert MAX_RATIO < MAX_RECORD_BYTES / len(written(fields_of(ORDINARY)))
    records = nasty_records()
    slow = {name: ratio for name, ratio in ratios(records, rounds=3).items() if ratio > MAX_RATIO / 2}
    # Only those that come near are worth many rounds; and what others on the machine took for a while is not there twice.
    for _ in range(3):
        slow = {name: ratio for name, ratio in ratios({one: records[one] for one in slow}).items() if ratio > MAX_RATIO}
    assert slow == {}


def test_a_record_over_the_limit_is_rejected_unread_however_long_it_is() -> None:
    fields = fields_of(ORDINARY)
    records = {
        "10 MB": ("purchases", b" " * 10_000_000),
        "10 MB of digits": ("purchases", b"9" * 10_000_000),
        "deep": ("purchases", b"[" * 10_000_000),
        "a million elements": ("purchases", written([*fields, (b'"shop"', b"[" + b"0," * 1_000_000 + b"0]")])),
        "a huge name": ("purchases", written([(b'"' + b"k" * 1_000_000 + b'"', b"0"), *fields])),
        "just over": ("purchases", b"[" * (MAX_RECORD_BYTES + 1)),
    }
    for record in records.values():
        found = check(SHOP, *record)
        assert isinstance(found, Rejected)
        assert found.code == "too_large"
    assert {name: ratio for name, ratio in ratios(records).items() if ratio > 3} == {}


# ---------------------------------------------------------------- rejecting many
def test_rejecting_takes_at_most_six_times_as_long_as_accepting_whatever_the_reason() -> None:
    bought, returned, complained, answered, _, _, freed, _ = (fields_of(wire) for wire in SHOP.wires)

    def other(fields: Fields, name: str, value: Any) -> bytes:
        return written([*fields, (json.dumps(name).encode(), json.dumps(value).encode())])

    whole = written(bought)
    rejected: dict[str, tuple[Any, ...]] = {
        "not_json": ("purchases", whole[:-1]),
        "not_an_object": ("purchases", b"[]"),
        "too_large": ("purchases", whole + b" " * MAX_RECORD_BYTES),
        "missing_field": ("purchases", written(bought[:-2])),
        "wrong_type": ("complaints", other(complained, "category", 5)),
        "unknown_value": ("purchases", other(bought, "kind", "gift")),
        "bad_id": ("purchases", other(bought, "order_id", "")),
        "key_mismatch": ("purchases", whole, b"\xff"),
        "bad_amount": ("purchases", other(bought, "amount", "1,000")),
        "amount_out_of_range": ("purchases", other(bought, "amount", 1e25)),
        "too_many_decimals": ("purchases", other(bought, "amount", "0.00000000000000000001")),
        "unknown_currency": ("purchases", other(bought, "currency", "EUR")),
        "score_out_of_range": ("feedback", other(answered, "score", 101)),
        "bad_time": ("purchases", other(returned, "original_occurred_at", "2024-01-02T00:00:00Z")),
        "time_in_future": ("purchases", whole, b"ada", NOW_MS - 2 * DAY),
        "reason_required": ("commands", other(freed, "reason", " ")),
    }
    for code, record in rejected.items():
        found = SHOP.decoder.decode(*record)
        assert isinstance(found, Rejected), code
        assert found.code == code
    late = SHOP.decoder.decode("purchases", other(bought, "occurred_at", "2010-01-01T00:00:00Z"))
    assert isinstance(late, Event)
    assert isinstance(apply(SHOP.customer, late, SHOP.policy)[1], Rejected)
    assert {*rejected, "too_late", "bad_edition", "unknown_tier", "wrong_partition"} == set(REASONS) - FROM_LIVE_SOURCES

    cases = {code: partial(SHOP.decoder.decode, *record) for code, record in rejected.items()}
    good = partial(SHOP.decoder.decode, "purchases", whole, b"ada", NOW_MS)
    accepted = good()
    assert isinstance(accepted, Event)
    folds = {
        name: partial(apply, SHOP.customer, event, SHOP.policy)
        for name, event in (("fold", accepted), ("too_late", late))
    }
    # Ten thousand of each, in rounds short enough that some are not disturbed.
    times = in_turns({"good": good, **cases}, number=100, rounds=100, of=min)
    assert {code: times[code] / times["good"] for code in cases if times[code] > 6 * times["good"]} == {}
    times = in_turns(folds, number=20, rounds=5, of=min)
    assert times["too_late"] < times["fold"]
