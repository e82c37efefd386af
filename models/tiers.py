"""The tier ladder: which tier a customer qualifies for, when time alone changes that, and what is missing."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Final

from mypy_extensions import mypyc_attr

from models.customer import NEVER_MS, Standing
from models.facts import Measures, View

NO_RECENCY: Final = NEVER_MS
THRESHOLD_UNKNOWN_MINOR: Final = 2**62 - 1
"""The spend threshold of a tier with a `top_share` before the first census; nobody reaches it."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier and its requirements, all of which must hold; the base tier (rank 0) has none."""

    name: str
    rank: int
    min_spend_minor: int | None = None
    min_orders: int | None = None
    min_active_periods: int | None = None
    min_satisfaction: int | None = None
    max_recency_ms: int | None = None
    min_score_milli: int | None = None


@dataclass(frozen=True, slots=True)
class ScoreTerm:
    """One point, and one more for each of the ascending breakpoints reached (for recency: not exceeded)."""

    weight_milli: int
    breakpoints: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ScoreCard:
    """The weighted R-F-M score, in thousandths of a point so that it is exact."""

    recency: ScoreTerm
    frequency: ScoreTerm
    monetary: ScoreTerm

    def points(self, measures: Measures) -> tuple[int, int, int]:
        """The points for recency, frequency and monetary."""
        recency_ms = NO_RECENCY if measures.recency_ms is None else measures.recency_ms
        # For recency a smaller value is better: count the breakpoints that it does not exceed.
        limits = self.recency.breakpoints
        return (
            1 + len(limits) - bisect_left(limits, recency_ms),
            1 + bisect_right(self.frequency.breakpoints, measures.orders),
            1 + bisect_right(self.monetary.breakpoints, measures.spend_minor),
        )

    def score_milli(self, measures: Measures) -> int:
        """The weighted sum of points, in thousandths.

        >>> one_point = ScoreTerm(1_000, ())
        >>> ScoreCard(one_point, ScoreTerm(500, (2, 5)), one_point).score_milli(Measures(0, 3, None, None, None))
        3000
        """
        recency, frequency, monetary = self.points(measures)
        return (
            self.recency.weight_milli * recency
            + self.frequency.weight_milli * frequency
            + self.monetary.weight_milli * monetary
        )


@mypyc_attr(acyclic=True)
@dataclass(init=False, slots=True)
class Requirement:
    """One requirement of a tier, and the customer's value. Values are in the measure's own unit."""

    measure: str
    needed: int
    actual: int | None
    met: bool

    # Written out, as in all classes that are made often: mypyc does not compile the one that dataclass generates.
    def __init__(self, measure: str, needed: int, actual: int | None, met: bool) -> None:
        self.measure = measure
        self.needed = needed
        self.actual = actual
        self.met = met


