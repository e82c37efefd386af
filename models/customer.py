"""One customer, as a value: what is known (`Facts`) and what was announced (`Standing`). models.state encodes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mypy_extensions import mypyc_attr

from models.customer_parts import Alert, ComplaintStep, Lock, Prospecting, Region, Satisfaction

NEVER_MS: Final = 2**62 - 1
"""`due_at_ms` of a customer for whom time alone never changes anything: later than every instant, and the largest
number that compiled code handles without allocating an object.
"""

RECENT_EVENTS: Final = 64
"""How many event ids a customer's state holds: a repeat is recognised until 64 other events of the customer were
folded.
"""

MAX_COMPLAINT_STEPS: Final = 64
"""How many steps of complaints a customer's state holds: the latest by time."""

NO_SEQS: Final = (0, 0, 0, 0)

BASE_LEVEL: Final = "none"
"""The risk level below all levels of the policy."""


@mypyc_attr(acyclic=True)
@dataclass(init=False, slots=True)
class Facts:
    """What is known about a customer: a function of the *set* of events, not of the order in which they arrived."""

    first_purchase_ms: int
    last_purchase_ms: int
    purchase_days: int
    """Distinct UTC days with a purchase, whether refunded or not: x + 1 of the purchase process."""
    orders: int
    spend_minor: int
    """Lifetime orders and net spend."""
    buckets: bytes
    """Purchases summed by time bucket (models.buckets)."""
    window_first: int
    """At the customer's clock the window begins with the bucket of this number. The next four fields hold the window's
    sums, so that no event has to add buckets up.
    """
    window_spend_minor: int
    window_orders: int
    window_refunded_minor: int
    window_refunded_orders: int
    """Of these, the spend and the orders of buckets with more refunds than purchases: not positive."""
    complaints: list[ComplaintStep]
    satisfaction: Satisfaction | None
    prospecting: Prospecting | None
    """None for a customer whom no event called a prospect."""
    last_day_minor: int
    """Spend on the UTC day of the last purchase, refunds not deducted; 0 if it is not known."""
    region: Region | None
    """None if no event named a region."""

    def __init__(
        self,
        first_purchase_ms: int = -1,
        last_purchase_ms: int = -1,
        purchase_days: int = 0,
        orders: int = 0,
        spend_minor: int = 0,
        buckets: bytes = b"",
        window_first: int = 0,
        window_spend_minor: int = 0,
        window_orders: int = 0,
        window_refunded_minor: int = 0,
        window_refunded_orders: int = 0,
        complaints: list[ComplaintStep] | None = None,
        satisfaction: Satisfaction | None = None,
        last_day_minor: int = 0,
        prospecting: Prospecting | None = None,
        region: Region | None = None,
    ) -> None:
        self.first_purchase_ms = first_purchase_ms
        self.last_purchase_ms = last_purchase_ms
        self.purchase_days = purchase_days
        self.orders = orders
        self.spend_minor = spend_minor
        self.buckets = buckets
        self.window_first = window_first
        self.window_spend_minor = window_spend_minor
        self.window_orders = window_orders
        self.window_refunded_minor = window_refunded_minor
        self.window_refunded_orders = window_refunded_orders
        self.complaints = [] if complaints is None else complaints
        self.satisfaction = satisfaction
        self.last_day_minor = last_day_minor
        self.prospecting = prospecting
        self.region = region


