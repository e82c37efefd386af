"""Explanations: the deciding rule with its numbers, what keeps or regains a tier, and the terms of a risk score.

This runs only when something is announced or a profile is written, so it is not on the hot path.
"""

from __future__ import annotations

from typing import Any, Literal

from models import units
from models.bodies import SEVERITIES, STATUSES
from models.customer import NEVER_MS, Customer, Facts
from models.facts import Measures, View
from models.policy import Action, Policy
from models.risk import RESOLVED, Complaint, Score, age_weeks, mean_spend_minor, repeat_purchases
from models.tiers import THRESHOLD_UNKNOWN_MINOR, Requirement, Tier

Goal = Literal["keep", "regain", "reach"]


def rule(policy: Policy, tier: Tier, measures: Measures) -> dict[str, Any]:
    """The requirements of `tier`, each with the customer's number."""
    return {
        "tier": tier.name,
        "requirements": [
            {
                "measure": one.measure,
                "needed": _on_wire(policy, one.measure, one.needed),
                "actual": None if one.actual is None else _on_wire(policy, one.measure, one.actual),
                "met": one.met,
            }
            for one in policy.ladder.requirements(tier, measures)
        ],
    }


def what_keeps(policy: Policy, customer: Customer, view: View) -> dict[str, Any] | None:
    """What the customer must do, and by when, to keep the tier they have; None for the base tier."""
    standing, now_ms = customer.standing, customer.clock_ms
    rank = policy.ladder.rank_of(standing.tier)
    if rank == 0:
        return None
    tier = policy.ladder.tiers[rank]
    if standing.lock is not None:
        return _needs("keep", tier, None, None, [], f"{tier.name} is locked: {standing.lock.reason}")
    by_ms = standing.downgrade_at_ms
    if by_ms == NEVER_MS:
        loss_ms = policy.ladder.loss_ms(view, rank, now_ms)
        if loss_ms == NEVER_MS:
            return _needs("keep", tier, None, None, [], f"nothing more is needed to keep {tier.name}")
        by_ms = policy.downgrade_at_ms(policy.view(customer.facts, loss_ms), standing.tier_since_ms, loss_ms)
        if by_ms == loss_ms:
            return _goal(policy, customer.facts, "keep", tier, by_ms, by_ms, now_ms)
    return _goal(policy, customer.facts, "keep", tier, by_ms, by_ms - 1, now_ms)


def what_regains(policy: Policy, customer: Customer, tier: Tier, view: View, goal: Goal = "regain") -> dict[str, Any]:
    """What the customer must do to get `tier`: by the end of the window's year, or at any time for a trailing window."""
    now_ms = customer.clock_ms
    if view.period_end_ms == NEVER_MS:
        return _goal(policy, customer.facts, goal, tier, None, now_ms, now_ms)
    return _goal(policy, customer.facts, goal, tier, view.period_end_ms, view.period_end_ms - 1, now_ms)


def what_divides(policy: Policy, customer: Customer, other: str) -> str:
    """A sentence about a customer and another tier: what reaches it if it is higher, or else what keeps the tier they
    have.
    """
    ladder, view = policy.ladder, policy.view(customer.facts, customer.clock_ms)
    rank = ladder.rank_of(customer.standing.tier)
    if other in ladder.tier_names and ladder.rank_of(other) > rank and customer.standing.lock is None:
        needs = what_regains(policy, customer, ladder.tier_named(other), view, "reach")
    else:
        needs = what_keeps(policy, customer, view) or {"text": f"{customer.standing.tier} asks for nothing"}
    return str(needs["text"])


