"""What one more purchase would change: the fold itself, applied to purchases that were not made.

No tier rule is repeated here: a hypothetical purchase is folded like any other, so the answer is what would happen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from xxhash import xxh3_64_digest

from models import units
from models.customer import NEVER_MS, Customer
from models.events import MAX_AMOUNT_MINOR, Event, Rejected
from models.fold import apply
from models.policy import Policy

NOT_MADE: Final = "a purchase that was not made"

Wanted = Callable[[Customer], bool]


def after_purchase(
    customer: Customer | None, policy: Policy, customer_id: str, at_ms: int, amount_minor: int
) -> Customer | None:
    """The customer right after one more purchase, in minor units of the policy's currency; None if it would be
    rejected.
    """
    # Real events hash `topic/event_id`, so none has this hash.
    event_hash = xxh3_64_digest(f"{NOT_MADE}\n{at_ms}\n{amount_minor}".encode())
    event = Event("purchases", customer_id, customer_id.encode(), NOT_MADE, at_ms, event_hash)
    event.amount_minor = amount_minor
    after, result = apply(customer, event, policy)
    return None if isinstance(result, Rejected) else after


def least_purchase_minor(
    customer: Customer | None, policy: Policy, customer_id: str, at_ms: int, wanted: Wanted
) -> int | None:
    """The smallest amount of one purchase at an instant after which `wanted` holds; None if no amount is enough.

    Spending more never lowers the tier, so bisection finds the amount.
    """

    def is_enough(amount_minor: int) -> bool:
        after = after_purchase(customer, policy, customer_id, at_ms, amount_minor)
        return after is not None and wanted(after)

    if not is_enough(MAX_AMOUNT_MINOR):
        return None
    too_little, enough = -1, MAX_AMOUNT_MINOR
    while enough - too_little > 1:
        middle = (too_little + enough) // 2
        too_little, enough = (too_little, middle) if is_enough(middle) else (middle, enough)
    return enough


def reaches(policy: Policy, rank: int) -> Wanted:
    """A test whether a customer is in the tier of this rank, or a higher one."""
    return lambda customer: policy.ladder.rank_of(customer.standing.tier) >= rank


def keeps(policy: Policy, rank: int) -> Wanted:
    """A test whether a customer is in the tier of this rank, or a higher one, and not about to lose it."""
    return lambda customer: reaches(policy, rank)(customer) and customer.standing.downgrade_at_ms == NEVER_MS


def with_one_purchase(customer: Customer, policy: Policy, customer_id: str, at_ms: int) -> list[dict[str, Any]]:
    """What one purchase would do for the tier: keep the one that is about to be lost, or reach each that is higher.

    `before` is the instant until which the same amount is enough. Empty for a customer whose tier is locked.
    """
    standing, ladder = customer.standing, policy.ladder
    if standing.lock is not None:
        return []
    rank = ladder.rank_of(standing.tier)
    found = []
    if standing.downgrade_at_ms != NEVER_MS:
        found.append(
            _one(customer, policy, customer_id, at_ms, "keep", rank, standing.downgrade_at_ms, keeps(policy, rank))
        )
    period_end_ms = policy.view(customer.facts, at_ms).period_end_ms
    for higher in range(rank + 1, len(ladder.tiers)):
        wanted = reaches(policy, higher)
        found.append(_one(customer, policy, customer_id, at_ms, "reach", higher, period_end_ms, wanted))
    return found


def _one(
    customer: Customer, policy: Policy, customer_id: str, at_ms: int, goal: str, rank: int, by_ms: int, wanted: Wanted
) -> dict[str, Any]:
    amount_minor = least_purchase_minor(customer, policy, customer_id, at_ms, wanted)
    tier = policy.ladder.tiers[rank].name
    if amount_minor is None:
        text = f"no single purchase {goal}{'es' if goal == 'reach' else 's'} {tier}"
        return {"goal": goal, "tier": tier, "amount": None, "before": None, "text": text}
    lasts = (
        at_ms < by_ms - 1 < units.LATEST_MS
        and least_purchase_minor(customer, policy, customer_id, by_ms - 1, wanted) == amount_minor
    )
    amount = units.money_in_words(amount_minor, policy.currency) if amount_minor else "any amount"
    when = f"by {units.format_time(by_ms - 1 + policy.window.utc_offset_ms)[:10]}" if lasts else "now"
    return {
        "goal": goal,
        "tier": tier,
        "amount": units.format_minor(amount_minor, policy.decimals),
        "before": units.format_time(by_ms) if lasts else None,
        "text": f"with one purchase of {amount} {when}: {tier}{' is kept' if goal == 'keep' else ''}",
    }
