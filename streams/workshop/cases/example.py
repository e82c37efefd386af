"""Writes a first file of test customers: for each tier one customer who just reaches it, and one who misses it by the
least amount.

The expected tiers are what the policy computes today, so the file's owner has to check that they are what was intended.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

import orjson

from models import units
from models.policy import Policy
from models.tiers import THRESHOLD_UNKNOWN_MINOR, Tier
from streams.workshop.cases.case_file import parse_cases
from streams.workshop.cases.runner import run_cases

FIRST_DAY: Final = date(2026, 1, 5)


def example_of(policy: Policy) -> str:
    """The text of the file."""
    drafts = list(_drafts(policy))
    text = "".join(_customer_toml(*draft, policy.base_tier) for draft in drafts)
    outcomes = run_cases(parse_cases(text, "example", policy), policy)
    tiers = [one.differences[0].actual if one.differences else policy.base_tier for one in outcomes]
    head = (
        f"# Test customers of {policy.ref}. The tiers are what the policy computes today; check that they are what you intend.\n"
        "# Change them to what they should be, and add your own customers; docs/policies.md lists all events and expectations.\n"
    )
    return head + "".join("\n" + _customer_toml(*draft, tier) for draft, tier in zip(drafts, tiers, strict=True))


def _drafts(policy: Policy) -> Iterator[tuple[str, list[str], date]]:
    """The name and the events of each customer, and the day of the last event."""
    yield "a first small purchase", [_purchase(FIRST_DAY, 1000, policy)], FIRST_DAY
    for tier in policy.ladder.tiers[1:]:
        if tier.min_spend_minor in (None, 0, THRESHOLD_UNKNOWN_MINOR):
            continue
        assert tier.min_spend_minor is not None
        yield f"exactly what {tier.name} asks for", *_events(tier, tier.min_spend_minor, policy)
        yield f"the least too little for {tier.name}", *_events(tier, tier.min_spend_minor - 1, policy)


def _events(tier: Tier, spend_minor: int, policy: Policy) -> tuple[list[str], date]:
    """Purchases of this amount, in as many orders as the tier asks for, and the survey answer that it asks for."""
    day, events = FIRST_DAY, []
    orders = max(tier.min_orders or 1, 1)
    for number in range(orders):
        amount_minor = spend_minor // orders if number else spend_minor - (orders - 1) * (spend_minor // orders)
        events.append(_purchase(day, amount_minor, policy))
        day += timedelta(days=1)
    if tier.min_satisfaction is not None:
        events.append(f'{{ on = "{day}", feedback = {tier.min_satisfaction} }}')
    return events, day


def _purchase(day: date, amount_minor: int, policy: Policy) -> str:
    return f'{{ on = "{day}", amount = "{units.format_minor(amount_minor, policy.decimals)}" }}'


def _customer_toml(name: str, events: list[str], day: date, tier: str) -> str:
    lines = "".join(f"  {event},\n" for event in events)
    expected = f'expect = [{{ at = "{day}", tier = {orjson.dumps(tier).decode()} }}]'
    return f"[[customers]]\nname = {orjson.dumps(name).decode()}\nevents = [\n{lines}]\n{expected}\n"
