"""An event as somebody writes it by hand, `{"amount": "25.00"}`: what it leaves out is filled in."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from models import units
from models.bodies import TOPIC_BODIES
from models.events import Event, Rejected
from streams.sources.logs import Decodes

TOPIC_FIELDS: Final[dict[str, frozenset[str]]] = {
    "purchases": frozenset({"amount", "order_id", "original_occurred_at", "full_order", "channel"}),
    "complaints": frozenset({"complaint_id", "severity", "status", "category", "satisfaction"}),
    "feedback": frozenset({"score"}),
    "prospects": frozenset({"money", "authority", "need"}),
    "commands": frozenset({"command", "action", "tier", "actor", "owner"}),
}
"""The fields by which the topic of an event is recognised."""


class WrittenEventError(ValueError):
    """An event that can't be used; the message names the field."""


class WrittenEvent(NamedTuple):
    """An event that was written by hand."""

    event: Event
    body: dict[str, Any]
    filled: list[str]
    """The fields that were filled in."""


class Defaults(NamedTuple):
    """What an event is filled in with."""

    name: str
    """Its `event_id`, `order_id` and `complaint_id`."""
    at_ms: int
    currency: str
    customer_id: str | None = None
    """None: the event has to name its customer."""


def parse_written(
    text: str,
    where: str,
    defaults: Defaults,
    decoder: Decodes,
    topic: str | None = None,
    ask: str = 'give "topic" in it',
) -> WrittenEvent:
    """The event in a JSON text; messages call it `where`, and `ask` for its topic where nothing decides it.

    Raises WrittenEventError.
    """
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise WrittenEventError(f'{where} is not JSON: {error}; write it as in \'{{"amount": "25.00"}}\'') from None
    if not isinstance(given, dict):
        raise WrittenEventError(f'{where} is not a JSON object; write it as in \'{{"amount": "25.00"}}\'')
    named = given.pop("topic", topic)
    topic = _topic_of(given, where, ask) if named is None else named
    if topic not in TOPIC_BODIES:
        raise WrittenEventError(f"{where}: topic {topic!r} is not among {', '.join(TOPIC_BODIES)}")
    fields = TOPIC_BODIES[topic].__struct_fields__
    unknown = [name for name in given if name not in fields]
    if unknown:
        raise WrittenEventError(f"{where}: {topic} have no field {unknown[0]!r}; the fields are {', '.join(fields)}")
    customer_id = defaults.customer_id
    if customer_id is not None and given.get("customer_id", customer_id) != customer_id:
        raise WrittenEventError(
            f"{where}: customer_id {given['customer_id']!r} is another customer than {customer_id!r}"
        )
    body = _filled_in(topic, given, defaults) | given
    event = decoder.decode(topic, orjson.dumps(body))
    if isinstance(event, Rejected):
        raise WrittenEventError(f"{where} can't be used ({event.code}): {event.detail}")
    return WrittenEvent(event, body, [name for name in body if name not in given])


def _topic_of(given: dict[str, Any], where: str, ask: str) -> str:
    """The topic whose fields an event has. Raises WrittenEventError if there is none, or several."""
    fitting = {topic: len(fields & given.keys()) for topic, fields in TOPIC_FIELDS.items()}
    most = max(fitting.values())
    found = [topic for topic, count in fitting.items() if count == most and count]
    if len(found) == 1:
        return found[0]
    known = frozenset(name for body in TOPIC_BODIES.values() for name in body.__struct_fields__)
    unknown = [name for name in given if name not in known]
    if unknown:
        raise WrittenEventError(
            f"{where}: there is no field {unknown[0]!r}; docs/schemas has the fields of every topic"
        )
    why = f"its fields fit {' and '.join(found)}" if found else "none of its fields decides"
    raise WrittenEventError(f"{where}: for which topic? {why}; {ask}, one of {', '.join(TOPIC_BODIES)}")


def _filled_in(topic: str, given: dict[str, Any], defaults: Defaults) -> dict[str, Any]:
    """The most likely values of the fields that an event leaves out."""
    name = defaults.name
    common = {"event_id": name, "customer_id": defaults.customer_id, "occurred_at": units.format_time(defaults.at_ms)}
    if defaults.customer_id is None:
        del common["customer_id"]
    is_refund = "original_occurred_at" in given or "full_order" in given
    own: dict[str, dict[str, Any]] = {
        "purchases": {
            "kind": "refund" if is_refund else "purchase",
            "order_id": name,
            "currency": defaults.currency,
        },
        "complaints": {"complaint_id": name, "status": "opened", "severity": "medium"},
        "feedback": {"kind": "csat"},
        "prospects": dict.fromkeys(("money", "authority", "need"), False),
        "commands": {"command": "act_on_alert"} if "action" in given else {},
    }
    return common | own[topic]
