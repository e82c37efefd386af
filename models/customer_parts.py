"""The parts of a customer's state that are kept one by one: steps of complaints, an answer, a lock, an alert.

They are apart from `models.customer` because msgspec reads and writes these classes, so they are not compiled.
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
    """The latest event about a prospect; of two at the same instant the one with more marks counts."""

    at_ms: int
    marks: int
    """How many of money, authority and need the prospect has."""


class Region(Struct, array_like=True, gc=False, order=True, frozen=True):
    """The region in the latest event that names one; of two at the same instant the one later in the alphabet counts."""

    at_ms: int
    name: str


class Lock(Struct, array_like=True, gc=False, frozen=True):
    """A tier that somebody locked."""

    since_ms: int
    reason: str
    actor: str


class Alert(Struct, array_like=True, gc=False, frozen=True):
    """The customer's alert, open or the last one closed: see models.alerts. A time of -1 means none."""

    number: int
    state: str
    opened_at_ms: int
    since_ms: int
    """When it entered its state."""
    deadline_ms: int
    """By when somebody should have contacted the customer."""
    until_ms: int
    """When a hold or a snooze ends at the latest."""
    cool_until_ms: int
    rank: int
    """Rank of the risk level when the alert was last judged."""
    cause: str
    hold: str = ""
    owner: str = ""
    reason: str = ""
    """The reason given with the latest action."""
    is_breached: bool = False
