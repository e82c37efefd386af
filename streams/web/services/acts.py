"""What people do about alerts, as commands: the fold decides what they come to."""

from __future__ import annotations

import uuid
from typing import Any, Final, Literal, get_args

import orjson
from msgspec import UNSET, Struct, UnsetType

from models import units
from streams.language.console_words import words
from streams.topics import COMMANDS
from streams.web.services.outbox import Outbox
from streams.web.signin.people import Person

Action = Literal["acknowledged", "contacted", "snoozed", "released", "saved", "lost", "dismissed"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
MAX_REASON_CHARACTERS: Final = 1_000


class ActError(ValueError):
    """An action that can't be taken as it is; the message says why, and `key` with `values` says it in any language."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(words("en")(key, **values))
        self.key = key
        self.values = values


class Act(Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody wants done about a customer's alert."""

    action: Action
    number: int | UnsetType = UNSET
    """The alert that was looked at: should it be another by now, nothing is done."""
    reason: str | None = None
    until: str | None = None
    """RFC 3339; when a snooze ends."""
    owner: str | None = None
    """With `acknowledged`: who shall have it. Managers assign."""


def command_of(act: Act, customer_id: str, person: Person, now_ms: int) -> dict[str, Any]:
    """The body of the command. Raises ActError."""
    if not person.may("agent"):
        raise ActError("act_for_agents")
    if act.action == "dismissed" and not (act.reason or "").strip():
        raise ActError("reason_missing")
    if act.reason is not None and len(act.reason) > MAX_REASON_CHARACTERS:
        raise ActError("reason_too_long", characters=len(act.reason), most=MAX_REASON_CHARACTERS)
    if act.owner is not None and act.owner != person.name:
        if act.action != "acknowledged":
            raise ActError("owner_when_claiming")
        if not person.may("manager"):
            raise ActError("manager_assigns")
    body: dict[str, Any] = {
        "event_id": str(uuid.uuid4()),
        "customer_id": customer_id,
        "command": "act_on_alert",
        "occurred_at": units.format_time(now_ms),
        "action": act.action,
        "actor": person.name,
    }
    body |= {name: value for name in ("reason", "owner") if (value := getattr(act, name)) is not None}
    if act.number is not UNSET:
        body["number"] = act.number
    if act.action == "snoozed":
        body["until"] = units.format_time(_until_ms(act.until, now_ms))
    elif act.until is not None:
        raise ActError("end_of_snooze")
    return body


def _until_ms(written: str | None, now_ms: int) -> int:
    try:
        until_ms = units.parse_time(written or "")
    except ValueError:
        raise ActError("end_missing") from None
    if until_ms <= now_ms:
        raise ActError("end_is_past")
    return until_ms


async def act_on_alert(outbox: Outbox, act: Act, customer_id: str, person: Person, now_ms: int) -> dict[str, Any]:
    """Have it done, as of now: returns the command once the broker has acknowledged it. Raises ActError, or NotTaken if it has not."""
    body = command_of(act, customer_id, person, now_ms)
    await outbox.deliver(COMMANDS, customer_id, orjson.dumps(body))
    return body
