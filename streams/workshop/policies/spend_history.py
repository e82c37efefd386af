"""Reads what customers spent from a log, in one pass: by currency, customer and hour, over the last three years of each
customer.

Purchases are stored in buckets, as the fold stores them (models.buckets), so the spend in any window at any instant can
be computed afterwards. Memory grows with the number of customers, not with the log.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from models import buckets, units
from models.customer import Facts
from models.events import Decoder, Event, Rejected
from models.facts import Window, book_purchase, book_refund
from streams.sources.logs import Log, LogError
from streams.sources.progress import progress_over

KEPT_MS: Final = 3 * 366 * units.DAY_MS
"""Long enough to simulate a year of tiers that last until the end of the year after that in which they were earned."""
KEEPING: Final = Window("trailing", KEPT_MS, units.HOUR_MS, 0, KEPT_MS)
NOT_A_PURCHASE: Final = Rejected("not_a_purchase", "only purchases and refunds are read")
YEAR_MS: Final = 365 * units.DAY_MS


@dataclass
class Spend:
    """What customers spent in one currency."""

    customers: dict[bytes, Facts] = field(default_factory=dict)
    purchases: int = 0
    begins_ms: int = 2**62
    ends_ms: int = -1

    def add(self, event: Event) -> None:
        """Count a purchase or refund."""
        at_ms = event.occurred_at_ms
        facts = self.customers.get(event.key)
        if facts is None:
            facts = self.customers[event.key] = Facts()
        clock_ms = max(at_ms, facts.last_purchase_ms)
        if event.is_refund:
            book_refund(facts, KEEPING, event.booked_at_ms, event.amount_minor, event.is_full, clock_ms)
        else:
            book_purchase(facts, KEEPING, at_ms, event.amount_minor, clock_ms)
            self.purchases += 1
        self.begins_ms, self.ends_ms = min(self.begins_ms, at_ms), max(self.ends_ms, at_ms)

    def as_of_ms(self, window: Window) -> int:
        """The instant at which to measure a window: the end of the log; of calendar years, the end of the year that the
        log covers better.
        """
        if window.kind != "calendar-year":
            return self.ends_ms
        start_ms = window.period(Facts(), self.ends_ms)[0]
        before_ms = start_ms - max(window.period(Facts(), start_ms - 1)[0], self.begins_ms)
        return self.ends_ms if self.ends_ms - start_ms + units.DAY_MS >= before_ms else start_ms - 1

    def in_window(self, window: Window) -> list[int]:
        """The spend of each customer with an order in the window, ascending."""
        as_of_ms = self.as_of_ms(window)
        return sorted(
            spend
            for spend, orders in (spend_and_orders(facts, window, as_of_ms) for facts in self.customers.values())
            if orders > 0
        )


def spend_and_orders(facts: Facts, window: Window, at_ms: int) -> tuple[int, int]:
    """Net spend and orders in a window at an instant; of anniversary years, in the last complete one if one exists."""
    if window.kind == "anniversary-year":
        start_ms = window.period(facts, at_ms)[0]
        at_ms = start_ms - 1 if start_ms > facts.first_purchase_ms else at_ms
    width_ms = window.bucket_ms
    spend, orders, _, _ = buckets.total(facts.buckets, window.first_number(facts, at_ms), at_ms // width_ms + 1)
    return spend, orders


class _Currency(msgspec.Struct):
    currency: str = ""


_decode_currency = msgspec.json.Decoder(_Currency).decode


class AnyCurrency:
    """A decoder of purchases in any currency."""

    def __init__(self) -> None:
        self._decoders: dict[str, Decoder] = {}

    def decode(
        self, topic: str, value: bytes | None, key: bytes | None = None, timestamp_ms: int | None = None
    ) -> Event | Rejected:
        """As `Decoder.decode`, but NOT_A_PURCHASE for records of other topics."""
        if topic != "purchases":
            return NOT_A_PURCHASE
        currency = _currency_of(value)
        if currency not in self._decoders:
            if not re.fullmatch("[A-Z]{3}", currency):
                return Rejected("unknown_currency", f"{currency[:20]!r} is not a currency")
            self._decoders[currency] = Decoder({currency: (1, 1)})
        return self._decoders[currency].decode(topic, value, key, timestamp_ms)


def _currency_of(value: bytes | None) -> str:
    """The currency of a record; empty if it has none."""
    try:
        return _decode_currency(value or b"").currency
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


def read_spend(logs: Sequence[Log], shown: bool) -> tuple[dict[str, Spend], int]:
    """The spend by currency, the one with the most purchases first; and the number of records that could not be used.

    Raises LogError if there is no purchase.
    """
    found: dict[str, Spend] = {}
    unusable, decoder = 0, AnyCurrency()
    with progress_over(logs, shown, "reading") as reading:
        for log in logs:
            for stream in log.streams(decoder, reading.on_bytes):
                for record in stream:
                    if isinstance(record.decoded, Event):
                        found.setdefault(_currency_of(record.value), Spend()).add(record.decoded)
                    else:
                        unusable += record.decoded is not NOT_A_PURCHASE
    found = {name: one for name, one in found.items() if one.purchases}
    if not found:
        raise LogError("there is no purchase in the log: is it the log that you meant?")
    return dict(sorted(found.items(), key=lambda item: -item[1].purchases)), unusable
