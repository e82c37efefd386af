"""How facts grow by events, and how they look through the policy's window.

Every change here commutes with every other, and whatever is forgotten is forgotten by its own time,
never by the order of arrival. That is why facts are the same after the same set of events.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Final, Literal

from models import units
from models.customer import MAX_COMPLAINT_STEPS, NEVER_MS, Bucket, ComplaintStep, Facts, InWindow, Satisfaction

MAX_SUM_MINOR: Final = 2**63 - 1
"""What a sum may be: it is kept in 64 bits."""

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

    def first_number(self, facts: Facts, at_ms: int) -> int:
        """The number of the earliest bucket that counts at `at_ms`."""
        if self.kind == "trailing":
            return (at_ms - self.length_ms) // self.bucket_ms + 1
        return self.period(facts, at_ms)[0] // self.bucket_ms

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
    _book(facts, number, 1, 1, amount_minor)
    slide(facts, window, clock_ms)


def book_refund(facts: Facts, window: Window, booked_at_ms: int, amount_minor: int, full: bool, clock_ms: int) -> None:
    """Take back `amount_minor` in the bucket of `booked_at_ms`, and the order itself where the refund is `full`."""
    facts.orders -= full
    facts.spend_minor -= amount_minor
    _book(facts, booked_at_ms // window.bucket_ms, 0, -int(full), -amount_minor)
    slide(facts, window, clock_ms)


def would_overflow(facts: Facts, window: Window, booked_at_ms: int, amount_minor: int) -> bool:
    """Whether a sum would leave the 64 bits in which it is kept."""
    number = booked_at_ms // window.bucket_ms
    index = bisect_left(facts.buckets, number, key=_number)
    there = index < len(facts.buckets) and facts.buckets[index].number == number
    in_bucket = facts.buckets[index].spend_minor if there else 0
    return max(abs(facts.spend_minor), abs(facts.in_window.spend_minor), abs(in_bucket)) + amount_minor > MAX_SUM_MINOR


def book_complaint(facts: Facts, step: ComplaintStep) -> None:
    """Add one step of a complaint; the same step twice is one. Only the latest MAX_COMPLAINT_STEPS are kept."""
    if step not in facts.complaints:
        facts.complaints = sorted([*facts.complaints, step])[-MAX_COMPLAINT_STEPS:]


def book_satisfaction(facts: Facts, answer: Satisfaction) -> None:
    """The latest answer counts."""
    if facts.satisfaction is None or answer > facts.satisfaction:
        facts.satisfaction = answer


def slide(facts: Facts, window: Window, clock_ms: int) -> None:
    """Move the window to the customer's clock, and drop the buckets that no late event can need any more."""
    buckets = facts.buckets
    facts.in_window = _window_from(facts, window.first_number(facts, clock_ms))
    oldest = (clock_ms - window.keep_ms) // window.bucket_ms + 1
    if buckets and buckets[0].number < oldest:
        facts.buckets = buckets[bisect_left(buckets, oldest, key=_number) :]


def _window_from(facts: Facts, first: int) -> InWindow:
    """What the buckets from number `first` on add up to. Costs what leaves the window, not what is in it."""
    known, buckets = facts.in_window, facts.buckets
    if first == known.first_number:
        return known
    start = bisect_left(buckets, first, key=_number)
    if first < known.first_number:
        # A late first purchase has moved the anniversary: add up anew.
        return InWindow(first, *_total(buckets[start:]))
    spend, orders, negative = _total(buckets[bisect_left(buckets, known.first_number, key=_number) : start])
    return InWindow(first, known.spend_minor - spend, known.orders - orders, known.negative - negative)


def _total(buckets: list[Bucket]) -> tuple[int, int, int]:
    spend = orders = negative = 0
    for bucket in buckets:
        spend += bucket.spend_minor
        orders += bucket.orders
        negative += _is_negative(bucket)
    return spend, orders, negative


def _is_negative(bucket: Bucket) -> bool:
    return bucket.spend_minor < 0 or bucket.orders < 0


def forget_complaints(facts: Facts, forget_after_ms: int, clock_ms: int) -> None:
    """Drop the steps of complaints that happened `forget_after_ms` ago or earlier."""
    oldest_ms = clock_ms - forget_after_ms
    if facts.complaints and facts.complaints[0].at_ms <= oldest_ms:
        facts.complaints = [step for step in facts.complaints if step.at_ms > oldest_ms]


def _number(bucket: Bucket) -> int:
    return bucket.number


