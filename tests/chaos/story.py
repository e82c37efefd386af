"""A random event log that counts what it writes: the records, which of them are invalid, what each customer bought.

It shares no code with `models`.
"""

from __future__ import annotations

import json
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import accumulate
from typing import Any, NamedTuple

SECOND_MS, HOUR_MS, DAY_MS = 1_000, 3_600_000, 86_400_000
TIERS = ("bronze", "silver", "gold")
YUAN_PER_DOLLAR = Decimal("7.10")
"""Tiers and rate are those of policy.toml."""

REPEATED_WITHIN_EVENTS = 20
"""How late a record may be repeated. Workers keep the last 64 event ids of a customer, and topics may be read at
different speeds, so it is well below 64.
"""

REPEATED, INVALID, LATE, VERY_LATE = 0.02, 0.01, 0.05, 0.005
KINDS = {"purchase": 72, "refund": 6, "complaint": 11, "feedback": 8, "alert": 2, "tier": 0.6, "erase": 0.1}
UNLOCK_KINDS = KINDS | {"tier": 20}
"""For a locked customer an unlock is likely: while the lock lasts their tier does not move."""

STEPS = {
    "": ("opened",),
    "opened": ("escalated", "resolved"),
    "escalated": ("resolved",),
    "resolved": ("reopened", "reopened", ""),
    "reopened": ("escalated", "resolved"),
}
"""By a complaint's status, those that may follow. "" stands for no complaint: the next one is opened."""

Body = dict[str, Any]


class Record(NamedTuple):
    """A record to produce."""

    topic: str
    key: bytes
    value: bytes


class Facts(NamedTuple):
    """What a customer has bought so far; the times are None without a purchase."""

    orders: int
    spend_minor: int
    first_purchase_ms: int | None
    last_purchase_ms: int | None


class Bought(NamedTuple):
    """An order that may still be refunded."""

    order_id: str
    yuan_or_dollars: Decimal
    currency: str
    at_ms: int


@dataclass
class Customer:
    """A customer, and what they have bought so far."""

    id: str
    orders: int = 0
    spend_minor: int = 0
    purchases_ms: tuple[int, int] | None = None
    """The times of the first and the last purchase."""
    bought: deque[Bought] = field(default_factory=lambda: deque(maxlen=10))
    complaint: Body | None = None
    is_locked: bool = False
    sent: deque[Record] = field(default_factory=lambda: deque(maxlen=REPEATED_WITHIN_EVENTS))
    """The latest records, of which one may be sent again."""

    def spend(self, amount: Decimal, currency: str) -> None:
        """Add to the spend, in fen."""
        yuan = amount * (YUAN_PER_DOLLAR if currency == "USD" else 1)
        self.spend_minor += int((yuan * 100).quantize(Decimal(1), ROUND_HALF_EVEN))