def _goal(
    policy: Policy, facts: Facts, goal: Goal, tier: Tier, by_ms: int | None, at_ms: int, now_ms: int
) -> dict[str, Any]:
    """What is missing at `at_ms`, the last moment before `by_ms`; it is enough if done at any time until then."""
    view = policy.view(facts, at_ms)
    missing = [
        _missing(policy, tier, one, view.at(at_ms))
        for one in policy.ladder.requirements(tier, view.at(at_ms))
        if not one.met
    ]
    from_ms = None
    if by_ms is not None and policy.window.kind != "trailing":
        start_ms = policy.window.period(facts, at_ms)[0]
        from_ms = start_ms if start_ms > now_ms else None
    when = ("" if from_ms is None else f" from {units.format_time(from_ms + policy.window.utc_offset_ms)[:10]}") + (
        "" if by_ms is None else f" by {units.format_time(by_ms - 1 + policy.window.utc_offset_ms)[:10]}"
    )
    verb = {"keep": "keeps", "regain": "regains", "reach": "reaches"}[goal]
    words = " and ".join(one["text"] for one in missing)
    text = f"{words}{when} {verb} {tier.name}" if missing else f"nothing more is needed{when} to {goal} {tier.name}"
    return _needs(goal, tier, from_ms, by_ms, missing, text)


def _needs(
    goal: Goal, tier: Tier, from_ms: int | None, by_ms: int | None, missing: list[dict[str, Any]], text: str
) -> dict[str, Any]:
    return {
        "goal": goal,
        "tier": tier.name,
        "from": None if from_ms is None else units.format_time(from_ms),
        "before": None if by_ms is None else units.format_time(by_ms),
        "missing": missing,
        "text": text,
    }


def _missing(policy: Policy, tier: Tier, one: Requirement, measures: Measures) -> dict[str, Any]:
    """How far a requirement is from being met."""
    amount = one.needed - (one.actual or 0)
    if one.needed == THRESHOLD_UNKNOWN_MINOR:
        return {"measure": "spend", "amount": None, "text": "spend among the highest, once a census has drawn the line"}
    if one.measure == "spend":
        text = units.money_in_words(amount, policy.currency)
    elif one.measure == "orders":
        text = f"{amount} more order{'s' if amount > 1 else ''}"
    elif one.measure == "active_periods":
        text = f"orders in {amount} more period{'s' if amount > 1 else ''} of {units.format_duration(policy.period_ms)}"
    elif one.measure == "satisfaction":
        return {"measure": "satisfaction", "at_least": one.needed, "text": f"a satisfaction of at least {one.needed}"}
    elif one.measure == "recency":
        within = units.format_duration(one.needed)
        return {"measure": "recency", "within": within, "text": f"a purchase within {within}"}
    else:
        ways = _ways_to_score(policy, one.needed, measures)
        text = " or ".join(way["text"] for way in ways) if ways else f"{_on_wire(policy, 'score', amount)} points"
        amount_on_wire = _on_wire(policy, one.measure, amount)
        return {"measure": "score", "amount": amount_on_wire, "any_of": ways, "text": text}
    return {"measure": one.measure, "amount": _on_wire(policy, one.measure, amount), "text": text}


