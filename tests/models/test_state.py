"""The encoding of a customer: its header, and bytes that are no customer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import models
from models import Customer, decode, encode, load
from models.customer import NEVER_MS, Facts, Standing
from models.state import SCHEMA_VERSION, StateError, due_at_ms_of
from tests.builders import complaint, feedback, lock, ms, purchase
from tests.running import run

SOMEONE = Customer(NEVER_MS, 0, 0, 0, b"", Facts(), Standing("none", 0))
BUSY = run(
    load("retail-three-tier"),
    [
        purchase("ada", "25000", on="2024-01-01", currency="CNY"),
        complaint("ada", on="2024-01-02", category="delivery"),
        feedback("ada", 90, on="2024-01-03"),
        lock("ada", "middle", on="2024-01-04"),
    ],
)[-1].customer


def test_a_customer_is_the_same_after_a_round_trip() -> None:
    assert decode(encode(SOMEONE)) == SOMEONE
    assert decode(encode(BUSY)) == BUSY
    assert BUSY.standing.lock is not None


def test_the_schema_version_and_due_at_can_be_read_without_decoding() -> None:
    data = encode(BUSY)
    assert data[0] == SCHEMA_VERSION
    assert due_at_ms_of(data) == BUSY.due_at_ms
    assert due_at_ms_of(encode(SOMEONE)) == NEVER_MS
    assert BUSY.due_at_ms > ms("2024-01-04")


@pytest.mark.parametrize("length", range(0, len(encode(BUSY)), 7))
def test_half_a_customer_is_no_customer(length: int) -> None:
    with pytest.raises(StateError, match="not a customer's state"):
        decode(encode(BUSY)[:length])


def test_a_version_from_the_future_is_named() -> None:
    data = bytes([SCHEMA_VERSION + 1]) + encode(BUSY)[1:]
    with pytest.raises(
        StateError, match=f"schema version {SCHEMA_VERSION + 1}; this program knows up to {SCHEMA_VERSION}"
    ):
        decode(data)


@given(st.integers(0, 255), st.binary(max_size=80))
def test_no_bytes_make_decoding_raise_anything_but_a_state_error(version: int, rest: bytes) -> None:
    for data in (bytes([version]) + rest, bytes([version]) + bytes(8) + rest):
        try:
            decode(data)
        except StateError:
            continue


@given(st.integers(0, len(encode(BUSY)) - 1), st.integers(0, 255))
def test_a_damaged_byte_gives_a_customer_or_a_state_error(at: int, byte: int) -> None:
    data = bytearray(encode(BUSY))
    data[at] = byte
    try:
        assert isinstance(decode(bytes(data)), Customer)
    except StateError:
        pass


def test_deep_nesting_is_a_state_error() -> None:
    with pytest.raises(StateError):
        decode(bytes([SCHEMA_VERSION + 1]) + bytes(8) + b"\x91" * 5000)


def test_an_event_whose_sum_would_not_fit_into_the_state_is_rejected() -> None:
    policy = models.load("annual-spend")
    decoder = policy.decoder()
    body = {
        "customer_id": "ada", "kind": "refund", "order_id": "o", "amount": "100000000000.00", "currency": "USD",
        "occurred_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    customer = None
    outcomes = []
    for number in range(4):
        event = decoder.decode("purchases", json.dumps(body | {"event_id": str(number)}).encode())
        assert not isinstance(event, models.Rejected)
        if customer is not None and number == 1:
            # As after some 922,000 such refunds.
            customer.events = 922_336
            customer.facts.spend_minor = -922_336 * event.amount_minor
        customer, result = models.apply(customer, event, policy)
        outcomes.append(result.code if isinstance(result, models.Rejected) else "counted")
        assert customer is not None
        assert models.decode(models.encode(customer)) == customer
    assert outcomes == ["counted", "counted", "amount_out_of_range", "amount_out_of_range"]
