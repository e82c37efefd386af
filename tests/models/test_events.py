"""Decoding: every reason code, and no bytes make it raise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import Decoder, Event, Rejected, apply, load
from models.bodies import TOPIC_BODIES
from models.events import MAX_AMOUNT_MINOR, MAX_DETAIL_CHARACTERS, MAX_RECORD_BYTES, REASONS
from tests.builders import (
    FROM_LIVE_SOURCES,
    act_on_alert,
    complaint,
    feedback,
    lock,
    ms,
    policy_text,
    purchase,
    refund,
    unlock,
)
from tests.running import event_of, policy_of

POLICY = load("retail-three-tier")
DECODER = POLICY.decoder()

PURCHASE = purchase("ada", "29.33", on="2024-01-01", currency="CNY", channel="store")
REFUND = refund("ada", "29.33", on="2024-01-05", of="2024-01-01", full=True, currency="CNY")
COMPLAINT = complaint("ada", on="2024-01-01", category="delivery", satisfaction=40)
FEEDBACK = feedback("ada", 90, on="2024-01-01")
LOCK = lock("ada", "mass", on="2024-01-01")
UNLOCK = unlock("ada", on="2024-01-01")
ACT = act_on_alert("ada", on="2024-01-01")
VALID = [PURCHASE, REFUND, COMPLAINT, FEEDBACK, LOCK, UNLOCK, ACT]
NOTHING = object()


def decoded(wire: dict[str, Any], *, key: bytes | None = None, timestamp_ms: int | None = None, **changes: Any) -> Any:
    body = {**wire, **changes}
    body = {name: value for name, value in body.items() if name != "topic" and value is not NOTHING}
    return DECODER.decode(wire["topic"], json.dumps(body).encode(), key, timestamp_ms)


def on_the_wire(wire: dict[str, Any], **as_written: str) -> bytes:
    """The event as bytes, some of its values being this JSON or what passes for it."""
    values = {name: json.dumps(value) for name, value in wire.items() if name != "topic"} | as_written
    return ("{" + ",".join(f'"{name}":{value}' for name, value in values.items()) + "}").encode()


# ---------------------------------------------------------------- what is valid
@pytest.mark.parametrize("wire", VALID, ids=lambda wire: wire.get("command") or wire.get("kind") or wire["topic"])
def test_a_valid_event_is_decoded(wire: dict[str, Any]) -> None:
    event = decoded(wire, key=b"ada", timestamp_ms=ms("2024-01-05"))
    assert isinstance(event, Event)
    assert (event.topic, event.customer_id, event.event_id) == (wire["topic"], "ada", wire["event_id"])
    assert event.occurred_at_ms == ms(wire["occurred_at"])


def test_a_refund_knows_when_its_purchase_was() -> None:
    event = decoded(REFUND)
    assert (event.amount_minor, event.booked_at_ms) == (2933, ms("2024-01-01"))


@pytest.mark.parametrize("written", ["2024-01-01T00:00:00Z", "2024-01-01T08:00:00+08:00", 1_704_067_200_000])
def test_a_time_is_rfc_3339_or_milliseconds(written: str | int) -> None:
    assert decoded(PURCHASE, occurred_at=written).occurred_at_ms == ms("2024-01-01")


def test_unknown_fields_are_ignored_so_that_producers_can_add_some() -> None:
    assert isinstance(decoded(PURCHASE, shop=17), Event)


@pytest.mark.parametrize(
    ("policy_currency", "rate", "currency", "amount", "minor"),
    [
        ("CNY", "7.10", "USD", "10.00", 7100),
        ("CNY", "0.0475", "JPY", "1000", 4750),
        ("CNY", "23.1", "KWD", "1.234", 2851),  # 2850.54
        ("JPY", "150", "USD", "0.01", 2),  # 1.5 yen: half to even
        ("JPY", "50", "USD", "0.01", 0),  # 0.5 yen: half to even
        ("JPY", "250", "USD", "0.01", 2),  # 2.5 yen: half to even
        ("KWD", "0.3", "USD", "0.01", 3),
    ],
)
def test_another_currency_is_converted_exactly_and_rounded_half_to_even(
    policy_currency: str, rate: str, currency: str, amount: str, minor: int
) -> None:
    policy = policy_of(policy_text(currency=policy_currency, rates={currency: rate}))
    assert event_of(policy.decoder(), purchase("ada", amount, on=0, currency=currency)).amount_minor == minor


# ---------------------------------------------------------------- what is not
WITHOUT_VALUE = None
REJECTED: list[tuple[str, Any, str]] = [
    ("not_json", b"{", "not JSON"),
    ("not_json", b"", "not JSON"),
    ("not_json", b"\xff\xfe", "not JSON"),
    ("not_json", b'{"event_id": "\xff"}', "not JSON"),
    ("not_json", b'{"a":' * 5000, "not JSON"),
    ("not_json", WITHOUT_VALUE, "no value"),
    ("not_an_object", b"[]", "object"),
    ("not_an_object", b"null", "object"),
    ("not_an_object", b'"text"', "object"),
    ("too_large", b" " * (MAX_RECORD_BYTES + 1), "65537 bytes"),
    ("missing_field", (PURCHASE, {"event_id": NOTHING}), "event_id"),
    ("missing_field", (PURCHASE, {"currency": NOTHING}), "currency"),
    ("missing_field", (COMPLAINT, {"severity": NOTHING}), "severity"),
    ("missing_field", (FEEDBACK, {"score": NOTHING}), "score"),
    ("missing_field", (LOCK, {"tier": NOTHING}), "tier"),
    ("missing_field", (ACT, {"action": NOTHING}), "action"),
    ("wrong_type", (PURCHASE, {"amount": True}), "amount"),
    ("wrong_type", (PURCHASE, {"amount": None}), "amount"),
    ("wrong_type", (PURCHASE, {"event_id": 5}), "event_id"),
    ("wrong_type", (PURCHASE, {"currency": 156}), "currency"),
    ("wrong_type", (PURCHASE, {"channel": "x" * 129}), "channel"),
    ("wrong_type", (REFUND, {"full_order": "yes"}), "full_order"),
    ("wrong_type", (FEEDBACK, {"score": "90"}), "score"),
    ("wrong_type", (FEEDBACK, {"score": 90.5}), "score"),
    ("wrong_type", (PURCHASE, {"occurred_at": 1.5}), "occurred_at"),
    ("wrong_type", (LOCK, {"reason": "x" * 1001}), "reason"),
    ("unknown_value", (PURCHASE, {"kind": "gift"}), "kind"),
    ("unknown_value", (COMPLAINT, {"status": "closed"}), "status"),
    ("unknown_value", (COMPLAINT, {"severity": "awful"}), "severity"),
    ("unknown_value", (FEEDBACK, {"kind": "stars"}), "kind"),
    ("unknown_value", (LOCK, {"command": "promote"}), "command"),
    ("unknown_value", (ACT, {"action": "ignored"}), "action"),
    ("bad_id", (PURCHASE, {"event_id": ""}), "event_id"),
    ("bad_id", (PURCHASE, {"customer_id": "x" * 129}), "customer_id"),
    ("bad_id", (PURCHASE, {"order_id": ""}), "order_id"),
    ("bad_id", (COMPLAINT, {"complaint_id": "x" * 129}), "complaint_id"),
    ("bad_id", (LOCK, {"tier": ""}), "tier"),
    ("key_mismatch", (PURCHASE, {"key": b"eve"}), "customer_id 'ada'"),
    ("key_mismatch", (PURCHASE, {"key": b"\xff"}), "customer_id 'ada'"),
    ("bad_amount", (PURCHASE, {"amount": "ten"}), "amount 'ten'"),
    ("bad_amount", (PURCHASE, {"amount": "1,000"}), "amount"),
    ("bad_amount", (PURCHASE, {"amount": "0" * 64 + "1"}), "of at most 64 characters"),
    ("not_json", on_the_wire(PURCHASE, amount='"\\ud800"'), "not JSON"),
    ("not_json", on_the_wire(PURCHASE, amount='"1').replace(b'"1,', b'"1\xff",'), "utf-8"),
    ("amount_out_of_range", (PURCHASE, {"amount": "-1"}), "amount -1"),
    ("amount_out_of_range", (PURCHASE, {"amount": "100000000000.01"}), "amount"),
    ("amount_out_of_range", (PURCHASE, {"amount": 10**30}), "amount"),
    ("amount_out_of_range", (PURCHASE, {"amount": 2**53 + 1}), "amount"),
    ("amount_out_of_range", on_the_wire(PURCHASE, amount="1e999"), "amount"),
    ("amount_out_of_range", on_the_wire(PURCHASE, amount="9" * 4300), "amount"),
    ("too_many_decimals", (PURCHASE, {"amount": "29.331"}), "amount 29.331 has more than 2 decimals"),
    ("unknown_currency", (PURCHASE, {"currency": "EUR"}), "currency 'EUR' is not among CNY, USD"),
    ("unknown_currency", (PURCHASE, {"currency": ""}), "currency"),
    ("score_out_of_range", (FEEDBACK, {"score": 101}), "score"),
    ("score_out_of_range", (FEEDBACK, {"score": -1}), "score"),
    ("score_out_of_range", (COMPLAINT, {"satisfaction": 101}), "satisfaction"),
    ("bad_time", (PURCHASE, {"occurred_at": "yesterday"}), "occurred_at"),
    ("bad_time", (PURCHASE, {"occurred_at": "2024-01-01T00:00:00"}), "occurred_at"),
    ("bad_time", (PURCHASE, {"occurred_at": "1969-12-31T23:59:59Z"}), "occurred_at"),
    ("bad_time", (PURCHASE, {"occurred_at": "2100-01-01T00:00:00Z"}), "occurred_at"),
    ("bad_time", (PURCHASE, {"occurred_at": -1}), "occurred_at"),
    ("bad_time", (PURCHASE, {"occurred_at": 10**15}), "occurred_at"),
    ("bad_time", (REFUND, {"original_occurred_at": "2024-01-06T00:00:00Z"}), "original_occurred_at"),
    ("bad_time", (REFUND, {"original_occurred_at": "then"}), "original_occurred_at"),
    ("time_in_future", (PURCHASE, {"timestamp_ms": ms("2023-12-31") - 1}), "occurred_at 2024-01-01T00:00:00Z"),
    ("reason_required", (LOCK, {"reason": NOTHING}), "reason"),
    ("reason_required", (LOCK, {"reason": "  "}), "reason"),
    ("reason_required", (UNLOCK, {"reason": NOTHING}), "reason"),
    ("reason_required", (ACT, {"action": "dismissed"}), "reason"),
]


@pytest.mark.parametrize(("code", "record", "names"), REJECTED)
def test_invalid_input_is_rejected_with_a_code_and_a_sentence_naming_the_field(
    code: str, record: Any, names: str
) -> None:
    if isinstance(record, tuple):
        rejected = decoded(record[0], **record[1])
    else:
        rejected = DECODER.decode("purchases", record)
    assert isinstance(rejected, Rejected)
    assert rejected.code == code
    assert names in rejected.detail


def test_an_event_older_than_the_allowed_lateness_is_too_late() -> None:
    customer, _ = apply(None, event_of(DECODER, PURCHASE), POLICY)
    _, rejected = apply(
        customer, event_of(DECODER, {**PURCHASE, "event_id": "old", "occurred_at": "2022-12-31T00:00:00Z"}), POLICY
    )
    assert isinstance(rejected, Rejected)
    assert rejected.code == "too_late"
    assert "occurred_at 2022-12-31T00:00:00Z" in rejected.detail


def test_every_reason_code_is_provoked_above() -> None:
    of_the_state = {"too_late", "bad_edition", "unknown_tier"}
    of_the_place = {"wrong_partition"}
    assert {code for code, _, _ in REJECTED} | of_the_state | of_the_place | FROM_LIVE_SOURCES == set(REASONS)


def test_a_clock_may_be_a_day_fast() -> None:
    assert isinstance(decoded(PURCHASE, timestamp_ms=ms("2023-12-31")), Event)


# ---------------------------------------------------------------- amounts
@pytest.mark.parametrize(
    ("amount", "minor"),
    [
        ("29", 2900), ("29.33", 2933), ("-0", 0), ("-0.0", 0), ("2.933e1", 2933), ("100000000000", MAX_AMOUNT_MINOR),
        ("99999999999.99", MAX_AMOUNT_MINOR - 1), ('"2\\u0039.33"', 2933), ('"' + "0" * 63 + '1"', 100),
    ],
)  # fmt: skip
def test_an_amount_is_a_number_or_text_however_it_is_written(amount: str, minor: int) -> None:
    event = DECODER.decode("purchases", on_the_wire(PURCHASE, amount=amount))
    assert isinstance(event, Event)
    assert event.amount_minor == minor


@pytest.mark.parametrize("amount", ["29.33" + "0" * 40 + "1", "99999999999." + "9" * 40, "1" * 11 + "e-40", "1e-999"])
def test_an_amount_is_never_rounded_however_many_decimals_it_has(amount: str) -> None:
    assert decoded(PURCHASE, amount=amount).code == "too_many_decimals"


def test_of_an_amount_that_is_there_many_times_only_the_last_is_read() -> None:
    # Reading 1e300 as a float takes as long as ten events.
    value = b'{"amount":true,' + b'"amount":1e300,' * 1000 + on_the_wire(PURCHASE)[1:]
    event = DECODER.decode("purchases", value)
    assert isinstance(event, Event)
    assert event.amount_minor == 2933


def test_an_amount_that_conversion_makes_absurdly_large_is_rejected() -> None:
    decoder = policy_of(policy_text(rates={"EUR": "1000000"})).decoder()
    assert event_of(decoder, purchase("ada", "100000", on=0, currency="EUR")).amount_minor == MAX_AMOUNT_MINOR
    rejected = decoder.decode("purchases", on_the_wire(purchase("ada", "100000.01", on=0, currency="EUR")))
    assert isinstance(rejected, Rejected)
    assert (rejected.code, rejected.detail) == (
        "amount_out_of_range",
        "amount 100000.01 EUR, converted, is absurdly large",
    )


# ---------------------------------------------------------------- whatever comes
@pytest.mark.parametrize("timestamp_ms", [-1, -(2**63)])
def test_a_negative_timestamp_means_that_the_record_has_none(timestamp_ms: int) -> None:
    assert isinstance(decoded(PURCHASE, timestamp_ms=timestamp_ms), Event)


def test_a_detail_has_a_greatest_length_whatever_it_quotes() -> None:
    invisible = "\U000e0001" * 128  # ten characters each, once quoted
    rejected = decoded(PURCHASE, customer_id=invisible, key=(invisible + "x").encode())
    assert (rejected.code, len(rejected.detail)) == ("key_mismatch", MAX_DETAIL_CHARACTERS)
    assert Rejected("not_json", "x" * MAX_DETAIL_CHARACTERS).detail == "x" * MAX_DETAIL_CHARACTERS


def assert_decided(found: Event | Rejected) -> None:
    assert isinstance(found, Event) or (found.code in REASONS and len(found.detail) <= MAX_DETAIL_CHARACTERS)


KEYS = st.none() | st.binary(max_size=140)
TIMESTAMPS = st.none() | st.integers(-1, 2**62)


@given(st.sampled_from(list(TOPIC_BODIES)), st.none() | st.binary(max_size=300), KEYS)
def test_no_bytes_make_decoding_raise(topic: str, value: bytes | None, key: bytes | None) -> None:
    assert_decided(DECODER.decode(topic, value, key))


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=140), st.text("0123456789.eE+-", max_size=30)
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3), max_leaves=6)  # fmt: skip


@given(st.sampled_from(VALID), st.data(), st.booleans())
def test_no_value_of_any_field_makes_decoding_raise(
    wire: dict[str, Any], data: st.DataObject, ascii_only: bool
) -> None:
    body = {name: value for name, value in wire.items() if name != "topic"}
    for field in data.draw(st.lists(st.sampled_from(sorted(body)), min_size=1, max_size=2)):
        body[field] = data.draw(JSON)
    text = json.dumps(body, ensure_ascii=ascii_only)
    assert_decided(DECODER.decode(wire["topic"], text.encode(errors="surrogatepass"), b"ada"))


@given(st.sampled_from(VALID), st.integers(0, 400), st.binary(max_size=3))
def test_no_damage_to_an_event_makes_decoding_raise(wire: dict[str, Any], at: int, damage: bytes) -> None:
    value = json.dumps({name: value for name, value in wire.items() if name != "topic"}).encode()
    assert_decided(DECODER.decode(wire["topic"], value[:at] + damage + value[at + 1 :]))


@given(
    st.datetimes().map(lambda at: at.isoformat()), st.sampled_from(["Z", "+14:00", "-14:00", "+23:59", ""]), TIMESTAMPS
)
def test_no_time_makes_decoding_raise(written: str, offset: str, timestamp_ms: int | None) -> None:
    assert_decided(decoded(REFUND, occurred_at=written + offset, timestamp_ms=timestamp_ms))
    assert_decided(decoded(REFUND, original_occurred_at=written + offset))


def test_a_decoder_needs_only_rates() -> None:
    decoder = Decoder({"USD": (1, 1)})
    assert isinstance(event_of(decoder, purchase("ada", "1", on=0)), Event)
