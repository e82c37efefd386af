"""What a customer is worth: the purchases expected within a horizon, at the spend expected of each, discounted, less
what serving them costs.

    if they stay  = margin * spend * sum over quarters(discount * expected purchases) - cost to serve the tier
    lifetime value = P(alive) * if they stay - cost of the complaints still open
    value at stake = if they stay, at least 0: what is lost if the customer leaves

The expected purchases are MBG/NBD's, the expected spend is Gamma-Gamma's where the policy has its parameters, else the
customer's own mean. Both are per day with a purchase, the unit in which the model counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from models import units
from models.customer import Facts
from models.gamma_gamma import GammaGamma
from models.risk import RiskModel, age_weeks, mean_spend_minor, repeat_purchases

YEAR_WEEKS: Final = 365.25 / 7
PARTS: Final = 4
"""The number of parts into which the horizon is cut for discounting; each is discounted from its middle."""
RESOLVED: Final = 2
"""Index in bodies.STATUSES of the status in which a complaint costs nothing more."""


@dataclass(frozen=True, slots=True)
class ValueModel:
    """The value part of a policy."""

    horizon_ms: int
    margin: float = 1.0
    """The share of net spend that is profit."""
    annual_discount: float = 0.0
    """With 0.1, an amount a year from now is worth 1 / 1.1 of it."""
    cost_to_serve_minor: tuple[int, ...] = ()
    """Per year, by rank of the tier; 0 for ranks beyond the end."""
    complaint_cost_minor: tuple[int, ...] = (0, 0, 0, 0)
    """Per open complaint, indexed like bodies.SEVERITIES."""
    spend: GammaGamma | None = None
    """With v in minor units."""

    def at_stake_minor(self, risk: RiskModel, facts: Facts, tier_rank: int, at_ms: int) -> int:
        """What the customer is worth within the horizon if they stay; at least 0."""
        return max(round(self._if_they_stay(risk, facts, tier_rank, at_ms)), 0)

    def lifetime_minor(self, risk: RiskModel, facts: Facts, tier_rank: int, at_ms: int) -> int:
        """What the customer is expected to be worth within the horizon, given that they may have left already. May be
        negative.
        """
        worth = risk.p_alive(facts, at_ms) * self._if_they_stay(risk, facts, tier_rank, at_ms)
        for one in risk.complaints(facts, at_ms):
            if one.status != RESOLVED:
                worth -= self.complaint_cost_minor[one.severity]
        return round(worth)

    def yearly_cost_minor(self, tier_rank: int) -> int:
        """What serving a customer of the tier costs in a year."""
        return self.cost_to_serve_minor[tier_rank] if tier_rank < len(self.cost_to_serve_minor) else 0

    def yearly_benefit_minor(self, spend_minor: float, tier_rank: int, open_severities: list[int]) -> float:
        """What a year with this net spend is worth: the margin, less the cost of serving the tier and of the complaints
        that are still open (by severity). May be negative.
        """
        complaints_minor = sum(self.complaint_cost_minor[severity] for severity in open_severities)
        return self.margin * spend_minor - self.yearly_cost_minor(tier_rank) - complaints_minor

    def spend_minor(self, facts: Facts) -> float:
        """Expected net spend of a day with a purchase; 0 for a customer whose refunds exceed their spend."""
        mean = mean_spend_minor(facts)
        if self.spend is None or mean == 0.0:
            return mean
        return self.spend.expected_spend(facts.purchase_days, mean)

    def _if_they_stay(self, risk: RiskModel, facts: Facts, tier_rank: int, at_ms: int) -> float:
        spend = self.spend_minor(facts)
        horizon = self.horizon_ms / units.WEEK_MS
        worth = 0.0
        if spend:
            x, age = repeat_purchases(facts), age_weeks(facts, at_ms)
            worth = self.margin * spend * self._discounted_purchases(risk, x, age, horizon)
        cost_minor = self.yearly_cost_minor(tier_rank)
        return worth - cost_minor * horizon / YEAR_WEEKS * self._discount(horizon / 2)

    def _discounted_purchases(self, risk: RiskModel, x: int, age: float, horizon: float) -> float:
        if not self.annual_discount:
            return risk.mbg.expected_purchases_if_alive(x, age, horizon)
        part = horizon / PARTS
        total = before = 0.0
        for number in range(1, PARTS + 1):
            until = risk.mbg.expected_purchases_if_alive(x, age, number * part)
            total += (until - before) * self._discount((number - 0.5) * part)
            before = until
        return total

    def _discount(self, weeks: float) -> float:
        """The present value of 1 that is received in so many weeks."""
        worth: float = (1.0 + self.annual_discount) ** (-weeks / YEAR_WEEKS)
        return worth
