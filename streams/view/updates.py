"""Turns a record of an output topic into an update of the serving view: the values that streams/view/lua/apply.lua
takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import orjson

from models import units
from models.outputs import ALERTS, CHURN_RISK, LIFE_CYCLE, PROFILES, TIER_CHANGES

Update = tuple[str | bytes | int | float, ...]
"""The kind, the customer's id, `seq`, and the further values of that kind."""

NO_DEADLINE_MS: Final = units.LATEST_MS
DOUBLING_MS: Final = 30 * units.DAY_MS


def update_of(topic: str, value: bytes | None) -> Update | None:
    """The update for a record; None for a tombstone, since the erasure was announced before it."""
    return None if value is None else BY_TOPIC[topic](orjson.loads(value), value)


def urgency(deadline_ms: int, at_stake: float) -> float:
    """The sort key of the queue, the smallest first: the deadline in ms, 30 days earlier for each doubling of the value
    at stake.

    An alert rises while it waits, since newer alerts have later deadlines; so no alert has to be sorted again.

    >>> urgency(units.DAY_MS * 100, 3.0) / units.DAY_MS
    40.0
    """
    return deadline_ms - DOUBLING_MS * math.log2(1.0 + max(at_stake, 0.0))


def _tier(body: dict[str, Any], value: bytes) -> Update:
    if body["change"] == "erase":
        return ("erase", body["customer_id"], body["seq"])
    after = body["after"]
    return (
        "tier", body["customer_id"], body["seq"], after["tier"], units.parse_time(after["since"]), body["before"]["tier"],
        body["occurred_at"][:10], _story_entry(TIER_CHANGES, body),
    )  # fmt: skip


def _risk(body: dict[str, Any], value: bytes) -> Update:
    after = body["after"]
    return (
        "risk", body["customer_id"], body["seq"], after["level"], str(after["probability"]), body["value_at_stake"],
        body["before"]["level"], body["occurred_at"][:10], _story_entry(CHURN_RISK, body),
    )  # fmt: skip


def _life(body: dict[str, Any], value: bytes) -> Update:
    return ("life", body["customer_id"], body["seq"], _story_entry(LIFE_CYCLE, body))


def _profile(body: dict[str, Any], value: bytes) -> Update:
    risk = body["risk"]
    probability = "" if risk["probability"] is None else str(risk["probability"])
    return (
        "profile", body["customer_id"], body["seq"], body["revision"], body["tier"], units.parse_time(body["since"]),
        risk["level"], probability, risk["value_at_stake"], value,
    )  # fmt: skip


def _alert(body: dict[str, Any], value: bytes) -> Update:
    after, before = body["after"], body["before"]
    deadline_ms = NO_DEADLINE_MS if after["deadline"] is None else units.parse_time(after["deadline"])
    at_stake = after["value_at_stake"]
    return (
        "alert", body["customer_id"], body["seq"], body["change"], "" if before is None else before["state"],
        body["occurred_at"][:10], _story_entry(ALERTS, body), value, after["number"], after["state"], after["owner"] or "", after["tier"],
        after["main_cause"], after["category"] or "", after["region"] or "", after["level"], at_stake, deadline_ms,
        -1 if after["until"] is None else units.parse_time(after["until"]), units.parse_time(after["opened_at"]),
        units.parse_time(after["since"]), urgency(deadline_ms, float(at_stake)),
    )  # fmt: skip


def _story_entry(topic: str, body: dict[str, Any]) -> bytes:
    """An announcement as the customer's story keeps it: its topic, and the fields of its body that say what happened
    and why.

    Contributions are kept only for changes of the risk level, and without their evidence, since there are millions of
    them.
    """
    story: dict[str, Any] = {name: body[name] for name in STORY_FIELDS if name in body}
    story["topic"] = topic
    if topic == CHURN_RISK:
        story["contributions"] = [
            {"term": one["term"], "log_odds": one["log_odds"], "text": one["text"]}
            for one in body["contributions"]
            if one["log_odds"]
        ]
    if topic == ALERTS:
        story["after"] = {name: value for name, value in body["after"].items() if value and name not in IN_RISK_CHANGE}
    return orjson.dumps(story)


STORY_FIELDS: Final = (
    "seq", "change", "occurred_at", "cause", "before", "after", "rule", "needs", "tier", "main_cause", "value_at_stake",
    "action",
)  # fmt: skip
IN_RISK_CHANGE: Final = ("contributions", "currency", "kind", "probability", "lifetime_value", "action")
BY_TOPIC: Final[dict[str, Callable[[dict[str, Any], bytes], Update]]] = {
    TIER_CHANGES: _tier,
    CHURN_RISK: _risk,
    LIFE_CYCLE: _life,
    ALERTS: _alert,
    PROFILES: _profile,
}
