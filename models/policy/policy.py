"""A policy, ready for use by the fold.

It is immutable. Every duration is in milliseconds, every amount in minor units of the policy's currency, every risk
threshold in log-odds. models.policy.file reads one from TOML.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from models import units
from models.alerts import AlertRules
from models.customer import Facts
from models.events import Decoder
from models.facts import Measures, View, Window, measures_now
from models.life import LifeCycle
from models.parameters import Parameters
from models.risk import RiskModel
from models.tiers import TierLadder
from models.value import ValueModel


@dataclass(frozen=True, slots=True)
class Action:
    """What to do about an alert of this tier, cause and level (None matches all), and within how long."""

    do: str
    do_zh: str | None
    """The same in Chinese; None if the policy does not give it."""
    within_ms: int
    tier: str | None
    cause: str | None
    level: str | None


@dataclass(frozen=True, slots=True)
class RelativeRules:
    """Which thresholds depend on all customers (relative thresholds), and how often a census computes them."""

    every_ms: int
    top_shares: tuple[tuple[int, float], ...]
    """Rank of a tier, and the share of customers in that tier or a higher one; lowest tier first."""
    by_quintiles: tuple[str, ...]
    """The terms of the score, of "recency", "frequency" and "monetary", whose breakpoints are the quintiles of all
    customers.
    """


@dataclass(frozen=True, slots=True)
class Segment:
    """A name for customers whose points for recency, frequency and monetary are within these ranges, both ends
    included.
    """

    name: str
    recency: tuple[int, int]
    frequency: tuple[int, int]
    monetary: tuple[int, int]


@dataclass(frozen=True)
class Policy:
    """All rules by which customers are judged. Two policies with the same `ref` are the same policy."""

    id: str
    version: int
    title: str
    currency: str
    rates: dict[str, tuple[int, int]]
    """Per accepted currency, the exact fraction from its minor units to the policy's."""
    window: Window
    period_ms: int
    """Length of the periods that `active_periods` counts."""
    ladder: TierLadder
    grace_ms: int | None
    """How long a tier is kept after the customer stops qualifying; None: until the end of the window's year."""
    one_step: bool
    min_hold_ms: int
    satisfaction_valid_for_ms: int
    satisfaction_assumed: int | None
    risk: RiskModel
    value: ValueModel
    relative: RelativeRules | None
    segments: tuple[Segment, ...]
    life: LifeCycle | None
    text: str
    """The TOML text of its file."""
    actions: tuple[Action, ...]
    alerts: AlertRules | None
    """None: the policy keeps no ledger of alerts."""
    parameters: str = ""
    """The digest of the fitted parameters; empty if the policy's own file has the parameters."""
    fitted_until_ms: int = -1
    """The end of the log to which the parameters were fitted; -1 if it is not known."""
    fitted: Parameters | None = None
    """The fitted parameters; `text` and they define the whole policy."""
    edition: int = 0
    """The number of the edition, which has its thresholds and parameters: see models.policy.editions."""
    decimals: int = field(init=False)
    ref: str = field(init=False)
    """The policy reference: `id@version`, with fitted parameters `id@version+digest`."""
    label: str = field(init=False)
    """Its name in every output: `ref`, and from edition 1 on the edition, as in `id@version/1`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "decimals", units.currency_decimals(self.currency))
        suffix = f"+{self.parameters}" if self.parameters else ""
        object.__setattr__(self, "ref", f"{self.id}@{self.version}{suffix}")
        object.__setattr__(self, "label", f"{self.ref}/{self.edition}" if self.edition else self.ref)

    @property
    def base_tier(self) -> str:
        """The tier of a customer who qualifies for no other."""
        return self.ladder.tiers[0].name

    def decoder(self) -> Decoder:
        """A decoder of input records that accepts this policy's currencies."""
        return Decoder(self.rates)

    def view(self, facts: Facts, at_ms: int) -> View:
        """The facts through this policy's window."""
        return View(
            facts,
            self.window,
            at_ms,
            self.period_ms if self.ladder.counts_periods else None,
            self.satisfaction_valid_for_ms,
            self.satisfaction_assumed,
        )

    def measures_now(self, facts: Facts, clock_ms: int) -> Measures:
        """The measures at the customer's clock, to which `slide` has moved the window."""
        return measures_now(
            facts,
            self.window,
            clock_ms,
            self.period_ms if self.ladder.counts_periods else None,
            self.satisfaction_valid_for_ms,
            self.satisfaction_assumed,
        )

    def downgrade_at_ms(self, view: View, tier_since_ms: int, from_ms: int) -> int:
        """When a tier is lost for which the customer no longer qualifies from `from_ms` on: after grace period and
        minimum hold.
        """
        grace_ends_ms = view.period_end_ms if self.grace_ms is None else from_ms + self.grace_ms
        return max(grace_ends_ms, tier_since_ms + self.min_hold_ms)

    def segment_of(self, measures: Measures) -> str | None:
        """The first segment that matches the customer's points; None if none does, or the policy has no score."""
        card = self.ladder.score_card
        if card is None or not self.segments:
            return None
        points = card.points(measures)
        for one in self.segments:
            if all(
                low <= point <= high
                for point, (low, high) in zip(points, (one.recency, one.frequency, one.monetary), strict=True)
            ):
                return one.name
        return None

    def action_for(self, tier: str, cause: str, level: str) -> Action | None:
        """The policy's first action that matches; None if none does."""
        for action in self.actions:
            if action.tier in (None, tier) and action.cause in (None, cause) and action.level in (None, level):
                return action
        return None
