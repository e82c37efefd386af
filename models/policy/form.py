"""The form of a policy file: one class per table, one field per setting."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct, field

from models.facts import WindowKind

FORM_VERSION: Final = 1
"""Raised when a policy file that was valid is refused, or means something else; a new setting with a default is neither."""


class Spec(Struct, forbid_unknown_fields=True, kw_only=True):
    """A table of the file; an unknown setting is an error."""


class WindowSpec(Spec, kw_only=True):
    """`[window]`: `length` for the trailing kind only."""

    kind: WindowKind = "trailing"
    length: str | None = None
    bucket: str = "1h"
    lateness: str | None = None
    utc_offset: str = "+00:00"


class TierSpec(Spec, kw_only=True):
    """`[[tiers]]`, lowest first: all requirements must hold. `top_share` is a share of the customers, by spend in the
    window.
    """

    name: str
    min_spend: str | int | None = None
    min_orders: int | None = None
    min_active_periods: int | None = None
    min_satisfaction: int | None = None
    max_recency: str | None = None
    min_score: str | float | int | None = None
    top_share: float | None = None


class ScoreTermSpec(Spec, kw_only=True):
    """One term of `[score]`: one point, and one more for each breakpoint reached; without breakpoints, by quintiles."""

    weight: str | float | int
    breakpoints: list[str | int] | None = None


class ScoreSpec(Spec, kw_only=True):
    """`[score]`: the weighted R-F-M score that `min_score` refers to."""

    recency: ScoreTermSpec
    frequency: ScoreTermSpec
    monetary: ScoreTermSpec


class RelativeSpec(Spec, kw_only=True):
    """`[relative]`: how often a census computes the thresholds that depend on all customers."""

    every: str = "1d"


class SegmentSpec(Spec, kw_only=True):
    """`[[segments]]`: a name for customers by their points in `[score]`, each within a range; the first that matches."""

    name: str
    recency: tuple[int, int] = (1, 5)
    frequency: tuple[int, int] = (1, 5)
    monetary: tuple[int, int] = (1, 5)


class LifeCycleSpec(Spec, kw_only=True):
    """`[life_cycle]`: stages by days with a purchase, tenure and silence; behaviour by the mean gap between purchases."""

    loyal_days: int = 5
    loyal_after: str = "180d"
    cooling_after: str = "60d"
    lost_after: str = "180d"
    high_frequency: str = "7d"
    active: str = "30d"
    regular: str = "90d"


class DowngradeSpec(Spec, kw_only=True):
    """`[downgrade]`: after a grace period, never before a minimum hold, one step or straight."""

    grace: str = "30d"
    step: Literal["one", "direct"] = "one"
    min_hold: str = "0d"


class SatisfactionSpec(Spec, kw_only=True):
    """`[satisfaction]`: how long an answer counts, and which score is assumed without one."""

    valid_for: str = "365d"
    assume: int | None = None


class LevelSpec(Spec, kw_only=True):
    """`[[risk.levels]]`, lowest first: probabilities at which it is raised and below which it eases."""

    name: str
    raise_at: float
    ease_below: float


class ComplaintRiskSpec(Spec, kw_only=True):
    """`[risk.complaints]`: log-odds by severity, factors by status, and how they fade."""

    severity: dict[str, float]
    status: dict[str, float]
    repeat_within: str = "60d"
    repeat_factor: float = 1.5
    half_life: str = "60d"
    step: str = "7d"
    forget_after: str = "365d"
    protection: float = 0.25


class SatisfactionRiskSpec(Spec, kw_only=True):
    """`[risk.satisfaction]`: log-odds for every ten points below `neutral`."""

    neutral: int = 70
    per_ten_points: float = 0.15


class CardSpec(Spec, kw_only=True):
    """`[risk.card]`: the weights of a fitted score card; without it the score is the model's."""

    intercept: float = 0.0
    model: float = 1.0
    silence: float = 0.0
    frequency: float = 0.0
    spend: float = 0.0
    basket_trend: float = 0.0
    typical_spend: str | int | None = None


