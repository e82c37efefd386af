"""The state of one customer, as a value: what is known (`Facts`), what was announced (`Standing`), and its bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from models import buckets

SCHEMA_VERSION: Final = 2
NEVER_MS: Final = 2**63 - 1
"""`due_at_ms` of a customer whom time alone will never make cross a line."""

RECENT_EVENTS: Final = 64
"""How many event ids a customer remembers: a repeat is recognised until 64 other events of the customer have come."""

MAX_COMPLAINT_STEPS: Final = 64
"""How many steps of complaints a customer keeps: the latest by time."""

BASE_LEVEL: Final = "none"
"""The risk level of a customer about whom there is no alert."""


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


class Facts(Struct, array_like=True, gc=False):
    """What is known of a customer: a function of the *set* of events, not of the order in which they came."""

    first_purchase_ms: int = -1
    last_purchase_ms: int = -1
    purchase_days: int = 0
    """Distinct UTC days with a purchase: x + 1 of the purchase process, refunds notwithstanding."""
    orders: int = 0
    spend_minor: int = 0
    """Lifetime orders and net spend."""
    buckets: bytes = buckets.EMPTY
    """What was bought by stretches of time (models.buckets)."""
    window_first: int = 0
    """The buckets with this number or a later one count at the customer's clock. What they add up to is kept, so that no
    event has to add them up:"""
    window_spend_minor: int = 0
    window_orders: int = 0
    window_refunded_minor: int = 0
    window_refunded_orders: int = 0
    """Of that, the spend and the orders of buckets with more refunds than purchases: not positive."""
    complaints: list[ComplaintStep] = []
    satisfaction: Satisfaction | None = None


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


class Standing(Struct, array_like=True, gc=False):
    """What was announced of a customer, and what it waits for. History: it is never unsaid."""

    tier: str
    tier_since_ms: int
    downgrade_at_ms: int = NEVER_MS
    """End of the grace period; NEVER_MS when the tier is not in danger."""
    lock: Lock | None = None
    risk_level: str = BASE_LEVEL
    risk_since_ms: int = 0
    last_alert_ms: int = -1
    alert_action: AlertAction | None = None


class Customer(Struct, array_like=True, gc=False):
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
    tier_due_ms: int = NEVER_MS
    """Until then time alone does not change the tier or its danger: the part of `due_at_ms` that is costly to find."""
    erased_at_ms: int = -1
    """When the customer's data was erased on request; what remains then is this, `seq` and the clock."""

    @property
    def revision(self) -> int:
        """Grows with every change of this customer, whether or not it was announced."""
        return self.events + self.seq


_HEADER = struct.Struct(">Bq")
_encode_body = msgspec.msgpack.Encoder().encode
_decode_body = msgspec.msgpack.Decoder(Customer).decode


def _from_1_to_2(body: list[Any]) -> list[Any]:
    """Buckets became bytes, and what counts in the window part of the facts; a bound of the tier alone was added."""
    due_at_ms, clock_ms, seq, events, recent, facts, standing, *erased = body
    first, last, days, orders, spend, listed, in_window, *rest = facts
    kept = buckets.packed(map(tuple, listed))
    window_first = in_window[0]
    facts = [first, last, days, orders, spend, kept, window_first, *buckets.total(kept, window_first, NEVER_MS), *rest]
    return [due_at_ms, clock_ms, seq, events, recent, facts, standing, due_at_ms, *erased]


UPCASTS: Final[dict[int, Callable[[list[Any]], list[Any]]]] = {1: _from_1_to_2}
"""Per older schema version, the named step that turns its decoded array into that of the next version."""


class StateError(ValueError):
    """Bytes that are not a customer of any known schema version."""


def encode(customer: Customer) -> bytes:
    """The bytes that are kept: schema version, `due_at_ms` (so that it can be read without decoding), then MessagePack."""
    return _HEADER.pack(SCHEMA_VERSION, customer.due_at_ms) + _encode_body(customer)


def decode(data: bytes) -> Customer:
    """The customer in `data`, of this schema version or an older one. Raises StateError.

    >>> from models.customer import Customer, Facts, Standing
    >>> someone = Customer(NEVER_MS, 0, 0, 0, b"", Facts(), Standing("none", 0))
    >>> decode(encode(someone)) == someone
    True
    """
    try:
        if data[0] == SCHEMA_VERSION:
            return _decode_body(memoryview(data)[_HEADER.size :])
        return _upcast(data)
    except (
        msgspec.MsgspecError,
        UnicodeDecodeError,
        RecursionError,
        IndexError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise StateError(f"not a customer's state: {error}") from error


def _upcast(data: bytes) -> Customer:
    version = data[0]
    body: list[Any] = msgspec.msgpack.decode(memoryview(data)[_HEADER.size :])
    while version != SCHEMA_VERSION:
        step = UPCASTS.get(version)
        if step is None:
            raise StateError(f"state has schema version {version}; this program knows up to {SCHEMA_VERSION}")
        body, version = step(body), version + 1
    return msgspec.convert(body, Customer)


def due_at_ms_of(data: bytes) -> int:
    """`due_at_ms` of an encoded customer, without decoding it."""
    due_at_ms: int = _HEADER.unpack_from(data)[1]
    return due_at_ms