def _book(facts: Facts, number: int, purchases: int, orders: int, spend_minor: int) -> None:
    """Add to a bucket, and to the window if the bucket counts. A bucket that holds nothing does not exist."""
    buckets = facts.buckets = facts.buckets.copy()
    if buckets and buckets[-1].number < number:
        index = len(buckets)
    else:
        index = bisect_left(buckets, number, key=_number)
    was_negative = False
    new = Bucket(number, purchases, orders, spend_minor)
    if index < len(buckets) and buckets[index].number == number:
        old = buckets.pop(index)
        was_negative = _is_negative(old)
        new = Bucket(number, old.purchases + purchases, old.orders + orders, old.spend_minor + spend_minor)
    if new.purchases or new.orders or new.spend_minor:
        buckets.insert(index, new)
    known = facts.in_window
    if number >= known.first_number:
        facts.in_window = InWindow(
            known.first_number,
            known.spend_minor + spend_minor,
            known.orders + orders,
            known.negative + _is_negative(new) - was_negative,
        )


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
    active_periods: int | None
    """Distinct periods (a fixed grid from the epoch) with an order in the window; None where no rule asks for them."""
    recency_ms: int | None
    """Since the last purchase; None when there was none."""
    satisfaction: int | None


class View:
    """The facts through the window, now and at any later instant with no further events.

    What holds now is at hand; what will hold later is worked out when it is asked for.
    """

    def __init__(
        self, facts: Facts, window: Window, at_ms: int, period_ms: int | None, valid_for_ms: int, assumed: int | None
    ) -> None:
        self.facts = facts
        self._window = window
        self._at_ms = at_ms
        self._period_ms = period_ms
        self._assumed = assumed
        self.period_end_ms = NEVER_MS if window.kind == "trailing" else window.period(facts, at_ms)[1]
        self._now = _window_from(facts, window.first_number(facts, at_ms))
        answer = facts.satisfaction
        self._satisfaction = assumed if answer is None else answer.score
        self.satisfaction_ends_ms = NEVER_MS if answer is None else answer.at_ms + valid_for_ms
        forgetting_helps = answer is not None and assumed is not None and assumed > answer.score
        self.only_shrinks = self._now.negative == 0 and not forgetting_helps
        """Whether time alone can only lower the measures: no bucket in the window is negative, and no answer is
        worse than what is assumed once it is forgotten."""

    def at(self, at_ms: int) -> Measures:
        """The measures at an instant at or after the one the view was made for."""
        spend, orders, staying = self._now.spend_minor, self._now.orders, None
        if at_ms >= self.period_end_ms:
            spend = orders = staying = 0
        elif at_ms > self._at_ms and self._window.kind == "trailing":
            staying = len(self.leaves_ms) - bisect_right(self.leaves_ms, at_ms)
            spend, orders = self._latest_spend[staying], self._latest_orders[staying]
        last_ms = self.facts.last_purchase_ms
        return Measures(
            spend,
            max(orders, 0),
            None if self._period_ms is None else self._active_periods(self._period_ms, staying),
            None if last_ms < 0 else at_ms - last_ms,
            self._satisfaction if at_ms < self.satisfaction_ends_ms else self._assumed,
        )

    @cached_property
    def leaves_ms(self) -> list[int]:
        """When buckets that count leave the window, in order."""
        if self._window.kind != "trailing":
            return [self.period_end_ms]
        width, length_ms = self._window.bucket_ms, self._window.length_ms
        return [bucket.number * width + length_ms for bucket in self._buckets]

    @cached_property
    def _buckets(self) -> list[Bucket]:
        buckets = self.facts.buckets
        return buckets[bisect_left(buckets, self._now.first_number, key=_number) :]

    @cached_property
    def _latest_spend(self) -> list[int]:
        """The spend of the latest n buckets, at index n."""
        return list(accumulate((bucket.spend_minor for bucket in reversed(self._buckets)), initial=0))

    @cached_property
    def _latest_orders(self) -> list[int]:
        return list(accumulate((bucket.orders for bucket in reversed(self._buckets)), initial=0))

    def _active_periods(self, period_ms: int, staying: int | None) -> int:
        buckets = self._buckets
        width = self._window.bucket_ms
        first = 0 if staying is None else len(buckets) - staying
        return len({bucket.number * width // period_ms for bucket in buckets[first:] if bucket.orders > 0})


__all__ = [
    "Measures",
    "View",
    "Window",
    "WindowKind",
    "book_complaint",
    "book_purchase",
    "book_refund",
    "book_satisfaction",
    "forget_complaints",
    "slide",
]
