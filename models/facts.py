"""How events change a customer's facts, and what the facts amount to in the policy's window.

Every change here commutes with every other, and data is dropped by its own time, never by the order of arrival. That is
why the same set of events gives the same facts in any order.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Final, Literal

from mypy_extensions import i64, mypyc_attr

from models import buckets, units
from models.buckets import Total
from models.customer import MAX_COMPLAINT_STEPS, NEVER_MS, Facts
from models.customer_parts import ComplaintStep, Prospecting, Region, Satisfaction

MAX_SUM_MINOR: Final = 2**63 - 1
"""The largest sum: sums are stored in 64 bits."""

WindowKind = Literal["trailing", "calendar-year", "anniversary-year"]


@dataclass(frozen=True, slots=True)
class Window:
    """Which purchases count towards a tier, and for how long they are kept.

    A bucket starting at s is in a trailing window at t while s <= t < s + length_ms. In a year's window it
    is while s and t lie in the same year: the calendar's, or the one that begins on the anniversary of the
    first purchase, both at midnight at `utc_offset_ms`. `bucket_ms` divides a day and `utc_offset_ms`, so no
    bucket straddles a day or a year.
    """

    kind: WindowKind
    length_ms: int
    bucket_ms: int
    utc_offset_ms: int
    lateness_ms: int
    """How much older than the customer's clock an event may be before it is rejected."""
    remember_ms: int = 0
    """How long buckets are kept at least, so that an earlier policy can be restored."""
    keep_ms: int = field(init=False)
    """How long a bucket is kept after its start: while it counts, and while a late purchase on its day is accepted."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep_ms", max(self.length_ms, self.lateness_ms + units.DAY_MS, self.remember_ms))

    def first_number(self, facts: Facts, at_ms: int) -> int:
        """The number of the earliest bucket that counts at `at_ms`."""
        if self.kind == "trailing":
            return int((i64(at_ms) - self.length_ms) // i64(self.bucket_ms) + 1)
        return self.period(facts, at_ms)[0] // self.bucket_ms

    def end_ms(self, facts: Facts, at_ms: int) -> int:
        """When the year's window that holds `at_ms` ends; NEVER_MS for a trailing one."""
        return NEVER_MS if self.kind == "trailing" else self.period(facts, at_ms)[1]

    def period(self, facts: Facts, at_ms: int) -> tuple[int, int]:
        """The year's window that holds `at_ms`: its start, and the instant at which it ends and all its buckets leave."""
        local_day = (at_ms + self.utc_offset_ms) // units.DAY_MS
        month, day = 1, 1
        if self.kind == "anniversary-year" and facts.first_purchase_ms >= 0:
            month, day = _month_and_day((facts.first_purchase_ms + self.utc_offset_ms) // units.DAY_MS)
        start_day, end_day = _year(local_day, month, day)
        return start_day * units.DAY_MS - self.utc_offset_ms, end_day * units.DAY_MS - self.utc_offset_ms


@lru_cache(maxsize=4096)
def _month_and_day(day_number: int) -> tuple[int, int]:
    """Month and day of the anniversary of a day; of 29 February it is the 28th."""
    first = units.EPOCH + timedelta(days=day_number)
    return first.month, min(first.day, 28) if first.month == 2 else first.day


@lru_cache(maxsize=4096)
def _year(day_number: int, month: int, day: int) -> tuple[int, int]:
    """The year that begins on month and day and holds a day: its first day, and the first of the next, from the epoch."""
    at = units.EPOCH + timedelta(days=day_number)
    start = at.replace(month=month, day=day)
    if start > at:
        start = start.replace(year=start.year - 1)
    return (start - units.EPOCH).days, (start.replace(year=start.year + 1) - units.EPOCH).days


def book_purchase(facts: Facts, window: Window, at_ms: int, amount_minor: int, clock_ms: int) -> None:
    """Count one purchase. `clock_ms` is the customer's clock, at or after `at_ms`."""
    at = i64(at_ms)
    bucket_ms = i64(window.bucket_ms)
    number = at // bucket_ms
    day = at // units.DAY_MS
    day_first = day * units.DAY_MS // bucket_ms
    buckets_a_day = units.DAY_MS // bucket_ms
    if not buckets.has_purchase(facts.buckets, day_first, day_first + buckets_a_day):
        facts.purchase_days += 1
    facts.orders += 1
    facts.spend_minor += amount_minor
    last_day = i64(facts.last_purchase_ms) // units.DAY_MS
    if day >= last_day:
        facts.last_day_minor = amount_minor if day > last_day else facts.last_day_minor + amount_minor
    facts.last_purchase_ms = max(facts.last_purchase_ms, at_ms)
    if facts.first_purchase_ms < 0 or at_ms < facts.first_purchase_ms:
        facts.first_purchase_ms = at_ms
    _book(facts, number, 1, 1, amount_minor)
    if at_ms < clock_ms or facts.first_purchase_ms == at_ms:
        # A late purchase may already be outside the window; a first purchase moves the anniversary.
        slide(facts, window, clock_ms)


def book_refund(facts: Facts, window: Window, booked_at_ms: int, amount_minor: int, full: bool, clock_ms: int) -> None:
    """Take back `amount_minor` in the bucket of `booked_at_ms`, and the order itself where the refund is `full`."""
    facts.orders -= full
    facts.spend_minor -= amount_minor
    _book(facts, booked_at_ms // window.bucket_ms, 0, -int(full), -amount_minor)
    slide(facts, window, clock_ms)


def would_overflow(facts: Facts, window: Window, booked_at_ms: int, amount_minor: int) -> bool:
    """Whether a sum would no longer fit into 64 bits."""
    in_bucket = int(buckets.at(facts.buckets, booked_at_ms // window.bucket_ms)[3])
    largest = max(abs(facts.spend_minor), abs(facts.window_spend_minor), abs(in_bucket), facts.last_day_minor)
    return largest + amount_minor > MAX_SUM_MINOR


def book_complaint(facts: Facts, step: ComplaintStep) -> None:
    """Add one step of a complaint; the same step twice is one. Only the latest MAX_COMPLAINT_STEPS are kept."""
    if step not in facts.complaints:
        facts.complaints = sorted([*facts.complaints, step])[-MAX_COMPLAINT_STEPS:]


def book_satisfaction(facts: Facts, answer: Satisfaction) -> None:
    """Keep the answer if it is the latest one."""
    if facts.satisfaction is None or answer > facts.satisfaction:
        facts.satisfaction = answer


def book_prospecting(facts: Facts, prospecting: Prospecting) -> None:
    """Keep the qualification if it is the latest one."""
    if facts.prospecting is None or prospecting > facts.prospecting:
        facts.prospecting = prospecting


def book_region(facts: Facts, region: Region) -> None:
    """Keep the region if it is the latest one."""
    if facts.region is None or region > facts.region:
        facts.region = region


def slide(facts: Facts, window: Window, clock_ms: int) -> None:
    """Move the window to the customer's clock, and drop buckets that even a late event can no longer change."""
    first = window.first_number(facts, clock_ms)
    if first != facts.window_first:
        spend_minor, orders, refunded_minor, refunded_orders = _total_from(facts, first)
        facts.window_first = first
        facts.window_spend_minor, facts.window_orders = spend_minor, orders
        facts.window_refunded_minor, facts.window_refunded_orders = refunded_minor, refunded_orders
    facts.buckets = buckets.since(facts.buckets, (i64(clock_ms) - window.keep_ms) // i64(window.bucket_ms) + 1)


def _total_from(facts: Facts, first: int) -> Total:
    """The sum of the buckets from number `first` on. The cost depends on how many buckets leave the window, not on how
    many are in it.
    """
    if first < facts.window_first:
        # A late first purchase has moved the anniversary: add up everything again.
        return buckets.total(facts.buckets, first, NEVER_MS)
    spend_minor, orders, refunded_minor, refunded_orders = buckets.total(facts.buckets, facts.window_first, first)
    return (
        facts.window_spend_minor - spend_minor,
        facts.window_orders - orders,
        facts.window_refunded_minor - refunded_minor,
        facts.window_refunded_orders - refunded_orders,
    )


def forget_complaints(facts: Facts, forget_after_ms: int, clock_ms: int) -> None:
    """Drop the steps of complaints that happened `forget_after_ms` ago or earlier."""
    oldest_ms = clock_ms - forget_after_ms
    if facts.complaints and facts.complaints[0].at_ms <= oldest_ms:
        facts.complaints = [step for step in facts.complaints if step.at_ms > oldest_ms]


def _book(facts: Facts, number: int, purchases: int, orders: int, spend_minor: int) -> None:
    """Add to a bucket, and to the window if the bucket counts."""
    counts = number >= facts.window_first
    watched = counts and (orders < 0 or spend_minor < 0 or facts.window_refunded_minor or facts.window_refunded_orders)
    if watched:
        _, _, orders_before, spend_before = buckets.at(facts.buckets, number)
        facts.window_refunded_orders += min(orders_before + orders, 0) - min(orders_before, 0)
        facts.window_refunded_minor += min(spend_before + spend_minor, 0) - min(spend_before, 0)
    facts.buckets = buckets.add(facts.buckets, number, purchases, orders, spend_minor)
    if counts:
        facts.window_spend_minor += spend_minor
        facts.window_orders += orders


def measures_now(
    facts: Facts, window: Window, clock_ms: int, period_ms: int | None, valid_for_ms: int, assumed: int | None
) -> Measures:
    """The measures at the customer's clock, to which `slide` has moved the window: as `View.at`, without making a view."""
    last_ms, answer = facts.last_purchase_ms, facts.satisfaction
    satisfaction = assumed
    if answer is not None and clock_ms < answer.at_ms + valid_for_ms:
        satisfaction = answer.score
    periods = None
    if period_ms is not None:
        periods = _active_periods(facts, window, facts.window_first, 0, period_ms)
    return Measures(
        facts.window_spend_minor,
        facts.window_orders if facts.window_orders > 0 else 0,
        periods,
        None if last_ms < 0 else clock_ms - last_ms,
        satisfaction,
    )


def only_shrinks(facts: Facts, assumed: int | None) -> bool:
    """Whether time alone can only lower the measures: no bucket in the window is negative, and the survey answer is not
    worse than the score assumed once it is too old.
    """
    return (
        facts.window_refunded_minor == 0
        and facts.window_refunded_orders == 0
        and not _forgetting_helps(facts.satisfaction, assumed)
    )


def _forgetting_helps(answer: Satisfaction | None, assumed: int | None) -> bool:
    """Whether the score assumed without an answer is better than the answer."""
    return answer is not None and assumed is not None and assumed > answer.score


def _active_periods(facts: Facts, window: Window, first: int, gone: int, period_ms: int) -> int:
    """Distinct periods with an order in the buckets from number `first` on, without the first `gone` of these buckets."""
    begin = buckets.first_from(facts.buckets, first) + gone
    return buckets.active_periods(facts.buckets, begin, period_ms // window.bucket_ms)


@mypyc_attr(acyclic=True, free_list_len=1)
class Measures:
    """The numbers that a tier's requirements are compared with, at one instant."""

    __slots__ = ("active_periods", "orders", "recency_ms", "satisfaction", "spend_minor")

    def __init__(
        self,
        spend_minor: int,
        orders: int,
        active_periods: int | None,
        recency_ms: int | None,
        satisfaction: int | None,
    ) -> None:
        self.spend_minor = spend_minor
        self.orders = orders
        self.active_periods = active_periods
        """Distinct periods (a fixed grid from the epoch) with an order in the window; None if no tier asks for them."""
        self.recency_ms = recency_ms
        """Time since the last purchase; None if there was none."""
        self.satisfaction = satisfaction


@mypyc_attr(acyclic=True, free_list_len=1)
class View:
    """The facts seen through the window, now and at any later instant if no further event happens.

    The present measures are ready; later ones are computed on demand.
    """

    def __init__(
        self, facts: Facts, window: Window, at_ms: int, period_ms: int | None, valid_for_ms: int, assumed: int | None
    ) -> None:
        self.facts = facts
        self._window = window
        self._at_ms = at_ms
        self._period_ms = period_ms
        self._assumed = assumed
        self.period_end_ms = window.end_ms(facts, at_ms)
        self._first = window.first_number(facts, at_ms)
        if self._first == facts.window_first:
            self._spend_minor, self._orders = facts.window_spend_minor, facts.window_orders
            self._refunded_minor, self._refunded_orders = facts.window_refunded_minor, facts.window_refunded_orders
        else:
            self._spend_minor, self._orders, self._refunded_minor, self._refunded_orders = _total_from(
                facts, self._first
            )
        answer = facts.satisfaction
        self._satisfaction = assumed if answer is None else answer.score
        self.satisfaction_ends_ms = NEVER_MS if answer is None else answer.at_ms + valid_for_ms
        self._forgetting_helps = _forgetting_helps(answer, assumed)
        self.only_shrinks = not (self._refunded_minor or self._refunded_orders or self._forgetting_helps)
        """`only_shrinks` of the window at `at_ms`."""
        self._later: _Later | None = None

    def at_best(self) -> Measures:
        """An upper bound of the measures that time alone can lead to: as if only the negative buckets left the window."""
        now = self.at(self._at_ms)
        now.spend_minor -= self._refunded_minor
        now.orders = max(self._orders - self._refunded_orders, 0)
        if self._forgetting_helps:
            now.satisfaction = self._assumed
        return now

    def at(self, at_ms: int) -> Measures:
        """The measures at an instant at or after the one the view was made for."""
        spend, orders, gone = self._spend_minor, self._orders, 0
        if at_ms >= self.period_end_ms:
            spend, orders, gone = 0, 0, buckets.count(self.facts.buckets)
        elif at_ms > self._at_ms and self._window.kind == "trailing":
            later = self.later
            gone = bisect_right(later.leaves_ms, at_ms)
            spend, orders = spend - later.spend_minor[gone], orders - later.orders[gone]
        last_ms = self.facts.last_purchase_ms
        return Measures(
            spend,
            max(orders, 0),
            None
            if self._period_ms is None
            else _active_periods(self.facts, self._window, self._first, gone, self._period_ms),
            None if last_ms < 0 else at_ms - last_ms,
            self._satisfaction if at_ms < self.satisfaction_ends_ms else self._assumed,
        )

    @property
    def leaves_ms(self) -> list[int]:
        """The instants at which buckets leave the window, in order."""
        return [self.period_end_ms] if self._window.kind != "trailing" else self.later.leaves_ms

    @property
    def later(self) -> _Later:
        """The buckets in the window, one by one."""
        if self._later is None:
            self._later = _Later(self.facts.buckets, self._window, self._first)
        return self._later


@mypyc_attr(acyclic=True, free_list_len=1)
class _Later:
    """The buckets of a window, with the instants at which they will leave it."""

    def __init__(self, data: bytes, window: Window, first: int) -> None:
        self.buckets = buckets.rows(buckets.since(data, first))
        self.leaves_ms: list[int] = []
        self.spend_minor = [0]
        """At index n, the sum of the first n buckets."""
        self.orders = [0]
        width, length_ms = window.bucket_ms, window.length_ms
        spend_minor = orders = 0
        for number, _, its_orders, its_spend_minor in self.buckets:
            self.leaves_ms.append(number * width + length_ms)
            spend_minor += its_spend_minor
            orders += its_orders
            self.spend_minor.append(spend_minor)
            self.orders.append(orders)


__all__ = [
    "Measures",
    "View",
    "Window",
    "WindowKind",
    "book_complaint",
    "book_prospecting",
    "book_purchase",
    "book_refund",
    "book_region",
    "book_satisfaction",
    "forget_complaints",
    "slide",
]
