"""The body of a record on `profiles`: a customer's state in readable form."""

from __future__ import annotations

from typing import Any, Final

import orjson

from models import buckets, explain, units
from models.bodies import SEVERITIES, STATUSES
from models.customer import Customer, Standing
from models.fold import describe_tier, next_change_ms
from models.policy import Policy

MOST_BUCKETS: Final = 200


def profile(customer: Customer, customer_id: str, policy: Policy) -> bytes | None:
    """The profile as of the customer's clock, or None (a tombstone) for one whose data was erased.

    Its `revision` grows with every change, so that readers never replace a newer profile with an older one.
    """
    if customer.erased_at_ms == customer.clock_ms:
        return None
    now_ms = customer.clock_ms
    facts, standing = customer.facts, customer.standing
    view = policy.view(facts, now_ms)
    measures = view.at(now_ms)
    money = policy.decimals
    above = policy.ladder.rank_of(standing.tier) + 1
    answer = facts.satisfaction
    due_at_ms = next_change_ms(customer, policy)
    body: dict[str, Any] = {
        "customer_id": customer_id,
        "seq": customer.seq,
        "revision": customer.revision,
        "as_of": units.format_time(now_ms),
        "policy": policy.label,
        "currency": policy.currency,
        **describe_tier(standing),
        **({"segment": policy.segment_of(measures)} if policy.segments else {}),
        "keeps": explain.what_keeps(policy, customer, view),
        "reaches": explain.what_regains(policy, customer, policy.ladder.tiers[above], view, "reach")
        if above < len(policy.ladder.tiers) and standing.lock is None
        else None,
        **({"potential": explain.potential(policy, customer, measures)} if above < len(policy.ladder.tiers) else {}),
        **({"life_cycle": _life(standing)} if standing.stage else {}),
        "recency": None if measures.recency_ms is None else units.format_duration(measures.recency_ms),
        "frequency": measures.orders,
        "monetary": units.format_minor(measures.spend_minor, money),
        "active_periods": measures.active_periods,
        "satisfaction": None
        if answer is None
        else {"score": answer.score, "kind": answer.kind, "at": units.format_time(answer.at_ms)},
        "region": explain.region_name(facts),
        "lifetime": {
            "first_purchase": _time(facts.first_purchase_ms),
            "last_purchase": _time(facts.last_purchase_ms),
            "orders": facts.orders,
            "net_spend": units.format_minor(facts.spend_minor, money),
            "purchase_days": facts.purchase_days,
        },
        "history": _history(customer, policy),
        "risk": _risk(customer, policy),
        "due_at": units.format_time(due_at_ms) if due_at_ms < units.LATEST_MS * 2 else None,
    }
    return orjson.dumps(body)


def _history(customer: Customer, policy: Policy) -> dict[str, Any]:
    """Purchases and complaints that the state still holds, oldest first: the latest MOST_BUCKETS time buckets, as
    [time, orders, net spend], and the steps of complaints.
    """
    width_ms, facts = policy.window.bucket_ms, customer.facts
    return {
        "purchases": [
            [units.format_time(one.number * width_ms), one.orders, units.format_minor(one.spend_minor, policy.decimals)]
            for one in buckets.unpack(facts.buckets)[-MOST_BUCKETS:]
        ],
        "complaints": [
            {
                "complaint_id": step.complaint_id,
                "at": units.format_time(step.at_ms),
                "status": STATUSES[step.status],
                "severity": SEVERITIES[step.severity],
                "category": step.category or None,
            }
            for step in facts.complaints
        ],
    }


def _life(standing: Standing) -> dict[str, Any]:
    return {
        "stage": standing.stage,
        "since": units.format_time(standing.stage_since_ms),
        "behaviour": standing.behaviour or None,
        **({"qualification": standing.qualification} if standing.qualification else {}),
    }


def _risk(customer: Customer, policy: Policy) -> dict[str, Any]:
    facts, standing, now_ms = customer.facts, customer.standing, customer.clock_ms
    body: dict[str, Any] = {
        "level": standing.risk_level,
        "since": _time(standing.risk_since_ms or -1),
        "last_alert": _time(standing.last_alert_ms),
        "alert": explain.describe_alert(customer),
        "probability": None,
        "p_alive": None,
        "value_at_stake": "0",
        "lifetime_value": "0",
        "contributions": [],
    }
    if facts.first_purchase_ms >= 0:
        score = policy.risk.score(facts, now_ms)
        body["probability"] = score.probability
        body["p_alive"] = round(policy.risk.p_alive(facts, now_ms), 6)
        body.update(explain.worth(policy, facts, standing.tier, now_ms))
        body["contributions"] = explain.contributions(policy, facts, score, now_ms)
    return body


def _time(at_ms: int) -> str | None:
    return None if at_ms < 0 else units.format_time(at_ms)
