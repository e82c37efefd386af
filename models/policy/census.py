"""A census: spend, orders and recency of all customers, and the relative thresholds that follow from them.

It counts the customers with an order in the window. With `top_share = 0.05` a tier's threshold is the spend that the
top 5 % of them reach; the breakpoints of a score's term for which the policy gives none are the quintiles.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Final

from models.bodies import Breakpoints
from models.customer import Customer
from models.policy.policy import Policy, RelativeRules

QUINTILES: Final = 5

ValueAt = Callable[[int], int]
"""The value of a given rank, counted from 0, among all values in ascending order."""


class Census:
    """The measures of customers at one instant."""

    def __init__(self, as_of_ms: int) -> None:
        self.as_of_ms = as_of_ms
        self.spend_minor, self.orders, self.recency_ms = array("q"), array("q"), array("q")

    def __len__(self) -> int:
        return len(self.orders)

    def add(self, customer: Customer, policy: Policy) -> None:
        """Count a customer at the census's instant, or at their clock if it is later."""
        at_ms = max(self.as_of_ms, customer.clock_ms)
        measures = policy.view(customer.facts, at_ms).at(at_ms)
        if measures.orders > 0 and measures.recency_ms is not None:
            self.spend_minor.append(measures.spend_minor)
            self.orders.append(measures.orders)
            self.recency_ms.append(measures.recency_ms)

    def breakpoints(self, relative: RelativeRules) -> Breakpoints:
        """The exact thresholds of these customers."""
        spend, orders, recency = sorted(self.spend_minor), sorted(self.orders), sorted(self.recency_ms)
        return breakpoints(
            relative, self.as_of_ms, len(self), spend.__getitem__, orders.__getitem__, recency.__getitem__
        )


def breakpoints(
    relative: RelativeRules, as_of_ms: int, customers: int, spend: ValueAt, orders: ValueAt, recency: ValueAt
) -> Breakpoints:
    """The thresholds for a number of customers, at least one, from their values in ascending order."""
    top = [spend(customers - max(round(share * customers), 1)) for _, share in relative.top_shares]
    cuts = [customers * part // QUINTILES for part in range(1, QUINTILES)]
    by = relative.by_quintiles
    return Breakpoints(
        as_of_ms=as_of_ms,
        customers=customers,
        top_spend_minor=top,
        # The most recent fifth has at most the first of these, and so on.
        recency_ms=[recency(max(cut - 1, 0)) for cut in cuts] if "recency" in by else [],
        frequency=[orders(cut) for cut in cuts] if "frequency" in by else [],
        monetary_minor=[spend(cut) for cut in cuts] if "monetary" in by else [],
    )
