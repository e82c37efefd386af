"""How facts grow by events, and how they look through the policy's window.

Every change here commutes with every other, and whatever is forgotten is forgotten by its own time,
never by the order of arrival. That is why facts are the same after the same set of events.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Literal

from models import units
from models.customer import MAX_COMPLAINT_STEPS, NEVER_MS, Bucket, ComplaintStep, Facts, Satisfaction

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
    """How much older than the customer's clock an event may be."""

    @property
    def keep_ms(self) -> int:
        """How long a bucket is kept after its start: while it counts, and while a late purchase on its day may come."""
        return max(self.length_ms, self.lateness_ms + units.DAY_MS)

    def period(self, facts: Facts, at_ms: int) -> tuple[int, int]:
        """The year's window that holds `at_ms`: its start, and the instant at which all of it leaves."""
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
    number = at_ms // window.bucket_ms
    if not _has_purchase_on_day(facts.buckets, window, at_ms):
        facts.purchase_days += 1
    facts.orders += 1
    facts.spend_minor += amount_minor
    facts.last_purchase_ms = max(facts.last_purchase_ms, at_ms)
    if facts.first_purchase_ms < 0 or at_ms < facts.first_purchase_ms:
        facts.first_purchase_ms = at_ms
    facts.buckets = _booked(facts.buckets, number, 1, 1, amount_minor)
    forget(facts, window, clock_ms)


def book_refund(facts: Facts, window: Window, booked_at_ms: int, amount_minor: int, full: bool, clock_ms: int) -> None:
    """Take back `amount_minor` in the bucket of `booked_at_ms`, and the order itself where the refund is `full`."""
    facts.orders -= full
    facts.spend_minor -= amount_minor
    facts.buckets = _booked(facts.buckets, booked_at_ms // window.bucket_ms, 0, -int(full), -amount_minor)
    forget(facts, window, clock_ms)


def book_complaint(facts: Facts, step: ComplaintStep) -> None:
    """Add one step of a complaint; the same step twice is one. Only the latest MAX_COMPLAINT_STEPS are kept."""
    if step not in facts.complaints:
        facts.complaints = sorted([*facts.complaints, step])[-MAX_COMPLAINT_STEPS:]


def book_satisfaction(facts: Facts, answer: Satisfaction) -> None:
    """The latest answer counts."""
    if facts.satisfaction is None or answer > facts.satisfaction:
        facts.satisfaction = answer


def forget(facts: Facts, window: Window, clock_ms: int) -> None:
    """Drop the buckets that no longer count and that no late event can need."""
    oldest = (clock_ms - window.keep_ms) // window.bucket_ms + 1
    if facts.buckets and facts.buckets[0].number < oldest:
        facts.buckets = facts.buckets[bisect_left(facts.buckets, oldest, key=_number) :]


def forget_complaints(facts: Facts, forget_after_ms: int, clock_ms: int) -> None:
    """Drop the steps of complaints that happened `forget_after_ms` ago or earlier."""
    oldest_ms = clock_ms - forget_after_ms
    if facts.complaints and facts.complaints[0].at_ms <= oldest_ms:
        facts.complaints = [step for step in facts.complaints if step.at_ms > oldest_ms]


def _number(bucket: Bucket) -> int:
    return bucket.number


def _booked(buckets: list[Bucket], number: int, purchases: int, orders: int, spend_minor: int) -> list[Bucket]:
    buckets = buckets.copy()
    if buckets and buckets[-1].number < number:
        index = len(buckets)
    else:
        index = bisect_left(buckets, number, key=_number)
    if index < len(buckets) and buckets[index].number == number:
        old = buckets[index]
        new = Bucket(number, old.purchases + purchases, old.orders + orders, old.spend_minor + spend_minor)
        if new.purchases or new.orders or new.spend_minor:
            buckets[index] = new
        else:
            del buckets[index]
    elif purchases or orders or spend_minor:
        buckets.insert(index, Bucket(number, purchases, orders, spend_minor))
    return buckets


def _has_purchase_on_day(buckets: list[Bucket], window: Window, at_ms: int) -> bool:
    day = at_ms // units.DAY_MS
    buckets_a_day = units.DAY_MS // window.bucket_ms
    first = bisect_left(buckets, day * buckets_a_day, key=_number)
    end = bisect_left(buckets, (day + 1) * buckets_a_day, key=_number)
    return any(bucket.purchases for bucket in buckets[first:end])


@dataclass(frozen=True, slots=True)
class Measures:
    """What a tier's rule looks at, at one instant."""

    spend_minor: int
    orders: int
    active_periods: int
    """Distinct periods (a fixed grid from the epoch) with an order in the window."""
    recency_ms: int | None
    """Since the last purchase; None when there was none."""
    satisfaction: int | None


class View:
    """The facts through the window, now and at any later instant with no further events.

    Sums over what is still in the window are prepared from the right, so that asking for another instant
    costs one bisection.
    """

    def __init__(
        self, facts: Facts, window: Window, at_ms: int, period_ms: int, valid_for_ms: int, assumed: int | None
    ) -> None:
        width = window.bucket_ms
        self.facts = facts
        if window.kind == "trailing":
            self.period_end_ms = NEVER_MS
            oldest = (at_ms - window.length_ms) // width + 1
        else:
            start_ms, self.period_end_ms = window.period(facts, at_ms)
            oldest = start_ms // width
        buckets = facts.buckets
        if buckets and buckets[0].number < oldest:
            buckets = buckets[bisect_left(buckets, oldest, key=_number) :]
        spend = orders = periods = 0
        period = -1
        self.only_shrinks = True
        """Whether time alone can only lower the measures: no bucket in the window is negative, and no answer is
        worse than what is assumed once it is forgotten."""
        self._sums = sums = [(0, 0, 0)]
        for bucket in reversed(buckets):
            spend += bucket.spend_minor
            orders += bucket.orders
            if bucket.orders > 0 and bucket.number * width // period_ms != period:
                period = bucket.number * width // period_ms
                periods += 1
            if bucket.spend_minor < 0 or bucket.orders < 0:
                self.only_shrinks = False
            sums.append((spend, orders, periods))
        sums.reverse()
        if window.kind == "trailing":
            self.leaves_ms = [bucket.number * width + window.length_ms for bucket in buckets]
        else:
            self.leaves_ms = [self.period_end_ms] * len(buckets)
        answer = facts.satisfaction
        self._satisfaction = assumed if answer is None else answer.score
        self._assumed = assumed
        if answer is not None and assumed is not None and assumed > answer.score:
            self.only_shrinks = False
        self.satisfaction_ends_ms = NEVER_MS if answer is None else answer.at_ms + valid_for_ms

    def at(self, at_ms: int) -> Measures:
        """The measures at an instant at or after the one the view was made for."""
        spend, orders, periods = self._sums[bisect_right(self.leaves_ms, at_ms)]
        last_ms = self.facts.last_purchase_ms
        return Measures(
            spend,
            max(orders, 0),
            periods,
            None if last_ms < 0 else at_ms - last_ms,
            self._satisfaction if at_ms < self.satisfaction_ends_ms else self._assumed,
        )


__all__ = [
    "Measures",
    "View",
    "Window",
    "WindowKind",
    "book_complaint",
    "book_purchase",
    "book_refund",
    "book_satisfaction",
    "forget",
    "forget_complaints",
]
