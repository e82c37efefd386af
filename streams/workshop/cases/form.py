"""The form of a file of customers worked out by hand: one class per table, one field per key."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

Amount = str | int | float
Marks = Literal["money", "authority", "need"]


class EventForm(Struct, forbid_unknown_fields=True, kw_only=True):
    """One event. The keys of its kind are those of the topic's body, shorter; `refused` is the reason code to be expected."""

    on: str | int
    amount: Amount | None = None
    refund: Amount | None = None
    complaint: str | None = None
    feedback: int | None = None
    prospect: list[Marks] | None = None
    command: str | None = None
    id: str | None = None
    currency: str | None = None
    of: str | int | None = None
    full: bool | None = None
    status: str | None = None
    severity: str | None = None
    category: str | None = None
    satisfaction: int | None = None
    region: str | None = None
    kind: str | None = None
    tier: str | None = None
    reason: str | None = None
    actor: str | None = None
    owner: str | None = None
    action: str | None = None
    until: str | int | None = None
    number: int | None = None
    refused: str | None = None


class ExpectationForm(Struct, forbid_unknown_fields=True, kw_only=True):
    """What the customer should be once everything up to and including `at` has happened. What is left out is not looked at."""

    at: str | int
    tier: str | None = None
    downgrade_at: str | int | None = None
    keeps: str | None = None
    locked: bool | None = None
    spend: Amount | None = None
    orders: int | None = None
    score: Amount | None = None
    satisfaction: int | Literal["none"] | None = None
    segment: str | None = None
    risk: str | None = None
    probability: float | None = None
    alert: str | None = None
    stage: str | None = None
    behaviour: str | None = None
    announced: dict[str, list[str]] = {}


class CustomerForm(Struct, forbid_unknown_fields=True, kw_only=True):
    """One customer; the name says what is shown by them."""

    name: str
    events: list[EventForm]
    expect: list[ExpectationForm]


class ThresholdsForm(Struct, forbid_unknown_fields=True, kw_only=True):
    """Lines that follow the base, as if a census had drawn them; `top_spend` and the others ascend."""

    on: str | int
    top_spend: list[Amount] = []
    recency: list[str] = []
    frequency: list[int] = []
    monetary: list[Amount] = []


class FileForm(Struct, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    customers: list[CustomerForm]
    lines: list[ThresholdsForm] = []


KINDS: Final[dict[str, tuple[str, frozenset[str]]]] = {
    "amount": ("purchases", frozenset({"currency", "region"})),
    "refund": ("purchases", frozenset({"currency", "region", "of", "full"})),
    "complaint": ("complaints", frozenset({"status", "severity", "category", "satisfaction", "region"})),
    "feedback": ("feedback", frozenset({"kind"})),
    "prospect": ("prospects", frozenset({"region"})),
    "command": ("commands", frozenset({"tier", "reason", "actor", "owner", "action", "until", "number"})),
}
"""What an event is, by the key that it must have: its topic, and the other keys that it may have."""
OF_EVERY_KIND: Final = frozenset({"on", "id", "refused"})
