"""The state of one customer, as a value: what is known (`Facts`), what was announced (`Standing`), and its bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from models import buckets
from models.remembered import Alert, ComplaintStep, Lock, Prospecting, Region, Satisfaction

SCHEMA_VERSION: Final = 4
NEVER_MS: Final = 2**62 - 1
"""`due_at_ms` of a customer whom time alone will never make cross a line: later than anything, and as large as compiled
code can count without making an object of it.
"""

RECENT_EVENTS: Final = 64
"""How many event ids a customer remembers: a repeat is recognised until 64 other events of the customer have come."""

MAX_COMPLAINT_STEPS: Final = 64
"""How many steps of complaints a customer keeps: the latest by time."""

NO_SEQS: Final = (0, 0, 0, 0)

BASE_LEVEL: Final = "none"
"""The risk level of a customer about whom there is no alert."""


@dataclass(init=False, slots=True)
class Facts:
    """What is known of a customer: a function of the *set* of events, not of the order in which they came."""

    first_purchase_ms: int
    last_purchase_ms: int
    purchase_days: int
    """Distinct UTC days with a purchase: x + 1 of the purchase process, refunds notwithstanding."""
    orders: int
    spend_minor: int
    """Lifetime orders and net spend."""
    buckets: bytes
    """What was bought by stretches of time (models.buckets)."""
    window_first: int
    """The buckets with this number or a later one count at the customer's clock. What they add up to is kept, so that no
    event has to add them up:"""
    window_spend_minor: int
    window_orders: int
    window_refunded_minor: int
    window_refunded_orders: int
    """Of that, the spend and the orders of buckets with more refunds than purchases: not positive."""
    complaints: list[ComplaintStep]
    satisfaction: Satisfaction | None
    prospecting: Prospecting | None
    """None of who was never said to be a prospect."""
    last_day_minor: int
    """What was bought on the UTC day of the last purchase, refunds notwithstanding; 0 if it is not known."""
    region: Region | None
    """None of whom no event says where they are."""

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


@dataclass(init=False, slots=True)
class Standing:
    """What was announced of a customer, and what it waits for. History: it is never unsaid."""

    tier: str
    tier_since_ms: int
    downgrade_at_ms: int
    """End of the grace period; NEVER_MS when the tier is not in danger."""
    lock: Lock | None
    risk_level: str
    risk_since_ms: int
    last_alert_ms: int
    alert: Alert | None
    """Open, or the last one closed; None of who never had one."""
    stage: str
    """Of the life cycle (models.life); empty where the policy has none, or before the first purchase."""
    stage_since_ms: int
    behaviour: str
    qualification: str
    """What was announced of a prospect; empty of who never was one."""

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


@dataclass(init=False, slots=True)
class Customer:
    """A customer. `advance` and `apply` (models.fold) take one and give the next."""

    due_at_ms: int
    """Until then time alone does not make this customer cross a line. A bound that is quick to find; the instant itself is
    sought when the bound is reached (models.fold.next_change_ms)."""
    clock_ms: int
    """The latest instant at which something happened to this customer, an event or a line crossed."""
    seq: int
    """Outputs so far."""
    events: int
    """Events counted so far."""
    recent: bytes
    """Hashes of the latest RECENT_EVENTS event ids, eight bytes each."""
    facts: Facts
    standing: Standing
    tier_due_ms: int
    """Until then time alone does not change the tier or its danger: the part of `due_at_ms` that is costly to find."""
    erased_at_ms: int
    """When the customer's data was erased on request; what remains then is this, `seq` and the clock."""
    edition: int
    """Under which edition of the policy the customer was last judged (models.editions)."""
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
        """Grows with every change of this customer, whether or not it was announced."""
        return self.events + self.seq + self.edition


def copied(customer: Customer) -> Customer:
    """Another customer of whom the same is known."""
    return _customer(customer.due_at_ms, customer.edition, _fields(customer))


_Rare = tuple[
    int, list[ComplaintStep], Satisfaction | None, int, int, int, Lock | None, Alert | None, Prospecting | None, str
]  # fmt: skip
"""What most customers have nothing of: when they were erased, complaints, satisfaction, spend and orders of the window's
buckets with more refunds than purchases, when their tier is lost, lock, alert, having been a prospect.
"""

