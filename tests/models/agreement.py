"""Compares a customer of the fold with the oracle's picture of them."""

from __future__ import annotations

import json
from typing import Any

from models import Customer, Output, Policy, buckets, next_change_ms
from models.customer import NEVER_MS
from models.customer_parts import Alert
from tests.builders import ms
from tests.oracle import Announcement, Picture
from tests.running import Step


def assert_agrees(step: Step, picture: Picture, policy: Policy, context: str = "") -> None:
    """Everything that docs/semantics.md specifies about a customer after an event."""
    where = f"{context} customer {picture.customer_id}"
    assert as_the_oracle_sees(step.customer, policy) == expected(picture), where
    assert step.customer.clock_ms < step.customer.due_at_ms <= next_change_ms(step.customer, policy), where
    assert [announced(output) for output in step.outputs] == [_plain(one) for one in picture.announcements], where
    assert (step.rejected is not None) == (picture.verdict == "too_late"), where
    for output, announcement in zip(step.outputs, picture.announcements, strict=True):
        if announcement.score is not None:
            assert abs(json.loads(output.body)["after"]["log_odds"] - announcement.score) < 1e-9, where


def expected(picture: Picture) -> dict[str, Any]:
    """The oracle's picture in the form of `as_the_oracle_sees`."""
    return {
        "facts": picture.facts,
        "standing": picture.standing,
        "seq": picture.seq,
        "clock": picture.clock,
        "due_at": picture.due_at,
    }


def as_the_oracle_sees(customer: Customer, policy: Policy) -> dict[str, Any]:
    """A customer in the form of the oracle's picture."""
    facts, standing = customer.facts, customer.standing
    answer, lock = facts.satisfaction, standing.lock
    return {
        "facts": {
            "first_purchase": _known(facts.first_purchase_ms),
            "last_purchase": _known(facts.last_purchase_ms),
            "purchase_days": facts.purchase_days,
            "orders": facts.orders,
            "spend": facts.spend_minor,
            "last_day": facts.last_day_minor,
            "buckets": [
                (one.number, one.purchases, one.orders, one.spend_minor) for one in buckets.unpack(facts.buckets)
            ],
            "steps": [
                (one.at_ms, one.complaint_id, one.status, one.severity, one.category) for one in facts.complaints
            ],
            "answer": None if answer is None else (answer.at_ms, answer.score, answer.kind),
            "region": None if facts.region is None else (facts.region.at_ms, facts.region.name),
            "prospect": None if facts.prospecting is None else (facts.prospecting.at_ms, facts.prospecting.marks),
        },
        "standing": {
            "tier": standing.tier,
            "tier_since": standing.tier_since_ms,
            "downgrade_at": _ever(standing.downgrade_at_ms),
            "lock": None if lock is None else (lock.since_ms, lock.reason, lock.actor),
            "level": standing.risk_level,
            "level_since": standing.risk_since_ms,
            "last_alert": _known(standing.last_alert_ms),
            "alert": None if standing.alert is None else _alert(standing.alert),
            "life": (standing.stage, standing.stage_since_ms, standing.behaviour, standing.qualification),
        },
        "seq": customer.seq,
        "clock": customer.clock_ms,
        "due_at": _ever(next_change_ms(customer, policy)),
    }


def announced(output: Output) -> dict[str, Any]:
    """An output, read from its body as its readers do."""
    body = json.loads(output.body)
    if output.topic == "alerts":
        return _announced_alert(output, body)
    key = {"tier-changes": "tier", "churn-risk": "level", "life-cycle": output.change}[output.topic]
    assert (body["seq"], body["id"], body["change"]) == (output.seq, output.id, output.change)
    assert ms(body["occurred_at"]) == output.occurred_at_ms
    return {
        "topic": output.topic,
        "change": output.change,
        "occurred_at": output.occurred_at_ms,
        "cause": body["cause"],
        "before": body["before"] and (body["before"][key] or ""),
        "after": body["after"] and body["after"][key],
        "downgrade_at": body["after"] and body["after"].get("downgrade_at") and ms(body["after"]["downgrade_at"]),
    }


def _announced_alert(output: Output, body: dict[str, Any]) -> dict[str, Any]:
    def whose(alert: dict[str, Any] | None) -> tuple[str, str] | None:
        return None if alert is None else (alert["state"], alert["owner"] or "")

    return {
        "topic": output.topic, "change": output.change, "occurred_at": output.occurred_at_ms, "cause": body["cause"],
        "before": whose(body["before"]), "after": whose(body["after"]), "downgrade_at": None,
    }  # fmt: skip


def _alert(one: Alert) -> dict[str, Any]:
    return {
        "number": one.number, "state": one.state, "owner": one.owner, "since": one.since_ms, "opened": one.opened_at_ms,
        "deadline": _known(one.deadline_ms), "until": _known(one.until_ms), "cool": _known(one.cool_until_ms),
        "level": one.rank, "cause": one.cause, "hold": one.hold, "reason": one.reason, "breached": one.is_breached,
    }  # fmt: skip


def _plain(one: Announcement) -> dict[str, Any]:
    tier = one.topic == "tier-changes"
    return {
        "topic": one.topic,
        "change": one.change,
        "occurred_at": one.occurred_at,
        "cause": one.cause,
        "before": one.before[0] if tier else one.before,
        "after": one.after and (one.after[0] if tier else one.after),
        "downgrade_at": one.after[1] if tier and one.after else None,
    }


def _known(at_ms: int) -> int | None:
    return None if at_ms < 0 else at_ms


def _ever(at_ms: int) -> int | None:
    return None if at_ms == NEVER_MS else at_ms