class RiskSpec(Spec, kw_only=True):
    """`[risk]`: MBG/NBD parameters, time in weeks, and the terms added to its log-odds.

    `parameters` names a file made by `tierstream policy fit`; it replaces `fitted_on`, r, alpha_weeks, a, b, horizon and card,
    and the settings of complaints and satisfaction that it has.
    """

    model: Literal["mbg-nbd"] = "mbg-nbd"
    parameters: str | None = None
    fitted_on: str
    r: float
    alpha_weeks: float
    a: float
    b: float
    horizon: str = "90d"
    levels: list[LevelSpec]
    card: CardSpec | None = None
    complaints: ComplaintRiskSpec
    satisfaction: SatisfactionRiskSpec = field(default_factory=SatisfactionRiskSpec)


class SpendSpec(Spec, kw_only=True):
    """`[value.spend]`: Gamma-Gamma parameters, for amounts in the policy's currency."""

    p: float
    q: float
    v: float


class ValueSpec(Spec, kw_only=True):
    """`[value]`: what a customer is worth. Without `horizon` it is the risk's; costs are in the policy's currency."""

    horizon: str | None = None
    margin: float = 1.0
    annual_discount: float = 0.0
    cost_to_serve: dict[str, str | int] = {}
    complaint_cost: dict[str, str | int] = {}
    spend: SpendSpec | None = None


class ActionSpec(Spec, kw_only=True):
    """`[[actions]]`: the first row that matches an alert is recommended. `do_zh` says the same in Chinese."""

    do: str
    do_zh: str | None = None
    within: str
    tier: str | None = None
    cause: str | None = None
    level: str | None = None


class AlertsSpec(Spec, kw_only=True):
    """`[alerts]`: from which risk level on alerts are made, and what limits their number."""

    level: str | None = None
    cool_down: str = "30d"
    deadline: str = "7d"
    hold_silence: bool = True
    budget: int | None = None
    incident_customers: int = 20
    incident_within: str = "1h"


class PolicySpec(Spec, kw_only=True):
    """The whole file."""

    id: str
    version: int
    title: str
    currency: str
    rates: dict[str, str] = {}
    base_tier: str = "none"
    period: str = "30d"
    window: WindowSpec
    tiers: list[TierSpec]
    score: ScoreSpec | None = None
    relative: RelativeSpec | None = None
    segments: list[SegmentSpec] = []
    life_cycle: LifeCycleSpec | None = None
    downgrade: DowngradeSpec = field(default_factory=DowngradeSpec)
    satisfaction: SatisfactionSpec = field(default_factory=SatisfactionSpec)
    risk: RiskSpec
    value: ValueSpec = field(default_factory=ValueSpec)
    actions: list[ActionSpec] = []
    alerts: AlertsSpec | None = None


TABLES: dict[str, type[Spec]] = {
    "": PolicySpec,
    "window": WindowSpec,
    "tiers": TierSpec,
    "score": ScoreSpec,
    "score.recency": ScoreTermSpec,
    "score.frequency": ScoreTermSpec,
    "score.monetary": ScoreTermSpec,
    "relative": RelativeSpec,
    "segments": SegmentSpec,
    "life_cycle": LifeCycleSpec,
    "downgrade": DowngradeSpec,
    "satisfaction": SatisfactionSpec,
    "risk": RiskSpec,
    "risk.card": CardSpec,
    "risk.levels": LevelSpec,
    "risk.complaints": ComplaintRiskSpec,
    "risk.satisfaction": SatisfactionRiskSpec,
    "value": ValueSpec,
    "value.spend": SpendSpec,
    "actions": ActionSpec,
    "alerts": AlertsSpec,
}
"""The tables of the file, by name."""
