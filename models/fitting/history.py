"""A log in columns: what was known about every customer at any instant, in arrays, and what they did next.

The fold knows a customer only as of now. Fitting and testing a score needs all customers at many instants; so purchases
are sorted once, and a snapshot is a selection from the columns. It has the same values as the fold's facts
(tests/models/test_history.py compares them).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models import units
from models.bodies import SEVERITIES, STATUSES, Command, Complaint, Feedback
from models.customer import Facts
from models.customer_parts import ComplaintStep, Satisfaction
from models.events import Event
from models.facts import book_complaint, book_satisfaction

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Snapshot:
    """All customers with a purchase, as they were known at an instant: one element of each array is one customer."""

    at_ms: int
    customer: Ints
    """Positions in `History.customers`."""
    x: Ints
    """Repeat purchases: days with a purchase, less the first."""
    t_x_weeks: Floats
    """Age at the last of them, 0 without any."""
    age_weeks: Floats
    silence_weeks: Floats
    """Age minus t_x: the time since the last purchase."""
    spend_minor: Floats
    """Net spend."""
    last_day_minor: Floats
    """Spend on the day of the last purchase."""
    others: dict[int, Facts]
    """The facts of the customers with complaints or satisfaction, by position in these arrays; without purchases, which
    the arrays have.
    """

    def __len__(self) -> int:
        return len(self.customer)

    def of(self, chosen: Flags) -> Snapshot:
        """Some of the customers."""
        row = np.cumsum(chosen) - 1
        return Snapshot(
            self.at_ms,
            self.customer[chosen],
            self.x[chosen],
            self.t_x_weeks[chosen],
            self.age_weeks[chosen],
            self.silence_weeks[chosen],
            self.spend_minor[chosen],
            self.last_day_minor[chosen],
            {int(row[place]): facts for place, facts in self.others.items() if chosen[place]},
        )

    def mean_minor(self) -> Floats:
        """Net spend of a day with a purchase, never negative."""
        return np.maximum(self.spend_minor, 0.0) / (self.x + 1)


@dataclass(frozen=True)
class History:
    """All events of a log, sorted by customer and time. `known_at` gives the part that was known at an instant."""

    customers: list[str]
    begins_ms: int
    ends_ms: int
    """Begin and end are the first and last purchase, since a log may have complaints from a time without purchases."""
    events: int
    bought_by: Ints
    bought_ms: Ints
    bought_minor: Ints
    refunded_by: Ints
    refunded_ms: Ints
    refunded_minor: Ints
    others: dict[int, list[tuple[int, ComplaintStep | Satisfaction]]] = field(repr=False)
    """Per customer the steps of complaints and the answers, with their times, in order."""

    def snapshot(self, at_ms: int) -> Snapshot:
        """What was known at `at_ms`, including events at exactly that instant."""
        known = self.bought_ms <= at_ms
        by, ms, minor = self.bought_by[known], self.bought_ms[known], self.bought_minor[known]
        customer, first = np.unique(by, return_index=True)
        counts = np.diff(np.append(first, len(by)))
        last = first + counts - 1
        day = ms // units.DAY_MS
        is_new_day = np.ones(len(by), bool)
        is_new_day[1:] = (by[1:] != by[:-1]) | (day[1:] != day[:-1])
        position = np.repeat(np.arange(len(customer)), counts)
        purchase_days = np.bincount(position[is_new_day], minlength=len(customer))
        on_last_day = day == day[last][position]
        spend = _sums(position, minor, len(customer))
        refunds = self.refunded_ms <= at_ms
        # A refund of a customer without a purchase is ignored.
        place, is_known = _places(customer, self.refunded_by[refunds])
        spend -= _sums(place[is_known], self.refunded_minor[refunds][is_known], len(customer))
        first_ms, last_ms = ms[first], ms[last]
        x = purchase_days - 1
        t_x_weeks = np.where(x > 0, (last_ms - first_ms) / units.WEEK_MS, 0.0)
        age_weeks = (at_ms - first_ms) / units.WEEK_MS
        return Snapshot(
            at_ms,
            customer,
            x,
            t_x_weeks,
            age_weeks,
            age_weeks - t_x_weeks,
            spend,
            _sums(position[on_last_day], minor[on_last_day], len(customer)),
            self._others(customer, x, first_ms, last_ms, at_ms),
        )

    def buys_within(self, snapshot: Snapshot, horizon_ms: int) -> Flags:
        """Which customers of a snapshot buy within `horizon_ms` after it."""
        later = (self.bought_ms > snapshot.at_ms) & (self.bought_ms <= snapshot.at_ms + horizon_ms)
        return np.isin(snapshot.customer, self.bought_by[later])

    def known_at(self, at_ms: int) -> History:
        """The history as it was at `at_ms`; it has no later events, so nothing computed from it can look ahead."""
        bought, refunded = self.bought_ms <= at_ms, self.refunded_ms <= at_ms
        others = {who: [one for one in found if one[0] <= at_ms] for who, found in self.others.items()}
        return replace(
            self,
            ends_ms=min(self.ends_ms, at_ms),
            events=int(bought.sum() + refunded.sum()) + sum(map(len, others.values())),
            bought_by=self.bought_by[bought],
            bought_ms=self.bought_ms[bought],
            bought_minor=self.bought_minor[bought],
            refunded_by=self.refunded_by[refunded],
            refunded_ms=self.refunded_ms[refunded],
            refunded_minor=self.refunded_minor[refunded],
            others={who: found for who, found in others.items() if found},
        )

    def with_another_future(self, at_ms: int) -> History:
        """The same history until `at_ms`, with later purchases given to other customers. No prediction at `at_ms` may
        depend on them.
        """
        later = self.bought_ms > at_ms
        by = self.bought_by.copy()
        others = np.random.default_rng(at_ms).permutation(len(self.customers))
        by[later] = others[by[later]]
        order = np.lexsort((self.bought_ms, by))
        refunded = self.refunded_ms <= at_ms
        return replace(
            self,
            bought_by=by[order],
            bought_ms=self.bought_ms[order],
            bought_minor=self.bought_minor[order],
            refunded_by=self.refunded_by[refunded],
            refunded_ms=self.refunded_ms[refunded],
            refunded_minor=self.refunded_minor[refunded],
            others={who: [one for one in found if one[0] <= at_ms] for who, found in self.others.items()},
        )

    def _others(self, customer: Ints, x: Ints, first_ms: Ints, last_ms: Ints, at_ms: int) -> dict[int, Facts]:
        if not self.others:
            return {}
        who = np.fromiter(self.others, np.int64, len(self.others))
        found: dict[int, Facts] = {}
        places, is_known = _places(customer, who)
        for one, place in zip(who[is_known].tolist(), places[is_known].tolist(), strict=True):
            facts = Facts(int(first_ms[place]), int(last_ms[place]), int(x[place]) + 1)
            for since_ms, what in self.others[one]:
                if since_ms > at_ms:
                    break
                if isinstance(what, ComplaintStep):
                    book_complaint(facts, what)
                else:
                    book_satisfaction(facts, what)
            if facts.complaints or facts.satisfaction is not None:
                found[place] = facts
        return found


class HistoryBuilder:
    """Collects events in any order; a repeated event counts once, events before a customer's erasure don't count."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}
        self._bought, self._refunded = _Column(), _Column()
        self._others: dict[int, list[tuple[int, bytes, ComplaintStep | Satisfaction]]] = {}
        self._erased: dict[int, int] = {}

    def add(self, event: Event) -> Self:
        """Add an event."""
        who = self._positions.setdefault(event.customer_id, len(self._positions))
        at_ms, body = event.occurred_at_ms, event.body
        if body is None:
            (self._refunded if event.is_refund else self._bought).append(who, event)
        elif isinstance(body, Complaint):
            status, severity = STATUSES.index(body.status), SEVERITIES.index(body.severity)
            step = ComplaintStep(at_ms, body.complaint_id, status, severity, body.category or "")
            self._others.setdefault(who, []).append((at_ms, event.event_hash, step))
            if body.satisfaction is not None:
                answer = Satisfaction(at_ms, body.satisfaction, "complaint")
                self._others[who].append((at_ms, event.event_hash + b"answer", answer))
        elif isinstance(body, Feedback):
            answer = Satisfaction(at_ms, body.score, body.kind)
            self._others.setdefault(who, []).append((at_ms, event.event_hash, answer))
        elif isinstance(body, Command) and body.command == "erase":
            self._erased[who] = max(self._erased.get(who, -1), at_ms)
        return self

    def build(self) -> History:
        """The history of the added events. Raises ValueError if there is no purchase."""
        erased_ms = np.full(len(self._positions), -1, np.int64)
        for who, at_ms in self._erased.items():
            erased_ms[who] = at_ms
        bought, refunded = self._bought.sorted(erased_ms), self._refunded.sorted(erased_ms)
        if not len(bought[0]):
            raise ValueError("there is no purchase in the log")
        others: dict[int, list[tuple[int, Any]]] = {}
        for who, found in self._others.items():
            once = {one[1]: one for one in found if one[0] > erased_ms[who]}
            if once:
                others[who] = [(at_ms, what) for at_ms, _, what in sorted(once.values(), key=lambda one: one[0])]
        events = len(bought[0]) + len(refunded[0]) + sum(map(len, others.values()))
        begins_ms, ends_ms = int(bought[1].min()), int(bought[1].max())
        return History(list(self._positions), begins_ms, ends_ms, events, *bought, *refunded, others)


