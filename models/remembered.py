"""What a customer's state remembers one by one: steps of complaints, an answer, a lock, an alert.

Apart from `models.customer` because msgspec reads and writes these classes, so they are not compiled.
"""

from __future__ import annotations

from msgspec import Struct


class ComplaintStep(Struct, array_like=True, gc=False, order=True, frozen=True):
    """One event of one complaint. The order of fields is the order of steps; severity and status are indices."""

    at_ms: int
    complaint_id: str
    status: int
    severity: int
    category: str


class Satisfaction(Struct, array_like=True, gc=False, order=True, frozen=True):
    """The latest answer to a survey; of two at the same instant the higher counts."""

    at_ms: int
    score: int
    kind: str


class Prospecting(Struct, array_like=True, gc=False, order=True, frozen=True):
    """The latest word on money, authority and need; of two at the same instant the more hopeful counts."""

    at_ms: int
    marks: int
    """How many of the three there are."""


class Region(Struct, array_like=True, gc=False, order=True, frozen=True):
    """Where the customer is, by the latest word; of two at the same instant the later name counts."""

    at_ms: int
    name: str


class Lock(Struct, array_like=True, gc=False, frozen=True):
    """A tier pinned by hand."""

    since_ms: int
    reason: str
    actor: str


class Alert(Struct, array_like=True, gc=False, frozen=True):
    """The customer's alert, open or the last one closed: see models.alerts. Of times, -1 is none."""

    number: int
    state: str
    opened_at_ms: int
    since_ms: int
    """When it came into its state."""
    deadline_ms: int
    """By when somebody should have spoken to the customer."""
    until_ms: int
    """When a hold or a snooze ends at the latest."""
    cool_until_ms: int
    rank: int
    """Of the risk level, the last time it was judged."""
    cause: str
    hold: str = ""
    owner: str = ""
    reason: str = ""
    """What who acted last gave as the reason."""
    is_breached: bool = False
