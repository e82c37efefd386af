"""A customer's story: the same fold, one moment after the other, with the customer before and after each.

A moment's announcements are those of the fold, since it makes no difference whether time advances in one step or in
many (`models.fold.advance`). So this module contains no rules, only the instants at which to stop.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from models import explain
from models.customer import NEVER_MS, Customer, copied
from models.events import Event, Rejected
from models.facts import forget_complaints, slide
from models.fold import NOTHING, advance, apply, next_change_ms, switch_in_place
from models.outputs import CLOCK_CAUSE, Output
from models.policy import Policy
from models.risk import DIGITS
from models.units import format_minor, format_time

Verdict = Literal["counted", "repeat", "rejected"]


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant at which something happened to a customer, or an event had no effect because it was a repeat or
    rejected.
    """

    at_ms: int
    """By the customer's clock; the time of a late event is earlier."""
    cause: str
    """As in announcements: an event's id, `clock`, or `edition-n`."""
    policy: Policy
    """The policy that judged it."""
    event: Event | None = None
    """None for time alone, and for an edition."""
    verdict: Verdict = "counted"
    rejected: Rejected | None = None
    is_late: bool = False
    before: Customer | None = None
    """The customer at the same instant without it; for a change by time, a millisecond earlier. None: not known yet."""
    after: Customer | None = None
    outputs: Sequence[Output] = ()


def as_of(customer: Customer, policy: Policy, at_ms: int) -> Customer:
    """A copy of a customer as they are at an instant, if time has changed nothing until then.

    It is for display only, not for the fold, in which the clock moves only when something happens.
    """
    found = copied(customer)
    if at_ms > found.clock_ms:
        found.clock_ms = at_ms
        slide(found.facts, policy.window, at_ms)
        forget_complaints(found.facts, policy.risk.complaint_risk.forget_after_ms, at_ms)
    return found


def by_time(customer: Customer, until_ms: int, policy: Policy, customer_id: str) -> Generator[Moment, None, Customer]:
    """The moments at which time alone changes something that is announced, up to and including `until_ms`.

    Returns the customer after them.
    """
    while customer.due_at_ms <= until_ms and (at_ms := next_change_ms(customer, policy)) <= until_ms:
        before = as_of(customer, policy, at_ms - 1)
        customer, outputs = advance(customer, at_ms, policy, customer_id)
        if outputs:
            yield Moment(at_ms, CLOCK_CAUSE, policy, before=before, after=customer, outputs=outputs)
    return customer


def by_event(customer: Customer | None, event: Event, policy: Policy) -> Generator[Moment, None, Customer]:
    """The moments of time alone until an event, and last the moment of the event itself."""
    _, result = apply(customer, event, policy)
    if customer is not None and (isinstance(result, Rejected) or result is NOTHING):
        rejected = result if isinstance(result, Rejected) else None
        at_ms = max(customer.clock_ms, event.occurred_at_ms)
        seen = as_of(customer, policy, at_ms)
        verdict: Verdict = "repeat" if rejected is None else "rejected"
        yield Moment(at_ms, event.event_id, policy, event, verdict, rejected, False, seen, seen)
        return customer
    if customer is not None:
        customer = yield from by_time(customer, event.occurred_at_ms, policy, event.customer_id)
    after, outputs = apply(customer, event, policy)
    assert after is not None and not isinstance(outputs, Rejected), "the first event of a customer counts"
    at_ms = after.clock_ms
    before = None if customer is None else as_of(customer, policy, at_ms)
    is_late = event.occurred_at_ms < at_ms
    yield Moment(at_ms, event.event_id, policy, event, "counted", None, is_late, before, after, outputs)
    return after


def by_edition(
    customer: Customer, before: Policy, after: Policy, effective_ms: int, customer_id: str
) -> Generator[Moment, None, Customer]:
    """The moments of time alone until another edition of the policy is in force, and last the moment of the edition
    itself.
    """
    customer = yield from by_time(customer, effective_ms, before, customer_id)
    judged = copied(customer)
    outputs = switch_in_place(judged, before, after, effective_ms, customer_id)
    seen = as_of(customer, before, judged.clock_ms)
    yield Moment(judged.clock_ms, f"edition-{after.edition}", after, before=seen, after=judged, outputs=outputs)
    return judged


def collect(moments: Generator[Moment, None, Customer]) -> tuple[list[Moment], Customer]:
    """All moments, and the customer after them."""
    found = []
    while True:
        try:
            found.append(next(moments))
        except StopIteration as ended:
            return found, ended.value


def is_erased(customer: Customer) -> bool:
    """Whether the customer's data was erased, and nothing has happened since."""
    return customer.erased_at_ms >= 0 and customer.erased_at_ms == customer.clock_ms


def summary_at(customer: Customer, policy: Policy, at_ms: int) -> dict[str, Any] | None:
    """The values of a customer at an instant that events can change, by name; None if the customer's data was erased.

    The contributions add up to the log-odds.
    """
    if is_erased(customer):
        return None
    seen = as_of(customer, policy, at_ms)
    facts, standing = seen.facts, seen.standing
    measures = policy.view(facts, at_ms).at(at_ms)
    found: dict[str, Any] = {
        "tier": standing.tier,
        "downgrade_at": None if standing.downgrade_at_ms == NEVER_MS else format_time(standing.downgrade_at_ms),
        "locked": standing.lock is not None,
        "spend": format_minor(measures.spend_minor, policy.decimals),
        "orders": measures.orders,
        "active_periods": measures.active_periods,
        "satisfaction": measures.satisfaction,
        "lifetime_spend": format_minor(facts.spend_minor, policy.decimals),
        "lifetime_orders": facts.orders,
        "level": standing.risk_level,
        "probability": None,
        "log_odds": None,
        "contributions": {},
        "value_at_stake": None,
        "stage": standing.stage or None,
        "behaviour": standing.behaviour or None,
        "qualification": standing.qualification or None,
        "region": explain.region_name(facts),
        "alert": None,
    }
    if standing.alert is not None:
        found["alert"] = {"number": standing.alert.number, "state": standing.alert.state}
    if facts.first_purchase_ms >= 0:
        score = policy.risk.score(facts, at_ms)
        found["probability"], found["log_odds"] = score.probability, score.log_odds
        terms = explain.contributions(policy, facts, score, at_ms)
        found["contributions"] = {one["term"]: one["log_odds"] for one in terms}
        found["value_at_stake"] = explain.worth(policy, facts, standing.tier, at_ms)["value_at_stake"]
    return found


def differences(before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, list[Any]]:
    """The values that differ between two summaries, as [before, after], without the terms of the score."""
    was, now = before or {}, after or {}
    names = [name for name in (now or was) if name != "contributions"]
    return {name: [was.get(name), now.get(name)] for name in names if was.get(name) != now.get(name)}


def term_changes(before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, float]:
    """By how much each term of the score changed between two summaries; the changes add up to that of the log-odds.

    Empty if there was, or is, no score.
    """
    if before is None or after is None or before["log_odds"] is None or after["log_odds"] is None:
        return {}
    was, now = before["contributions"], after["contributions"]
    terms = {name: round(now.get(name, 0.0) - was.get(name, 0.0), DIGITS) for name in {**was, **now}}
    return {name: moved for name, moved in terms.items() if moved}
