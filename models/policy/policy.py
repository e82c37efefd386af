"""A policy: how value becomes a tier and silence a risk.

Immutable and ready to use: every duration is in milliseconds, every amount in minor units of the policy's
currency, every threshold of risk in log-odds. models.policy.file makes one from TOML.
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
    """What to do about an alert of this tier, cause and level (None matches all), within how long."""

    do: str
    do_zh: str | None
    """The same for who reads Chinese; None if the policy has it in no other words."""
    within_ms: int
    tier: str | None
    cause: str | None
    level: str | None


@dataclass(frozen=True, slots=True)
class RelativeRules:
    """Which lines depend on all customers, and how often they are drawn anew."""

    every_ms: int
    top_shares: tuple[tuple[int, float], ...]
    """Rank of a tier, and the share of the customers that is in it or above, lowest tier first."""
    by_quintiles: tuple[str, ...]
    """Of "recency", "frequency" and "monetary", the terms of the score without breakpoints of their own."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A name for customers by their points for recency, frequency and monetary, each from and to."""

    name: str
    recency: tuple[int, int]
    frequency: tuple[int, int]
    monetary: tuple[int, int]


@dataclass(frozen=True)
class Policy:
    """Everything that decides. Two policies with the same `ref` are the same policy."""

    id: str
    version: int
    title: str
    currency: str
    rates: dict[str, tuple[int, int]]
    """Per accepted currency, the exact fraction from its minor units to the policy's."""
    window: Window
    period_ms: int
    """Width of the periods that `active_periods` counts."""
    ladder: TierLadder
    grace_ms: int | None
    """None: until the end of the window's year."""
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
    """The TOML that it was made from."""
    actions: tuple[Action, ...]
    alerts: AlertRules | None
    """None: the policy keeps no ledger of alerts."""
    parameters: str = ""
    """Which fitted parameters the policy uses, by their digest; empty where its own file has them."""
    fitted_until_ms: int = -1
    """The end of the log that they were fitted to."""
    fitted: Parameters | None = None
    """They themselves: with `text` they say all of the policy."""
    edition: int = 0
    """Which lines and parameters are in force: see models.policy.editions."""
    decimals: int = field(init=False)
    ref: str = field(init=False)
    """`id@version`; with fitted parameters `id@version+digest`."""
    label: str = field(init=False)
    """As every output names it: with the edition, from the first on, `id@version/1`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "decimals", units.currency_decimals(self.currency))
        suffix = f"+{self.parameters}" if self.parameters else ""
        object.__setattr__(self, "ref", f"{self.id}@{self.version}{suffix}")
        object.__setattr__(self, "label", f"{self.ref}/{self.edition}" if self.edition else self.ref)

    @property
    def base_tier(self) -> str:
        """The tier of a customer who qualifies for none."""
        return self.ladder.tiers[0].name

    def decoder(self) -> Decoder:
        """The decoder of input records for this policy's currencies."""
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
        """What the rules look at, at the customer's clock, to which the window has been slid."""
        return measures_now(
            facts,
            self.window,
            clock_ms,
            self.period_ms if self.ladder.counts_periods else None,
            self.satisfaction_valid_for_ms,
            self.satisfaction_assumed,
        )

    def downgrade_at_ms(self, view: View, tier_since_ms: int, from_ms: int) -> int:
        """When a tier that is no longer deserved from `from_ms` on is lost: after the grace, and the minimum hold."""
        grace_ends_ms = view.period_end_ms if self.grace_ms is None else from_ms + self.grace_ms
        return max(grace_ends_ms, tier_since_ms + self.min_hold_ms)

    def segment_of(self, measures: Measures) -> str | None:
        """The first segment that a customer's points fit; None if none does, or there is no score."""
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
        """The first row of the policy's table that matches."""
        for action in self.actions:
            if action.tier in (None, tier) and action.cause in (None, cause) and action.level in (None, level):
                return action
        return None
