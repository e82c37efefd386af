"""The effect of hypothetical events: the customer without them and with them, at the same instant.

Events are given as on the wire. Fields that are left out are filled in, and the result lists them. Nothing is written
anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

import models
from models import story, units
from models.customer import Customer
from models.policy import Policy
from models.story import Moment
from streams.sources.written_event import Defaults, WrittenEvent, parse_written
from streams.workshop.explain.sentences import event_in_words
from streams.workshop.explain.story import bodies_of


def parse_hypothetical(
    text: str, number: int, customer_id: str, policy: Policy, at_ms: int, topic: str | None = None
) -> WrittenEvent:
    """The event in a JSON text, with missing fields filled in. Raises WrittenEventError that names the wrong field."""
    defaults = Defaults(f"what-if-{number}", at_ms, policy.currency, customer_id)
    return parse_written(text, f"event {number}", defaults, policy.decoder(), topic, "give --topic")


def what_if(
    customer: Customer, policy: Policy, customer_id: str, at_ms: int, events: Sequence[WrittenEvent]
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


def _event_as_json(one: WrittenEvent, moment: Moment, policy: Policy) -> dict[str, Any]:
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
