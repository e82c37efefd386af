"""Outputs: what is announced, as bytes that are the same in every run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson
from mypy_extensions import mypyc_attr
from xxhash import xxh3_128_hexdigest

from models import units
from models.customer import Customer
from models.names import ALERTS, ANNOUNCEMENTS, CHURN_RISK, DEAD_LETTERS, LIFE_CYCLE, PROFILES, TIER_CHANGES
from models.policy import Policy

__all__ = [
    "ALERTS",
    "ANNOUNCEMENTS",
    "CHURN_RISK",
    "CLOCK_CAUSE",
    "DEAD_LETTERS",
    "LIFE_CYCLE",
    "PROFILES",
    "TIER_CHANGES",
    "Output",
    "emit",
    "emit_without_body",
]

CLOCK_CAUSE: Final = "clock"
"""The cause of an output that time alone caused."""


@mypyc_attr(acyclic=True)
@dataclass(init=False, slots=True)
class Output:
    """One record to publish: `body` is its value on `topic`, its key is the customer's id."""

    topic: str
    customer_id: str
    id: str
    seq: int
    change: str
    occurred_at_ms: int
    body: bytes

    def __init__(
        self, topic: str, customer_id: str, id: str, seq: int, change: str, occurred_at_ms: int, body: bytes
    ) -> None:
        self.topic = topic
        self.customer_id = customer_id
        self.id = id
        self.seq = seq
        self.change = change
        self.occurred_at_ms = occurred_at_ms
        self.body = body


def emit(
    customer: Customer,
    customer_id: str,
    policy: Policy,
    topic: str,
    change: str,
    cause: str,
    detail: dict[str, Any],
) -> Output:
    """The customer's next output, at the customer's clock; increases the customer's `seq`.

    The id is a hash of customer, sequence number and topic, so a repeated output has the same id. `previous_seq` is the
    `seq` of the customer's previous output on the same topic, 0 for the first, so that readers of a single topic notice
    a gap.
    """
    previous_seq = _number(customer, topic)
    output_id = xxh3_128_hexdigest(f"{customer_id}\n{customer.seq}\n{topic}".encode())
    body = {
        "id": output_id,
        "seq": customer.seq,
        "previous_seq": previous_seq,
        "customer_id": customer_id,
        "change": change,
        "occurred_at": units.format_time(customer.clock_ms),
        "cause": cause,
        "policy": policy.label,
        **detail,
    }
    return Output(topic, customer_id, output_id, customer.seq, change, customer.clock_ms, orjson.dumps(body))


def emit_without_body(customer: Customer, customer_id: str, topic: str, change: str) -> Output:
    """The customer's next output, numbered as by `emit`, but with neither id nor body."""
    _number(customer, topic)
    return Output(topic, customer_id, "", customer.seq, change, customer.clock_ms, b"")


def _number(customer: Customer, topic: str) -> int:
    """Number the customer's next output; returns the `seq` of the previous one on the same topic."""
    customer.seq += 1
    previous_seq, customer.latest_seqs = _with_latest(customer.latest_seqs, topic, customer.seq)
    return previous_seq


Seqs = tuple[int, int, int, int]


def _with_latest(latest: Seqs, topic: str, seq: int) -> tuple[int, Seqs]:
    """The latest `seq` on a topic so far, and the latest of all topics with the new one."""
    tier, risk, life, alert = latest
    if topic == TIER_CHANGES:
        return tier, (seq, risk, life, alert)
    if topic == CHURN_RISK:
        return risk, (tier, seq, life, alert)
    if topic == LIFE_CYCLE:
        return life, (tier, risk, seq, alert)
    return alert, (tier, risk, life, seq)
