"""The bodies of the input topics: msgspec decodes records into these classes and validates them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from msgspec import Meta, Raw, Struct

from models import units
from models.names import ComplaintStatus, Severity
from models.parameters import Parameters

MAX_ID_CHARACTERS: Final = 128

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARACTERS)]
Text = Annotated[str, Meta(max_length=1_000)]
Time = Annotated[int, Meta(ge=0, lt=units.LATEST_MS)] | Annotated[datetime, Meta(tz=True)]
Score = Annotated[int, Meta(ge=0, le=100)]
Place = Annotated[str, Meta(max_length=128)]
"""The customer's region, as the shop divides its market; the latest event that names one counts."""
SEVERITIES: Final[tuple[Severity, ...]] = ("low", "medium", "high", "critical")
STATUSES: Final[tuple[ComplaintStatus, ...]] = ("opened", "escalated", "resolved", "reopened")


class Purchase(Struct, gc=False, kw_only=True):
    """Body of `purchases`. `amount` is not negative; a refund's amount is what was paid back."""

    event_id: Id
    customer_id: Id
    kind: Literal["purchase", "refund"]
    order_id: Id
    amount: Raw
    """A decimal as text or number. It is decoded later: a body may repeat the field thousands of times, and only the
    last counts.
    """
    currency: str
    occurred_at: Time
    channel: Annotated[str, Meta(max_length=128)] | None = None
    region: Place | None = None
    original_occurred_at: Time | None = None
    full_order: bool = False


class Complaint(Struct, gc=False, kw_only=True):
    """Body of `complaints`: one step in the life of one complaint."""

    event_id: Id
    customer_id: Id
    complaint_id: Id
    status: ComplaintStatus
    severity: Severity
    occurred_at: Time
    category: Annotated[str, Meta(max_length=128)] | None = None
    region: Place | None = None
    satisfaction: Score | None = None


class Feedback(Struct, gc=False, kw_only=True):
    """Body of `feedback`. Both kinds are on a scale of 0 to 100."""

    event_id: Id
    customer_id: Id
    score: Score
    kind: Literal["csat", "nps"]
    occurred_at: Time


MAX_POLICY_CHARACTERS: Final = 32_000
EVERYBODY: Final = "*"
"""The `customer_id` of a command for all customers; such a command is sent to every partition."""


class Breakpoints(Struct, gc=False, kw_only=True, forbid_unknown_fields=True):
    """Thresholds that a census of all customers computed: see models.policy.census."""

    as_of_ms: Annotated[int, Meta(ge=0, lt=units.LATEST_MS)]
    customers: Annotated[int, Meta(ge=1)]
    """How many customers the census counted: those with an order in the window."""
    top_spend_minor: list[int] = []
    """Per tier with a `top_share`, lowest tier first: the spend in the window from which a customer is in the tier."""
    recency_ms: list[int] = []
    frequency: list[int] = []
    monetary_minor: list[int] = []
    """The values between the quintiles, ascending; empty for a term whose breakpoints the policy gives."""


class Prospect(Struct, gc=False, kw_only=True):
    """Body of `prospects`: what the shop knows about somebody who may become a customer."""

    event_id: Id
    customer_id: Id
    money: bool
    authority: bool
    need: bool
    occurred_at: Time
    region: Place | None = None


class Command(Struct, gc=False, kw_only=True):
    """Body of `commands`. Locking and unlocking a tier and dismissing an alert need a reason, a snooze needs its end.

    `actor` is the person who acts. `owner` is the person to whom an alert is assigned, if it is somebody else. With
    `number` the command is only for the customer's alert of that number.
    """

    event_id: Id
    customer_id: Id
    command: Literal["lock_tier", "unlock_tier", "erase", "act_on_alert", "use_edition"]
    occurred_at: Time
    tier: Id | None = None
    reason: Text | None = None
    actor: Annotated[str, Meta(max_length=128)] | None = None
    action: Literal["acknowledged", "contacted", "snoozed", "released", "saved", "lost", "dismissed"] | None = None
    owner: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    until: Time | None = None
    number: Annotated[int, Meta(ge=1)] | None = None
    edition: Annotated[int, Meta(ge=1, lt=65536)] | None = None
    breakpoints: Breakpoints | None = None
    parameters: Parameters | None = None
    policy: Annotated[str, Meta(max_length=MAX_POLICY_CHARACTERS)] | None = None
    """The text of a policy file, which is in force from then on."""
    follows: Annotated[str, Meta(max_length=300)] | None = None
    """With `policy`: the reference of the policy that it replaces. A table under any other policy ignores the command.
    """


Body = Purchase | Complaint | Feedback | Prospect | Command
TOPIC_BODIES: Final[dict[str, type[Body]]] = {
    "purchases": Purchase,
    "complaints": Complaint,
    "feedback": Feedback,
    "prospects": Prospect,
    "commands": Command,
}
"""The input topics and their bodies, in the order in which simultaneous events of a customer are folded."""