class Story:
    """The log, which depends on nothing but the seed and the times that callers give."""

    def __init__(self, seed: int, customers: int = 1_000) -> None:
        self._random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        """Records by topic, invalid ones and repeats included."""
        self.invalid: Counter[tuple[str, bytes]] = Counter()
        """How often each record that has to be rejected was produced, by topic and value."""
        self.kinds: Counter[str] = Counter()
        """Events by kind, to check that every kind occurs."""
        self._known: dict[str, Customer] = {}
        self._erased: set[str] = set()
        self._numbers = iter(range(1, 2**62))
        self._customers = [self._new_customer() for _ in range(customers)]
        # Like Zipf's law, but without a customer who has more than 64 events during an outage.
        self._cumulative_weights = list(accumulate(1 / (rank + 10) for rank in range(customers)))

    # ------------------------------------------------------------ what it counts
    @property
    def total(self) -> int:
        """Records so far."""
        return self.counts.total()

    @property
    def erased(self) -> frozenset[str]:
        """The erased customers: no state may hold anything about them."""
        return frozenset(self._erased)

    def facts(self) -> dict[str, Facts]:
        """The facts of each customer that has a valid event and was not erased."""
        return {
            one.id: Facts(one.orders, one.spend_minor, *(one.purchases_ms or (None, None)))
            for one in self._known.values()
            if one.id not in self._erased
        }

    # ------------------------------------------------------------ records
    def records(self, count: int, now_ms: int, since_ms: int | None = None) -> list[Record]:
        """The next records; those in order happened between `since_ms` (default: 100 ms ago) and now."""
        since_ms = now_ms - 100 if since_ms is None else since_ms
        times = sorted(self._random.randint(min(since_ms, now_ms), now_ms) for _ in range(count))
        return [self._record(at_ms, now_ms) for at_ms in times]

    def _record(self, at_ms: int, now_ms: int) -> Record:
        chance = self._random
        [place] = chance.choices(range(len(self._customers)), cum_weights=self._cumulative_weights)
        customer = self._customers[place]
        draw = chance.random()
        if draw < REPEATED and customer.sent:
            self.kinds["repeat"] += 1
            record = chance.choice(customer.sent)
        elif draw < REPEATED + INVALID:
            self.kinds["invalid"] += 1
            record = self._invalid_record(customer, at_ms)
            self.invalid[record.topic, record.value] += 1
        else:
            record = self._event(customer, place, at_ms, now_ms)
        self.counts[record.topic] += 1
        return record

    def _event(self, customer: Customer, place: int, at_ms: int, now_ms: int) -> Record:
        chance = self._random
        kinds = UNLOCK_KINDS if customer.is_locked else KINDS
        [kind] = chance.choices(list(kinds), list(kinds.values()))
        if kind == "erase":
            # The customer has no event after this one; a new customer takes their place.
            self._erased.add(customer.id)
            self._customers[place] = self._new_customer()
            topic, body = "commands", {"command": "erase", "occurred_at": self._time_text(now_ms)}
        else:
            at_ms = self._perhaps_late(at_ms)
            topic, body = getattr(self, f"_{kind}")(customer, at_ms)
            body["occurred_at"] = self._time_text(at_ms)
        self.kinds[body.get("command") or body.get("status") or kind] += 1
        self._known[customer.id] = customer
        record = self._encode(topic, customer, body)
        customer.sent.append(record)
        return record

    def _perhaps_late(self, at_ms: int) -> int:
        chance = self._random
        draw = chance.random()
        if draw < VERY_LATE:
            # Often on another day, so that purchases of today have a rhythm to be measured against.
            return at_ms - chance.randint(HOUR_MS, 40 * HOUR_MS)
        return at_ms - chance.randint(1, 60 * SECOND_MS) if draw < LATE else at_ms

    def _new_customer(self) -> Customer:
        return Customer(f"c{next(self._numbers)}")

    # ------------------------------------------------------------ events
    def _purchase(self, customer: Customer, at_ms: int) -> tuple[str, Body]:
        chance = self._random
        amount = Decimal(chance.choice((0, 99, 1250, 2933, chance.randint(1, 200_000)))) / 100
        bought = Bought(f"o{next(self._numbers)}", amount, chance.choice(("CNY",) * 9 + ("USD",)), at_ms)
        customer.bought.append(bought)
        customer.orders += 1
        customer.spend(amount, bought.currency)
        first_ms, last_ms = customer.purchases_ms or (at_ms, at_ms)
        customer.purchases_ms = min(first_ms, at_ms), max(last_ms, at_ms)
        return "purchases", {"kind": "purchase", **self._paid(bought, amount), "channel": chance.choice(("web", None))}

    def _refund(self, customer: Customer, at_ms: int) -> tuple[str, Body]:
        chance = self._random
        earlier = [one for one in customer.bought if one.at_ms <= at_ms]
        if not earlier:
            return self._purchase(customer, at_ms)
        bought = chance.choice(earlier)
        customer.bought.remove(bought)
        is_full = chance.random() < 0.6
        share = 1 if is_full else Decimal(chance.randint(1, 99)) / 100
        amount = (bought.yuan_or_dollars * share).quantize(Decimal("0.01"))
        customer.orders -= is_full
        customer.spend(-amount, bought.currency)
        body = {"kind": "refund", **self._paid(bought, amount), "full_order": is_full}
        if chance.random() < 0.7:
            body["original_occurred_at"] = self._time_text(bought.at_ms)
        return "purchases", body

    def _paid(self, bought: Bought, amount: Decimal) -> Body:
        number = self._random.choice((str(amount), f"{amount:.2f}", float(amount)))
        return {"order_id": bought.order_id, "amount": number, "currency": bought.currency}

    def _complaint(self, customer: Customer, at_ms: int) -> tuple[str, Body]:
        chance = self._random
        status = chance.choice(STEPS[customer.complaint["status"] if customer.complaint else ""])
        if not status or not customer.complaint:
            status = "opened"
            severity = chance.choice(("low", "medium", "high", "critical"))
            customer.complaint = {"complaint_id": f"k{next(self._numbers)}", "severity": severity}
        customer.complaint["status"] = status
        body = customer.complaint | {"category": chance.choice(("delivery", "billing", None))}
        if status == "resolved" and chance.random() < 0.5:
            body["satisfaction"] = chance.randint(0, 100)
        return "complaints", body

    def _feedback(self, customer: Customer, at_ms: int) -> tuple[str, Body]:
        return "feedback", {"score": self._random.randint(0, 100), "kind": self._random.choice(("csat", "nps"))}

    def _alert(self, customer: Customer, at_ms: int) -> tuple[str, Body]:
        chance = self._random
        action = chance.choice(
            (
                "acknowledged",
                "acknowledged",
                "contacted",
                "snoozed",
                "released",
                "released",
                "saved",
                "lost",
                "dismissed",
            )
        )
        body = {
            "command": "act_on_alert",
            "action": action,
            "reason": "spoke to them",
            "actor": chance.choice(("kim", "mia")),
        }
        if action == "snoozed":
            body["until"] = self._time_text(at_ms + chance.randint(SECOND_MS, 40 * HOUR_MS))
        return "commands", body

    def _tier(self, customer: Customer, at_ms: int) -> tuple[str, Body]:
        customer.is_locked = not customer.is_locked
        if customer.is_locked:
            return "commands", {"command": "lock_tier", "tier": self._random.choice(TIERS), "reason": "a promise"}
        return "commands", {"command": "unlock_tier", "reason": "kept", "actor": "kim"}

    # ------------------------------------------------------------ bytes
    def _encode(self, topic: str, customer: Customer, body: Body) -> Record:
        whole = {"event_id": f"e{next(self._numbers)}", "customer_id": customer.id, **body}
        present = {name: value for name, value in whole.items() if value is not None}
        return Record(topic, customer.id.encode(), json.dumps(present).encode())

    def _time_text(self, at_ms: int) -> str | int:
        """A time in one of the forms that inputs may have."""
        draw = self._random.random()
        if draw < 0.1:
            return at_ms
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
        if draw < 0.2:
            hour = (at + timedelta(hours=8)).isoformat(timespec="milliseconds")
            return hour.replace("+00:00", "+08:00")
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _invalid_record(self, customer: Customer, at_ms: int) -> Record:
        """A record that has to be rejected, whatever the customer's state is; it is spoiled in one of WAYS_TO_SPOIL."""
        topic, body = self._random.choice((
            ("purchases", {"kind": "purchase", "order_id": "o", "amount": "1.00", "currency": "CNY"}),
            ("complaints", {"complaint_id": "k", "status": "opened", "severity": "low"}),
            ("feedback", {"score": 50, "kind": "csat"}),
            ("commands", {"command": "lock_tier", "tier": "gold", "reason": "because"}),
        ))  # fmt: skip
        good = self._encode(topic, customer, body | {"occurred_at": at_ms})
        return Record(topic, *self._random.choice(WAYS_TO_SPOIL)(good))


