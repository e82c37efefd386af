"""The form of a file of test customers: a class for each table, a field for each key."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct, field

Amount = str | int | float
Marks = Literal["money", "authority", "need"]


class EventForm(Struct, forbid_unknown_fields=True, kw_only=True):
    """One event. Its keys are short names of the body's fields; `refused` is the reason code that is expected."""

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
    """What is expected of the customer after everything up to and including `at`. Keys that are left out are not
    checked.
    """

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
    """One customer; the name says what the customer shows."""

    name: str
    events: list[EventForm]
    expect: list[ExpectationForm]


class ThresholdsForm(Struct, forbid_unknown_fields=True, kw_only=True):
    """Thresholds that follow the base, as a census would compute them; `top_spend` and the others ascend."""

    on: str | int
    top_spend: list[Amount] = []
    recency: list[str] = []
    frequency: list[int] = []
    monetary: list[Amount] = []


class FileForm(Struct, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    customers: list[CustomerForm]
    thresholds: list[ThresholdsForm] = field(name="lines", default_factory=list)


KINDS: Final[dict[str, tuple[str, frozenset[str]]]] = {
    "amount": ("purchases", frozenset({"currency", "region"})),
    "refund": ("purchases", frozenset({"currency", "region", "of", "full"})),
    "complaint": ("complaints", frozenset({"status", "severity", "category", "satisfaction", "region"})),
    "feedback": ("feedback", frozenset({"kind"})),
    "prospect": ("prospects", frozenset({"region"})),
    "command": ("commands", frozenset({"tier", "reason", "actor", "owner", "action", "until", "number"})),
}
"""The kinds of events, by the key that an event must have: the topic, and the other keys that the event may have."""
OF_EVERY_KIND: Final = frozenset({"on", "id", "refused"})