@dataclass(frozen=True)
class TierLadder:
    """The tiers of a policy, base first, and the score that they may ask for.

    >>> ladder = TierLadder((Tier("none", 0), Tier("gold", 1, min_spend_minor=50_000)), None, ())
    >>> ladder.qualified_rank(Measures(60_000, 1, None, None, None))
    1
    """

    tiers: tuple[Tier, ...]
    score_card: ScoreCard | None
    recency_limits_ms: tuple[int, ...]
    """The recencies at which some tier's requirement or the score changes, ascending."""

    counts_periods: bool = field(init=False)
    """Whether any tier asks for active periods; they are counted only then."""
    tier_names: tuple[str, ...] = field(init=False)
    """Lowest first."""
    _named: dict[str, Tier] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts_periods", any(tier.min_active_periods is not None for tier in self.tiers))
        object.__setattr__(self, "tier_names", tuple(tier.name for tier in self.tiers))
        object.__setattr__(self, "_named", {tier.name: tier for tier in self.tiers})

    def tier_named(self, name: str) -> Tier:
        """The tier of that name; the base tier if the policy has none of that name."""
        return self._named.get(name, self.tiers[0])

    def rank_of(self, name: str) -> int:
        """The rank of the tier of that name; 0 if the policy has none of that name."""
        return self.tier_named(name).rank

    def requirements(self, tier: Tier, measures: Measures) -> list[Requirement]:
        """The requirements of a tier, each compared with the measures."""
        found = []
        for measure, needed, actual in (
            ("spend", tier.min_spend_minor, measures.spend_minor),
            ("orders", tier.min_orders, measures.orders),
            ("active_periods", tier.min_active_periods, measures.active_periods),
            ("satisfaction", tier.min_satisfaction, measures.satisfaction),
            ("score", tier.min_score_milli, self.score_card.score_milli(measures) if self.score_card else 0),
        ):
            if needed is not None:
                found.append(Requirement(measure, needed, actual, actual is not None and actual >= needed))
        if tier.max_recency_ms is not None:
            recency_ms = measures.recency_ms
            met = recency_ms is not None and recency_ms <= tier.max_recency_ms
            found.append(Requirement("recency", tier.max_recency_ms, recency_ms, met))
        return found

    def qualified_rank(self, measures: Measures) -> int:
        """The rank of the highest tier all of whose requirements are met."""
        for tier in reversed(self.tiers):
            if self._meets(tier, measures):
                return tier.rank
        return 0

    def _meets(self, tier: Tier, measures: Measures) -> bool:
        # The same comparisons as in `requirements`, without making objects: this runs for every event.
        if tier.min_spend_minor is not None and measures.spend_minor < tier.min_spend_minor:
            return False
        if tier.min_orders is not None and measures.orders < tier.min_orders:
            return False
        if tier.min_active_periods is not None and (measures.active_periods or 0) < tier.min_active_periods:
            return False
        if tier.min_satisfaction is not None and (
            measures.satisfaction is None or measures.satisfaction < tier.min_satisfaction
        ):
            return False
        if tier.max_recency_ms is not None and (
            measures.recency_ms is None or measures.recency_ms > tier.max_recency_ms
        ):
            return False
        return (
            tier.min_score_milli is None
            or self.score_card is None
            or self.score_card.score_milli(measures) >= tier.min_score_milli
        )

    def next_change_ms(self, view: View, standing: Standing, after_ms: int) -> int:
        """The first instant after `after_ms` at which time alone changes the tier, or schedules or averts a downgrade.

        The customer must be as the fold left them at `after_ms`: not qualified for more than their tier, and for less
        only while a downgrade is pending.
        """
        if standing.lock is not None:
            return NEVER_MS
        rank = self.rank_of(standing.tier)
        pending = standing.downgrade_at_ms != NEVER_MS
        if not self.can_rise(view, standing):
            # Time alone averts no downgrade and causes no upgrade.
            return standing.downgrade_at_ms if pending or rank == 0 else self.loss_ms(view, rank, after_ms)
        for at_ms in self._instants(view, after_ms):
            if at_ms >= standing.downgrade_at_ms:
                break
            qualified = self.qualified_rank(view.at(at_ms))
            if qualified > rank or (qualified == rank if pending else qualified < rank):
                return at_ms
        return standing.downgrade_at_ms

    def can_rise(self, view: View, standing: Standing) -> bool:
        """Whether time alone may lift the customer to a higher tier, or avert a pending downgrade."""
        if view.only_shrinks:
            return False
        at_best = self.qualified_rank(view.at_best())
        rank = self.rank_of(standing.tier)
        return at_best > rank or (at_best == rank and standing.downgrade_at_ms != NEVER_MS)

    def loss_ms(self, view: View, rank: int, after_ms: int) -> int:
        """The first instant after `after_ms` at which, with no further events, the customer no longer qualifies for
        `rank`.
        """
        if not view.only_shrinks:
            return next(
                (at_ms for at_ms in self._instants(view, after_ms) if self.qualified_rank(view.at(at_ms)) < rank),
                NEVER_MS,
            )
        # Once lost it stays lost, so bisection finds the first bucket that leaves too little behind ...
        leaves_ms = view.leaves_ms
        low, high = bisect_right(leaves_ms, after_ms), len(leaves_ms)
        while low < high:
            middle = (low + high) // 2
            if self.qualified_rank(view.at(leaves_ms[middle])) < rank:
                high = middle
            else:
                low = middle + 1
        found = leaves_ms[low] if low < len(leaves_ms) else NEVER_MS
        # ... and among the few other instants.
        for at_ms in self._limits_ms(view):
            if after_ms < at_ms < found and self.qualified_rank(view.at(at_ms)) < rank:
                found = at_ms
        return found

    def _instants(self, view: View, after_ms: int) -> list[int]:
        """The instants after `after_ms` at which a measure may pass a requirement's threshold, in order."""
        return sorted(at_ms for at_ms in {*view.leaves_ms, *self._limits_ms(view)} if at_ms > after_ms)

    def _limits_ms(self, view: View) -> list[int]:
        """The instants at which recency passes a limit, or the survey answer gets too old to count."""
        limits = [] if view.satisfaction_ends_ms == NEVER_MS else [view.satisfaction_ends_ms]
        last_ms = view.facts.last_purchase_ms
        if last_ms >= 0:
            limits += [last_ms + limit_ms + 1 for limit_ms in self.recency_limits_ms]
        return limits