# ---------------------------------------------------------------- invalid records
def _with(**changed: Any) -> Callable[[Record], tuple[bytes, bytes]]:
    """A function that returns key and value of the event with some fields changed, and without those that are None."""

    def spoil(good: Record) -> tuple[bytes, bytes]:
        body = json.loads(good.value) | changed
        return good.key, json.dumps({name: value for name, value in body.items() if value is not None}).encode()

    return spoil


# Amounts and currencies belong to purchases only, so these fields turn any event into a purchase; in another topic it
# lacks fields.
_PURCHASE = {"kind": "purchase", "order_id": "o", "amount": "1.00", "currency": "CNY"}

WAYS_TO_SPOIL: tuple[Callable[[Record], tuple[bytes, bytes]], ...] = (
    lambda good: (good.key, good.value[:-3]),
    lambda good: (good.key, b"not json, " + good.value),
    lambda good: (good.key, b"[" + good.value + b"]"),
    lambda good: (good.key, b""),
    lambda good: (good.key, good.value.replace(b'"event_id": "', b'"event_id": "\xff\xfe')),
    lambda good: (good.key, good.value[:-1] + b', "deep": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
    lambda good: (good.key, b'{"deep": ' * 5_000 + good.value),
    lambda good: (b"someone-else", good.value),
    _with(customer_id=None),
    _with(occurred_at=None),
    _with(event_id=17),
    _with(event_id=""),
    _with(occurred_at="yesterday"),
    _with(occurred_at="2099-06-01T12:00:00Z"),
    _with(kind="gift", score="high", status="forgotten", command="dance"),
    _with(score=101, severity="mortal", tier="diamond", amount="-1.00"),
    _with(**_PURCHASE | {"currency": "DEM"}, score=None, severity=None, reason=None),
    _with(**_PURCHASE | {"amount": "-29.33"}, score=-1, complaint_id=None, tier=None),
    _with(**_PURCHASE | {"amount": "1.005"}, score=None, status=None, tier=None),
)
"""Each returns key and value of an invalid record made from a valid one. The bytes of no two are equal, as they have the
event's id in them; only the empty value repeats. Where a field belongs to one topic only, fields of the other topics are
spoiled in the same call.
"""
