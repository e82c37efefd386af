"""Repairs the value of a dead letter: sets and removes fields."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
import orjson

from models.bodies import TOPIC_BODIES
from streams.dead_letters.ledger import DeadLettersError


def parse_assignment(text: str) -> tuple[str, str]:
    """The field and the text of `field=value`. Raises ValueError."""
    name, equals, written = text.partition("=")
    if not (name and equals):
        raise ValueError(f"--set {text}: write field=value, as in --set amount=12.50")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"--set {name}: the value is not UTF-8") from None
    return name, written


def fields_of(value: bytes | None) -> dict[str, Any] | None:
    """The fields of a JSON object; None if the value is not a JSON object."""
    try:
        body = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def repaired(value: bytes | None, topic: str, assigned: Mapping[str, str], unset: Collection[str]) -> bytes | None:
    """The value with fields set and removed; unchanged, byte for byte, if none is. Raises DeadLettersError if it has no
    fields.

    An assigned text is taken as JSON if that fits the type of the field, else as text: `order_id=7` is the order "7".
    """
    if not (assigned or unset):
        return value
    body = fields_of(value)
    if body is None:
        raise DeadLettersError(
            "the value is not a JSON object, so it has no fields to set; give a whole body by --file"
        )
    types = {one.encode_name: one.type for one in msgspec.structs.fields(TOPIC_BODIES[topic])}
    body |= {name: _field_value(written, types.get(name, Any)) for name, written in assigned.items()}
    return orjson.dumps({name: body[name] for name in body if name not in unset})


def changes(before: bytes | None, after: bytes | None) -> dict[str, tuple[Any, Any]]:
    """For each field that differs, its value before and after, as JSON; None where the field is missing."""
    old, new = (
        {name: orjson.dumps(field).decode() for name, field in (fields_of(value) or {}).items()}
        for value in (before, after)
    )
    return {name: (old.get(name), new.get(name)) for name in old | new if old.get(name) != new.get(name)}


def _field_value(written: str, field_type: Any) -> Any:
    readings: list[Any] = [written]
    try:
        readings.insert(0, orjson.loads(written))
    except orjson.JSONDecodeError:
        return written
    # If neither fits, the decoder will say why the JSON does not.
    return next((one for one in readings if _fits(one, field_type)), readings[0])


def _fits(value: Any, field_type: Any) -> bool:
    try:
        msgspec.convert(value, field_type)
    except msgspec.ValidationError:
        return False
    return True