_Fields = tuple[
    int, int, int, bytes, int,
    int, int, int, int, int, bytes, int, int, int,
    str, int, str, int, int,
    int,
    tuple[str, int, str] | None,
    tuple[int, int, int, int] | None,
    Region | None,
    _Rare | None,
]  # fmt: skip
"""A customer, but for `due_at_ms` and `edition`, in one row: their own fields, their facts', their standing's, and what is rare."""


def _fields(customer: Customer) -> _Fields:
    facts, standing = customer.facts, customer.standing
    rare: _Rare | None = None
    if (
        facts.complaints
        or facts.satisfaction is not None
        or standing.downgrade_at_ms != NEVER_MS
        or facts.window_refunded_minor
        or facts.window_refunded_orders
        or standing.lock is not None
        or standing.alert is not None
        or customer.erased_at_ms >= 0
        or facts.prospecting is not None
    ):
        rare = (
            customer.erased_at_ms, facts.complaints, facts.satisfaction, facts.window_refunded_minor,
            facts.window_refunded_orders, standing.downgrade_at_ms, standing.lock, standing.alert,
            facts.prospecting, standing.qualification,
        )  # fmt: skip
    return (
        customer.clock_ms, customer.seq, customer.events, customer.recent,
        -1 if customer.tier_due_ms == NEVER_MS else customer.tier_due_ms,
        facts.first_purchase_ms, facts.last_purchase_ms, facts.purchase_days, facts.orders, facts.spend_minor,
        facts.buckets, facts.window_first, facts.window_spend_minor, facts.window_orders,
        standing.tier, standing.tier_since_ms, standing.risk_level, standing.risk_since_ms, standing.last_alert_ms,
        facts.last_day_minor,
        (standing.stage, standing.stage_since_ms, standing.behaviour) if standing.stage else None,
        customer.latest_seqs if customer.seq else None,
        facts.region,
        rare,
    )  # fmt: skip


def _customer(due_at_ms: int, edition: int, row: _Fields) -> Customer:
    facts = Facts(row[5], row[6], row[7], row[8], row[9], row[10], row[11], row[12], row[13], last_day_minor=row[19])
    standing = Standing(row[14], row[15], NEVER_MS, None, row[16], row[17], row[18])
    tier_due_ms = NEVER_MS if row[4] < 0 else row[4]
    customer = Customer(due_at_ms, row[0], row[1], row[2], row[3], facts, standing, tier_due_ms, -1, edition)
    life = row[20]
    if life is not None:
        standing.stage, standing.stage_since_ms, standing.behaviour = life
    if row[21] is not None:
        customer.latest_seqs = row[21]
    facts.region = row[22]
    rare = row[23]
    if rare is not None:
        customer.erased_at_ms, facts.complaints, facts.satisfaction = rare[0], rare[1], rare[2]
        facts.window_refunded_minor, facts.window_refunded_orders = rare[3], rare[4]
        standing.downgrade_at_ms, standing.lock, standing.alert = rare[5], rare[6], rare[7]
        facts.prospecting, standing.qualification = rare[8], rare[9]
    return customer


_pack_header: Final = struct.Struct(">BqH").pack
_HEADER_SIZE: Final = 11
_HEADER_SIZE_BEFORE_3: Final = 9
EDITIONS_SINCE: Final = 3
"""The schema version from which the header has the edition."""
_encode_fields: Final = msgspec.msgpack.Encoder().encode
_decode_fields: Final = msgspec.msgpack.Decoder(_Fields).decode


