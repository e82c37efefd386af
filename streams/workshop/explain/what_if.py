"""The effect of hypothetical events: the customer without them and with them, at the same instant.

Events are given as on the wire. Fields that are left out are filled in, and the result lists them. Nothing is written
anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson

import models
from models import story, units
from models.bodies import TOPIC_BODIES
from models.customer import Customer
from models.events import Event, Rejected
from models.policy import Policy
from models.story import Moment
from streams.workshop.explain.sentences import event_in_words
from streams.workshop.explain.story import ExplainError, bodies_of

TOPIC_FIELDS: Final[dict[str, frozenset[str]]] = {
    "purchases": frozenset({"amount", "order_id", "original_occurred_at", "full_order", "channel"}),
    "complaints": frozenset({"complaint_id", "severity", "status", "category", "satisfaction"}),
    "feedback": frozenset({"score"}),
    "prospects": frozenset({"money", "authority", "need"}),
    "commands": frozenset({"command", "action", "tier", "actor", "owner"}),
}
"""The fields by which the topic of an event is recognised."""


class HypotheticalEvent(NamedTuple):
    """An event that has not happened."""

    event: Event
    body: dict[str, Any]
    filled: list[str]
    """The fields that were filled in."""


def parse_hypothetical(
    text: str, number: int, customer_id: str, policy: Policy, at_ms: int, topic: str | None = None
) -> HypotheticalEvent:
    """The event in a JSON text, with missing fields filled in. Raises ExplainError that names the wrong field."""
    where = f"event {number}"
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ExplainError(f'{where} is not JSON: {error}; write it as in \'{{"amount": "25.00"}}\'') from None
    if not isinstance(given, dict):
        raise ExplainError(f'{where} is not a JSON object; write it as in \'{{"amount": "25.00"}}\'')
    named = given.pop("topic", topic)
    topic = _topic_of(given, where) if named is None else named
    if topic not in TOPIC_BODIES:
        raise ExplainError(f"{where}: topic {topic!r} is not among {', '.join(TOPIC_BODIES)}")
    fields = TOPIC_BODIES[topic].__struct_fields__
    unknown = [name for name in given if name not in fields]
    if unknown:
        raise ExplainError(f"{where}: {topic} have no field {unknown[0]!r}; the fields are {', '.join(fields)}")
    if given.get("customer_id", customer_id) != customer_id:
        raise ExplainError(f"{where}: customer_id {given['customer_id']!r} is another customer than {customer_id!r}")
    body = _defaults(topic, given, number, customer_id, policy, at_ms) | given
    event = policy.decoder().decode(topic, orjson.dumps(body))
    if isinstance(event, Rejected):
        raise ExplainError(f"{where} can't be used ({event.code}): {event.detail}")
    return HypotheticalEvent(event, body, [name for name in body if name not in given])


def _topic_of(given: dict[str, Any], where: str) -> str:
    """The topic whose fields an event has. Raises ExplainError if there is none, or several."""
    fitting = {topic: len(fields & given.keys()) for topic, fields in TOPIC_FIELDS.items()}
    most = max(fitting.values())
    found = [topic for topic, count in fitting.items() if count == most and count]
    if len(found) == 1:
        return found[0]
    known = frozenset(name for body in TOPIC_BODIES.values() for name in body.__struct_fields__)
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ExplainError(f"{where}: there is no field {unknown[0]!r}; docs/schemas has the fields of every topic")
    why = f"its fields fit {' and '.join(found)}" if found else "none of its fields decides"
    raise ExplainError(f"{where}: for which topic? {why}; give --topic, one of {', '.join(TOPIC_BODIES)}")


def _defaults(
    topic: str, given: dict[str, Any], number: int, customer_id: str, policy: Policy, at_ms: int
) -> dict[str, Any]:
    """The most likely values of the fields that an event leaves out."""
    name = f"what-if-{number}"
    common = {"event_id": name, "customer_id": customer_id, "occurred_at": units.format_time(at_ms)}
    is_refund = "original_occurred_at" in given or "full_order" in given
    own: dict[str, dict[str, Any]] = {
        "purchases": {
            "kind": "refund" if is_refund else "purchase",
            "order_id": name,
            "currency": policy.currency,
        },
        "complaints": {"complaint_id": name, "status": "opened", "severity": "medium"},
        "feedback": {"kind": "csat"},
        "prospects": dict.fromkeys(("money", "authority", "need"), False),
        "commands": {"command": "act_on_alert"} if "action" in given else {},
    }
    return common | own[topic]


def what_if(
    customer: Customer, policy: Policy, customer_id: str, at_ms: int, events: Sequence[HypotheticalEvent]
) -> dict[str, Any]:
    """The customer without and with the events, at `at_ms` or at the time of the last event if that is later.

    docs/explain.md describes the fields.
    """
    until_ms = max(at_ms, *(one.event.occurred_at_ms for one in events))
    by_time, without = story.collect(story.by_time(customer, until_ms, policy, customer_id))
    moments: list[Moment] = []
    after, events_as_json = customer, []
    for one in events:
        found, after = story.collect(story.by_event(after, one.event, policy))
        moments += found
        events_as_json.append(_event_as_json(one, found[-1], policy))
    found, after = story.collect(story.by_time(after, until_ms, policy, customer_id))
    moments += found
    before_seen, after_seen = (story.summary_at(one, policy, until_ms) for one in (without, after))
    return {
        "customer_id": customer_id,
        "policy": policy.label,
        "currency": policy.currency,
        "horizon": units.format_duration(policy.risk.horizon_ms),
        "at": units.format_time(until_ms),
        "events": events_as_json,
        "before": before_seen,
        "after": after_seen,
        "changed": story.differences(before_seen, after_seen),
        "moved": story.term_changes(before_seen, after_seen),
        "announcements": bodies_of(moments),
        "announcements_without": bodies_of(by_time),
        "profile_before": _profile(without, customer_id, policy, until_ms),
        "profile_after": _profile(after, customer_id, policy, until_ms),
    }


def _event_as_json(one: HypotheticalEvent, moment: Moment, policy: Policy) -> dict[str, Any]:
    return {
        "topic": one.event.topic,
        "text": event_in_words(one.event, one.body, policy),
        "body": one.body,
        "filled_in": one.filled,
        "verdict": moment.verdict,
        "late": moment.is_late,
        "reason": None if moment.rejected is None else {"code": moment.rejected.code, "detail": moment.rejected.detail},
    }


def _profile(customer: Customer, customer_id: str, policy: Policy, at_ms: int) -> dict[str, Any] | None:
    if story.is_erased(customer):
        return None
    body = models.profile(story.as_of(customer, policy, at_ms), customer_id, policy)
    return None if body is None else dict(orjson.loads(body))