def _ways_to_score(policy: Policy, needed_milli: int, measures: Measures) -> list[dict[str, Any]]:
    """The single changes (more spend, or more orders) that would lift the score far enough."""
    card = policy.ladder.score_card
    if card is None:
        return []
    ways: list[dict[str, Any]] = []
    missing_milli = needed_milli - card.score_milli(measures)
    for measure, term, actual in (
        ("spend", card.monetary, measures.spend_minor),
        ("orders", card.frequency, measures.orders),
    ):
        above = [limit for limit in term.breakpoints if limit > actual]
        steps = -(-missing_milli // term.weight_milli) if term.weight_milli else len(above) + 1
        if steps <= len(above):
            amount = above[steps - 1] - actual
            in_words = units.money_in_words(amount, policy.currency) if measure == "spend" else f"{amount} more orders"
            ways.append({"measure": measure, "amount": _on_wire(policy, measure, amount), "text": in_words})
    return ways


def _on_wire(policy: Policy, measure: str, value: int) -> str | int:
    """A measure's value on the wire: money and scores as decimals, recency as a duration, counts as numbers."""
    if measure == "spend":
        return units.format_minor(value, policy.decimals) if value != THRESHOLD_UNKNOWN_MINOR else "not drawn yet"
    if measure == "score":
        return units.format_minor(value, 3)
    if measure == "recency":
        return units.format_duration(value)
    return value


# ---------------------------------------------------------------- risk
def contributions(policy: Policy, facts: Facts, score: Score, at_ms: int) -> list[dict[str, Any]]:
    """The signed terms that add up to the score, each with the facts behind it."""
    complaints = policy.risk.complaints(facts, at_ms)
    answer = facts.satisfaction
    x = repeat_purchases(facts)
    days = (at_ms - facts.last_purchase_ms) // units.DAY_MS
    terms: list[dict[str, Any]] = [
        {"term": "base", "log_odds": score.base, "text": "any new customer"},
        {
            "term": "rhythm",
            "log_odds": score.rhythm,
            "text": f"bought again on {x} day{'' if x == 1 else 's'}" if x else "has not bought again yet",
        },
        {
            "term": "silence",
            "log_odds": score.silence,
            "text": f"{days} day{'' if days == 1 else 's'} since the last purchase",
        },
        {
            "term": "complaints",
            "log_odds": score.complaints,
            "text": "; ".join(map(_complaint_in_words, complaints)) or "none remembered",
            "complaints": [_complaint(one) for one in complaints],
        },
        {
            "term": "satisfaction",
            "log_odds": score.satisfaction,
            "text": "no answer"
            if answer is None
            else f"{answer.score} of 100, {policy.risk.satisfaction_neutral} is neutral",
        },
    ]
    card = policy.risk.card
    mean = units.money_in_words(round(mean_spend_minor(facts)), policy.currency)
    if card.frequency:
        text = f"{x + 1} day{'' if x == 0 else 's'} with a purchase"
        terms.append({"term": "frequency", "log_odds": score.frequency, "text": text})
    if card.spend:
        typical = units.money_in_words(card.typical_minor, policy.currency)
        terms.append({"term": "spend", "log_odds": score.spend, "text": f"{mean} a purchase, {typical} is typical"})
    if card.basket_trend:
        last = units.money_in_words(facts.last_day_minor, policy.currency)
        text = (
            f"{last} at last, {mean} on average" if facts.last_day_minor else "the last purchase's amount is not known"
        )
        terms.append({"term": "basket_trend", "log_odds": score.basket_trend, "text": text})
    return terms


def region_name(facts: Facts) -> str | None:
    """The customer's region; None if no event named one."""
    return None if facts.region is None else facts.region.name


def alert(policy: Policy, customer: Customer) -> dict[str, Any]:
    """The customer's alert, with what the person who handles it needs to know."""
    one, facts, standing, now_ms = customer.standing.alert, customer.facts, customer.standing, customer.clock_ms
    assert one is not None
    score = policy.risk.score(facts, now_ms)
    complaints = policy.risk.complaints(facts, now_ms)
    categories_of_open = [step.category for step in complaints if step.status != RESOLVED]
    action = policy.action_for(standing.tier, one.cause, standing.risk_level)
    return {
        **(describe_alert(customer) or {}),
        "level": standing.risk_level,
        "main_cause": one.cause,
        "category": (categories_of_open[-1] if categories_of_open else "") or None,
        "region": region_name(facts),
        "tier": standing.tier,
        "probability": score.probability,
        **worth(policy, facts, standing.tier, now_ms),
        "currency": policy.currency,
        "action": None if action is None else recommendation(action, one.deadline_ms),
        "contributions": contributions(policy, facts, score, now_ms),
    }


def recommendation(action: Action, deadline_ms: int) -> dict[str, Any]:
    """What the policy recommends, in each language that it gives, and by when; a `deadline_ms` of -1 means no deadline."""
    return {
        "do": action.do,
        **({} if action.do_zh is None else {"do_zh": action.do_zh}),
        "before": None if deadline_ms < 0 else units.format_time(deadline_ms),
    }


def describe_alert(customer: Customer) -> dict[str, Any] | None:
    """The customer's alert as the ledger has it; None if there never was one."""
    one = customer.standing.alert
    if one is None:
        return None
    return {
        "number": one.number,
        "kind": "churn",
        "state": one.state,
        "since": units.format_time(one.since_ms),
        "opened_at": units.format_time(one.opened_at_ms),
        "deadline": None if one.deadline_ms < 0 else units.format_time(one.deadline_ms),
        "breached": one.is_breached,
        "until": None if one.until_ms < 0 else units.format_time(one.until_ms),
        "hold": one.hold or None,
        "owner": one.owner or None,
        "reason": one.reason or None,
        "bought_again": customer.facts.last_purchase_ms > one.opened_at_ms,
    }


def worth(policy: Policy, facts: Facts, tier: str, at_ms: int) -> dict[str, str]:
    """The value at stake if the customer leaves, and their expected lifetime value."""
    rank = policy.ladder.rank_of(tier)
    at_stake = policy.value.at_stake_minor(policy.risk, facts, rank, at_ms)
    lifetime = policy.value.lifetime_minor(policy.risk, facts, rank, at_ms)
    return {
        "value_at_stake": units.format_minor(at_stake, policy.decimals),
        "lifetime_value": units.format_minor(lifetime, policy.decimals),
    }


def potential(policy: Policy, customer: Customer, measures: Measures) -> dict[str, Any] | None:
    """Whether the customer is likely to reach the next tier within the value's horizon: their expected spend and orders
    cover what is missing, and nothing else is missing. None if they never bought, or if the next tier's threshold is
    not known yet.
    """
    facts, at_ms = customer.facts, customer.clock_ms
    above = policy.ladder.tiers[policy.ladder.rank_of(customer.standing.tier) + 1]
    if facts.first_purchase_ms < 0 or above.min_spend_minor == THRESHOLD_UNKNOWN_MINOR:
        return None
    weeks = policy.value.horizon_ms / units.WEEK_MS
    x, age = repeat_purchases(facts), age_weeks(facts, at_ms)
    purchases = policy.risk.p_alive(facts, at_ms) * policy.risk.mbg.expected_purchases_if_alive(x, age, weeks)
    spend = purchases * policy.value.spend_minor(facts)
    expected = {"spend": spend, "orders": purchases}
    likely = all(
        one.met or (one.measure in expected and expected[one.measure] >= one.needed - (one.actual or 0))
        for one in policy.ladder.requirements(above, measures)
    )
    return {
        "tier": above.name,
        "within": units.format_duration(policy.value.horizon_ms),
        "expected_spend": units.format_minor(round(spend), policy.decimals),
        "likely": likely,
    }


def main_cause(score: Score) -> str:
    """The main cause of an alert: the largest term on top of the base."""
    cause, largest = "silence", score.silence
    if score.complaints > largest:
        cause, largest = "complaints", score.complaints
    if score.satisfaction > largest:
        cause, largest = "satisfaction", score.satisfaction
    if score.basket_trend > largest:
        cause, largest = "basket_trend", score.basket_trend
    if largest > 0:
        return cause
    return "rhythm" if score.rhythm > 0 else "base"


def _complaint(one: Complaint) -> dict[str, Any]:
    return {
        "complaint_id": one.complaint_id,
        "category": one.category or None,
        "severity": SEVERITIES[one.severity],
        "status": STATUSES[one.status],
        "opened_at": units.format_time(one.opened_at_ms),
        "repeated": one.repeated,
        "log_odds": round(one.log_odds, 12),
    }


def _complaint_in_words(one: Complaint) -> str:
    about = f" about {one.category}" if one.category else ""
    repeated = ", soon after another" if one.repeated else ""
    return f"{SEVERITIES[one.severity]} complaint{about} {STATUSES[one.status]} {units.format_time(one.changed_at_ms)[:10]}{repeated}"
