"""Turns what a person does about an alert into a command; the fold decides what the command changes."""

from __future__ import annotations

import uuid
from typing import Any, Final, Literal, get_args

import orjson
from msgspec import UNSET, Struct, UnsetType

from models import units
from streams.language.console_words import words
from streams.topics import COMMANDS
from streams.web.services.record_sender import RecordSender
from streams.web.signin.people import Person

ActionName = Literal["acknowledged", "contacted", "snoozed", "released", "saved", "lost", "dismissed"]
ACTIONS: Final[tuple[ActionName, ...]] = get_args(ActionName)
MAX_REASON_CHARACTERS: Final = 1_000


class AlertActionError(ValueError):
    """An action that is not allowed or incomplete; the message says why, and `key` with `values` says so in any
    language.
    """

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(words("en")(key, **values))
        self.key = key
        self.values = values


class AlertAction(Struct, frozen=True, forbid_unknown_fields=True):
    """An action on a customer's alert, as a page sends it."""

    action: ActionName
    number: int | UnsetType = UNSET
    """The number of the alert on the page; if the customer has another alert by now, the action has no effect."""
    reason: str | None = None
    until: str | None = None
    """The end of a snooze, RFC 3339."""
    owner: str | None = None
    """With `acknowledged`: the new owner, if not the person themselves. Only managers may name one."""


def command_of(action: AlertAction, customer_id: str, person: Person, now_ms: int) -> dict[str, Any]:
    """The body of the command. Raises AlertActionError."""
    if not person.may("agent"):
        raise AlertActionError("act_for_agents")
    if action.action == "dismissed" and not (action.reason or "").strip():
        raise AlertActionError("reason_missing")
    if action.reason is not None and len(action.reason) > MAX_REASON_CHARACTERS:
        raise AlertActionError("reason_too_long", characters=len(action.reason), most=MAX_REASON_CHARACTERS)
    if action.owner is not None and action.owner != person.name:
        if action.action != "acknowledged":
            raise AlertActionError("owner_when_claiming")
        if not person.may("manager"):
            raise AlertActionError("manager_assigns")
    body: dict[str, Any] = {
        "event_id": str(uuid.uuid4()),
        "customer_id": customer_id,
        "command": "act_on_alert",
        "occurred_at": units.format_time(now_ms),
        "action": action.action,
        "actor": person.name,
    }
    body |= {name: value for name in ("reason", "owner") if (value := getattr(action, name)) is not None}
    if action.number is not UNSET:
        body["number"] = action.number
    if action.action == "snoozed":
        body["until"] = units.format_time(_until_ms(action.until, now_ms))
    elif action.until is not None:
        raise AlertActionError("end_of_snooze")
    return body


def _until_ms(written: str | None, now_ms: int) -> int:
    try:
        until_ms = units.parse_time(written or "")
    except ValueError:
        raise AlertActionError("end_missing") from None
    if until_ms <= now_ms:
        raise AlertActionError("end_is_past")
    return until_ms


async def act_on_alert(
    sender: RecordSender, action: AlertAction, customer_id: str, person: Person, now_ms: int
) -> dict[str, Any]:
    """Send the command for an action, dated `now_ms`; returns it once the broker has acknowledged it.

    Raises AlertActionError for an action that is refused, and NotAcknowledged if the broker did not acknowledge the
    command.
    """
    body = command_of(action, customer_id, person, now_ms)
    await sender.deliver(COMMANDS, customer_id, orjson.dumps(body))
    return body