class _Column:
    """Purchases or refunds in order of arrival."""

    def __init__(self) -> None:
        self._who, self._at_ms, self._minor = array("q"), array("q"), array("q")
        self._hashes = bytearray()

    def append(self, who: int, event: Event) -> None:
        self._who.append(who)
        self._at_ms.append(event.occurred_at_ms)
        self._minor.append(event.amount_minor)
        self._hashes += event.event_hash

    def sorted(self, erased_ms: Ints) -> tuple[Ints, Ints, Ints]:
        """Customers, times and amounts, by customer and time, each event once."""
        who, at_ms, minor = (np.frombuffer(one, np.int64) for one in (self._who, self._at_ms, self._minor))
        hashes = np.frombuffer(bytes(self._hashes), np.uint64)
        order = np.lexsort((hashes, who))  # of repeats, the first to arrive stays first
        is_first = np.ones(len(order), bool)
        is_first[1:] = (who[order][1:] != who[order][:-1]) | (hashes[order][1:] != hashes[order][:-1])
        order = order[is_first]
        order = order[at_ms[order] > erased_ms[who[order]]]
        order = order[np.lexsort((at_ms[order], who[order]))]
        return who[order], at_ms[order], minor[order]


def _sums(place: Ints, minor: Ints, count: int) -> Floats:
    """The sum of the amounts per place."""
    return np.bincount(place, minor.astype(np.float64), count).astype(np.float64)


def _places(sorted_customers: Ints, wanted: Ints) -> tuple[Ints, Flags]:
    """The positions of customers in a sorted array, and whether they are in it."""
    if not len(sorted_customers):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    place = np.minimum(np.searchsorted(sorted_customers, wanted), len(sorted_customers) - 1)
    return place, sorted_customers[place] == wanted
