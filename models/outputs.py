"""What is announced, as the bytes that every run gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson
from mypy_extensions import mypyc_attr
from xxhash import xxh3_128_hexdigest

from models import units
from models.customer import Customer
from models.policy import Policy

TIER_CHANGES: Final = "tier-changes"
CHURN_RISK: Final = "churn-risk"
LIFE_CYCLE: Final = "life-cycle"
ALERTS: Final = "alerts"
ANNOUNCEMENTS: Final = (TIER_CHANGES, CHURN_RISK, LIFE_CYCLE, ALERTS)
"""The topics whose records are numbered, together, by the customer's `seq`."""
PROFILES: Final = "profiles"
DEAD_LETTERS: Final = "dead-letters"

CLOCK_CAUSE: Final = "clock"
"""The cause of an output that no event brought about, only time."""


@mypyc_attr(acyclic=True)
@dataclass(init=False, slots=True)
class Output:
    """One event that leaves: `body` is its value on `topic`, keyed by the customer."""

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
    """The customer's next output, at the customer's clock; counts `seq` up.

    The id is a hash of customer, sequence number and topic, so a repeated output has the same one. `previous_seq` is the
    customer's output before it on the same topic, so whoever reads one topic notices a gap; 0 for the first.
    """
    previous_seq = _numbered(customer, topic)
    output_id = xxh3_128_hexdigest(f"{customer_id}\n{customer.seq}\n{topic}".encode())
    body = {
        "id": output_id,
        "seq": customer.seq,
        "previous_seq": previous_seq,
        "customer_id": customer_id,
        "change": change,
        "occurred_at": units.format_time(customer.clock_ms),
        "cause": cause,
        "policy": policy.told_as,
        **detail,
    }
    return Output(topic, customer_id, output_id, customer.seq, change, customer.clock_ms, orjson.dumps(body))


def noted(customer: Customer, customer_id: str, topic: str, change: str) -> Output:
    """The customer's next output, as `emit` numbers it, with neither id nor body."""
    _numbered(customer, topic)
    return Output(topic, customer_id, "", customer.seq, change, customer.clock_ms, b"")


def _numbered(customer: Customer, topic: str) -> int:
    """Count an output; gives the `seq` of the one before it on the same topic."""
    customer.seq += 1
    previous_seq, customer.latest_seqs = _follow(customer.latest_seqs, topic, customer.seq)
    return previous_seq


Seqs = tuple[int, int, int, int]


def _follow(latest: Seqs, topic: str, seq: int) -> tuple[int, Seqs]:
    """The latest `seq` of a topic, and the latest of all once this one is out."""
    tier, risk, life, alert = latest
    if topic == TIER_CHANGES:
        return tier, (seq, risk, life, alert)
    if topic == CHURN_RISK:
        return risk, (tier, seq, life, alert)
    if topic == LIFE_CYCLE:
        return life, (tier, risk, seq, alert)
    return alert, (tier, risk, life, seq)
