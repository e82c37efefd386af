"""Simulates the last year of a log under a policy: the customers in each tier, and the upgrades and downgrades per
month.

The purchases in the spend history are folded customer by customer, so that grace, hold and steps have the effect that
they have in the policy. All purchases of an hour are one purchase here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from models import buckets
from models.customer import Facts
from models.events import Event, Rejected
from models.fold import advance_in_place, apply_in_place, new_customer
from models.outputs import TIER_CHANGES, Output
from models.policy import Policy
from streams.workshop.policies.spend_history import KEEPING, YEAR_MS, Spend

MONTHS: Final = 12
MOST_CUSTOMERS: Final = 20_000
"""With more customers, only every n-th is folded."""
MONTH_MS: Final = YEAR_MS // MONTHS


@dataclass
class Year:
    """The last year of a log under a policy, or less if the log is shorter."""

    months: int
    in_tier: Counter[str] = field(default_factory=Counter)
    """Customers by tier, summed over the ends of months."""
    moves: Counter[str] = field(default_factory=Counter)
    """The numbers of upgrades and downgrades."""

    def share(self, tier: str) -> float:
        """The share of customers in a tier, on average over the year, among those who had bought by then."""
        return self.in_tier[tier] / max(self.in_tier.total(), 1)

    def per_month(self, change: str) -> float:
        """The number of such changes per month."""
        return self.moves[change] / self.months


def simulate_year(policy: Policy, spend: Spend) -> Year:
    """Simulate the last year of a log under a policy."""
    months = min(max(round((spend.ends_ms - spend.begins_ms) / MONTH_MS), 1), MONTHS)
    ends_ms = [spend.ends_ms - number * MONTH_MS for number in reversed(range(months))]
    begin_ms = spend.ends_ms - months * MONTH_MS
    every = -(-len(spend.customers) // MOST_CUSTOMERS)
    year = Year(months)
    for key in sorted(spend.customers)[::every]:
        _fold_customer(year, policy, key, spend.customers[key], ends_ms, begin_ms)
    for counted in (year.in_tier, year.moves):
        for name in counted:
            counted[name] *= every
    return year


def _fold_customer(year: Year, policy: Policy, key: bytes, facts: Facts, ends_ms: list[int], begin_ms: int) -> None:
    customer_id = key.decode()
    events = _events(facts, key, customer_id)
    event = next(events, None)
    if event is None:
        return
    customer = new_customer(policy, event.occurred_at_ms)
    for end_ms in ends_ms:
        outputs: list[Output] = []
        while event is not None and event.occurred_at_ms <= end_ms:
            applied = apply_in_place(customer, event, policy)
            outputs += [] if isinstance(applied, Rejected) else applied
            event = next(events, None)
        if customer.events:
            outputs += advance_in_place(customer, end_ms, policy, customer_id)
            year.in_tier[customer.standing.tier] += 1
        for output in outputs:
            if output.topic == TIER_CHANGES and output.occurred_at_ms > begin_ms:
                year.moves[output.change] += 1


def _events(facts: Facts, key: bytes, customer_id: str) -> Iterator[Event]:
    """The purchases and refunds in a customer's history, an event for each hour and kind."""
    for number, _, _, spend_minor in buckets.rows(facts.buckets):
        at_ms = number * KEEPING.bucket_ms
        event = Event("purchases", customer_id, key, str(number), at_ms, number.to_bytes(8, "big"))
        event.is_refund, event.amount_minor = spend_minor < 0, abs(spend_minor)
        yield event
