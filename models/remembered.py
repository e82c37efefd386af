"""What a customer's state remembers one by one: steps of complaints, an answer, a lock, what was done about an alert.

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


class Lock(Struct, array_like=True, gc=False, frozen=True):
    """A tier pinned by hand."""

    since_ms: int
    reason: str
    actor: str


class AlertAction(Struct, array_like=True, gc=False, frozen=True):
    """What was last done about the customer's current alert."""

    at_ms: int
    action: str
    actor: str
    reason: str