def _from_1_to_2(body: list[Any]) -> list[Any]:
    """Nested arrays became one row without `due_at_ms`, with what is rare apart; buckets bytes; NEVER_MS smaller or -1;
    a bound of the tier alone came.
    """
    due_at_ms, clock_ms, seq, events, recent, facts, standing, erased_at_ms = body
    first, last, days, orders, spend, listed, (window_first, *_), complaints, satisfaction = facts
    tier, tier_since_ms, downgrade_at_ms, lock, level, risk_since_ms, last_alert_ms, alert_action = standing
    kept = buckets.packed(map(tuple, listed))
    window_spend, window_orders, refunded_minor, refunded_orders = buckets.total(kept, window_first, NEVER_MS)
    return [
        clock_ms, seq, events, recent, -1 if due_at_ms >= NEVER_MS else due_at_ms,
        first, last, days, orders, spend, kept, window_first, window_spend, window_orders,
        tier, tier_since_ms, level, risk_since_ms, last_alert_ms,
        [
            erased_at_ms, complaints, satisfaction, refunded_minor, refunded_orders, min(downgrade_at_ms, NEVER_MS), lock,
            alert_action,
        ],
    ]  # fmt: skip


def _from_2_to_3(body: list[Any]) -> list[Any]:
    """What was bought on the last day came, which is not known until the next purchase; so did stage, behaviour and having been
    a prospect. The header has the edition.
    """
    rare = body[-1] and [*body[-1], None, ""]
    return [*body[:-1], 0, None, rare]


def _from_3_to_4(body: list[Any]) -> list[Any]:
    """The latest `seq` of each topic came: the next output of each names none before it. So did the region, and the ledger of
    alerts, which begins with the next one; the note of what was last done about one went.
    """
    rare = body[-1]
    if rare is not None:
        rare = [*rare[:7], None, *rare[8:]]
    return [*body[:-1], None, None, rare]


UPCASTS: Final[dict[int, Callable[[list[Any]], list[Any]]]] = {1: _from_1_to_2, 2: _from_2_to_3, 3: _from_3_to_4}
"""Per older schema version, the named step that turns its decoded array into that of the next version."""


class StateError(ValueError):
    """Bytes that are not a customer of any known schema version."""


def encode(customer: Customer) -> bytes:
    """The bytes that are kept: schema version, `due_at_ms` and `edition` (which are read without decoding), then MessagePack."""
    body: bytes = _encode_fields(_fields(customer))
    header: bytes = _pack_header(SCHEMA_VERSION, customer.due_at_ms, customer.edition)
    return header + body


def decode(data: bytes) -> Customer:
    """The customer in `data`, of this schema version or an older one. Raises StateError.

    >>> from models.customer import Customer, Facts, Standing
    >>> someone = Customer(NEVER_MS, 0, 0, 0, b"", Facts(), Standing("none", 0))
    >>> decode(encode(someone)) == someone
    True
    """
    try:
        if data[0] == SCHEMA_VERSION:
            return _customer(due_at_ms_of(data), edition_of(data), _decode_fields(data[_HEADER_SIZE:]))
        header_size = _HEADER_SIZE if data[0] >= EDITIONS_SINCE else _HEADER_SIZE_BEFORE_3
        return _customer(due_at_ms_of(data), edition_of(data), _upcast(data[0], data[header_size:]))
    except (msgspec.MsgspecError, RecursionError, IndexError, TypeError, ValueError) as error:
        raise StateError(f"not a customer's state: {error}") from error


def _upcast(version: int, data: bytes) -> _Fields:
    if version not in UPCASTS:
        raise StateError(f"state has schema version {version}; this program knows up to {SCHEMA_VERSION}")
    body: list[Any] = msgspec.msgpack.decode(data)
    while version != SCHEMA_VERSION:
        body, version = UPCASTS[version](body), version + 1
    row: _Fields = msgspec.convert(body, _Fields)
    return row


def edition_of(data: bytes) -> int:
    """`edition` of an encoded customer, without decoding it."""
    return data[9] << 8 | data[10] if data[0] >= EDITIONS_SINCE else 0


def due_at_ms_of(data: bytes) -> int:
    """`due_at_ms` of an encoded customer, without decoding it."""
    # Byte by byte: compiled, that is the quickest.
    high = data[1] << 24 | data[2] << 16 | data[3] << 8 | data[4]
    low = data[5] << 24 | data[6] << 16 | data[7] << 8 | data[8]
    due_at_ms = high << 32 | low
    # It was larger in version 1.
    return due_at_ms if due_at_ms < NEVER_MS else NEVER_MS