@mypyc_attr(acyclic=True)
@dataclass(init=False, slots=True)
class Standing:
    """What was announced about a customer, and which changes are pending. Later events add to it and never take it
    back.
    """

    tier: str
    tier_since_ms: int
    downgrade_at_ms: int
    """End of the grace period; NEVER_MS when the tier is not in danger."""
    lock: Lock | None
    risk_level: str
    risk_since_ms: int
    last_alert_ms: int
    alert: Alert | None
    """The open alert, or the last one closed; None if there never was one."""
    stage: str
    """Of the life cycle (models.life); empty if the policy has none, or before the first purchase."""
    stage_since_ms: int
    behaviour: str
    qualification: str
    """The qualification last announced; empty for a customer who never was a prospect."""

    def __init__(
        self,
        tier: str,
        tier_since_ms: int,
        downgrade_at_ms: int = NEVER_MS,
        lock: Lock | None = None,
        risk_level: str = BASE_LEVEL,
        risk_since_ms: int = 0,
        last_alert_ms: int = -1,
        alert: Alert | None = None,
        stage: str = "",
        stage_since_ms: int = 0,
        behaviour: str = "",
        qualification: str = "",
    ) -> None:
        self.tier = tier
        self.tier_since_ms = tier_since_ms
        self.downgrade_at_ms = downgrade_at_ms
        self.lock = lock
        self.risk_level = risk_level
        self.risk_since_ms = risk_since_ms
        self.last_alert_ms = last_alert_ms
        self.alert = alert
        self.stage = stage
        self.stage_since_ms = stage_since_ms
        self.behaviour = behaviour
        self.qualification = qualification


@mypyc_attr(acyclic=True)
@dataclass(init=False, slots=True)
class Customer:
    """A customer. `advance` and `apply` (models.fold) take one and return the next."""

    due_at_ms: int
    """Time alone changes nothing about this customer before then. A lower bound that is cheap to compute; the exact
    instant is computed when the bound is reached (models.fold.next_change_ms).
    """
    clock_ms: int
    """The latest instant at which something happened to this customer: an event, or a change by time alone."""
    seq: int
    """How many outputs there were so far."""
    events: int
    """How many events were folded so far."""
    recent: bytes
    """Hashes of the latest RECENT_EVENTS event ids, eight bytes each."""
    facts: Facts
    standing: Standing
    tier_due_ms: int
    """Time alone neither changes the tier nor schedules or averts its loss before then: the part of `due_at_ms` that is
    expensive to compute.
    """
    erased_at_ms: int
    """When the customer's data was erased on request, -1 if never; an erasure keeps only this, `seq` and the clock."""
    edition: int
    """The edition of the policy under which the customer was last judged (models.policy.editions)."""
    latest_seqs: tuple[int, int, int, int]
    """`seq` of the latest output on each topic, in the order of models.outputs.ANNOUNCEMENTS."""

    def __init__(
        self,
        due_at_ms: int,
        clock_ms: int,
        seq: int,
        events: int,
        recent: bytes,
        facts: Facts,
        standing: Standing,
        tier_due_ms: int = NEVER_MS,
        erased_at_ms: int = -1,
        edition: int = 0,
        latest_seqs: tuple[int, int, int, int] = NO_SEQS,
    ) -> None:
        self.due_at_ms = due_at_ms
        self.clock_ms = clock_ms
        self.seq = seq
        self.events = events
        self.recent = recent
        self.facts = facts
        self.standing = standing
        self.tier_due_ms = tier_due_ms
        self.erased_at_ms = erased_at_ms
        self.edition = edition
        self.latest_seqs = latest_seqs

    @property
    def revision(self) -> int:
        """A number that grows with every change of this customer, announced or not."""
        return self.events + self.seq + self.edition


def copied(customer: Customer) -> Customer:
    """An equal customer that can be changed on its own."""
    facts, standing = customer.facts, customer.standing
    return Customer(
        customer.due_at_ms, customer.clock_ms, customer.seq, customer.events, customer.recent,
        Facts(
            facts.first_purchase_ms, facts.last_purchase_ms, facts.purchase_days, facts.orders, facts.spend_minor, facts.buckets,
            facts.window_first, facts.window_spend_minor, facts.window_orders, facts.window_refunded_minor,
            facts.window_refunded_orders, facts.complaints, facts.satisfaction, facts.last_day_minor, facts.prospecting,
            facts.region,
        ),
        Standing(
            standing.tier, standing.tier_since_ms, standing.downgrade_at_ms, standing.lock, standing.risk_level,
            standing.risk_since_ms, standing.last_alert_ms, standing.alert, standing.stage, standing.stage_since_ms,
            standing.behaviour, standing.qualification,
        ),
        customer.tier_due_ms, customer.erased_at_ms, customer.edition, customer.latest_seqs,
    )  # fmt: skip
