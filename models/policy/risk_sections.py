"""The sections of a policy file about the churn risk and what a customer is worth."""

from __future__ import annotations

import math
from typing import Final

from models import units
from models.bodies import SEVERITIES, STATUSES
from models.customer import BASE_LEVEL
from models.gamma_gamma import GammaGamma
from models.mbg_nbd import MbgNbd
from models.policy.form import PolicySpec
from models.policy.settings_reader import SettingsReader
from models.risk import Card, ComplaintRisk, Level, RiskModel
from models.tiers import Tier
from models.value import ValueModel

MOST_WEIGHT: Final = 1000.0
LEAST_WEIGHT: Final = 0.001
"""Of model or silence: with a smaller one no silence would ever cross a threshold."""
MOST_SPEND: Final = 1e12
LONGEST_HORIZON: Final = 10_000
"""In units of alpha / (r + 1). The model's expected purchases are a sum, which grows with it."""


def build_levels(reader: SettingsReader, file: PolicySpec) -> tuple[Level, ...]:
    """`[[risk.levels]]`."""
    levels: list[Level] = []
    specs = file.risk.levels
    reader.check(bool(specs), "risk.levels", "there is no level", "Add [[risk.levels]], lowest first")
    for index, spec in enumerate(specs):
        path = f"risk.levels[{index}]"
        names = [BASE_LEVEL, *(level.name for level in levels)]
        reader.check(
            spec.name not in names, f"{path}.name", f"{spec.name!r} is taken", "Give every level a name of its own"
        )
        in_range = 0 < spec.ease_below <= spec.raise_at < 1
        reader.check(
            in_range,
            path,
            "needs 0 < ease_below <= raise_at < 1",
            "Raise at a higher probability than it eases below",
        )
        level = (
            Level(spec.name, index + 1, _logit(spec.raise_at), _logit(spec.ease_below))
            if in_range
            else Level(spec.name, index + 1, 0.0, 0.0)
        )
        if levels and in_range:
            rises = level.raise_at > levels[-1].raise_at and level.ease_below >= levels[-1].ease_below
            reader.check(
                rises, path, f"is not above the level {levels[-1].name!r}", "Put the levels in order, lowest first"
            )
        levels.append(level)
    return tuple(levels)


def build_risk(reader: SettingsReader, file: PolicySpec, levels: tuple[Level, ...]) -> RiskModel:
    """`[risk]` and its tables."""
    spec = file.risk
    for name in ("r", "alpha_weeks", "a", "b"):
        value = getattr(spec, name)
        reader.check(
            0 < value < 1e6 and math.isfinite(value),
            f"risk.{name}",
            f"{value} is not a parameter",
            "Write a number above 0",
        )
    reader.check(abs(spec.a - 1) > 1e-9, "risk.a", "the model has no expectation at a = 1", "Use 0.999 or 1.001")
    reader.check(
        0 <= spec.satisfaction.neutral <= 100,
        "risk.satisfaction.neutral",
        "is not within 0 and 100",
        "Write a score of 0 to 100",
    )
    reader.check(
        0 <= spec.satisfaction.per_ten_points <= 10,
        "risk.satisfaction.per_ten_points",
        "is out of range: a better answer never raises the risk",
        "Write 0 to 10",
    )
    return RiskModel(
        MbgNbd(spec.r, spec.alpha_weeks, spec.a, spec.b),
        spec.fitted_on,
        reader.duration("risk.horizon", spec.horizon, units.DAY_MS),
        levels,
        _build_complaint_risk(reader, file),
        spec.satisfaction.neutral,
        spec.satisfaction.per_ten_points / 10,
        reader.duration("satisfaction.valid_for", file.satisfaction.valid_for, units.DAY_MS),
        _build_card(reader, file),
    )


def _build_card(reader: SettingsReader, file: PolicySpec) -> Card:
    spec, path = file.risk.card, "risk.card"
    if spec is None:
        return Card()
    for name in ("intercept", "model", "silence", "frequency", "spend", "basket_trend"):
        reader.check(
            abs(getattr(spec, name)) <= MOST_WEIGHT,
            f"{path}.{name}",
            f"{getattr(spec, name)} is not a weight",
            f"Write a number between -{MOST_WEIGHT:.0f} and {MOST_WEIGHT:.0f}",
        )
    for name in ("model", "silence"):
        reader.check(
            getattr(spec, name) >= 0,
            f"{path}.{name}",
            "is negative: the risk would fall with silence",
            "Write a number from 0 up",
        )
    for name in ("frequency", "spend", "basket_trend"):
        reader.check(
            getattr(spec, name) <= 0,
            f"{path}.{name}",
            "is positive: the risk would rise with purchases",
            "Write a number up to 0",
        )
    least = LEAST_WEIGHT
    reader.check(
        max(spec.model, spec.silence) >= least,
        path,
        "would not rise with silence",
        f"Give model or silence a weight of at least {least}",
    )
    typical_minor = 1
    if spec.typical_spend is not None:
        typical_minor = reader.amount(f"{path}.typical_spend", spec.typical_spend)
    reader.check(
        typical_minor >= 1 and (spec.typical_spend is not None or not (spec.spend or spec.basket_trend)),
        f"{path}.typical_spend",
        "is needed by spend and basket_trend, and more than 0",
        "Write what a customer spends on a typical day with a purchase",
    )
    return Card(
        spec.intercept,
        spec.model,
        spec.silence,
        spec.frequency,
        spec.spend,
        spec.basket_trend,
        max(typical_minor, 1),
    )


def _build_complaint_risk(reader: SettingsReader, file: PolicySpec) -> ComplaintRisk:
    spec, path = file.risk.complaints, "risk.complaints"
    for table, names in (("severity", SEVERITIES), ("status", STATUSES)):
        given = getattr(spec, table)
        reader.check(
            set(given) == set(names),
            f"{path}.{table}",
            f"has {', '.join(given) or 'nothing'}",
            f"Give each of {', '.join(names)}",
        )
        for name, value in given.items():
            reader.check(
                0 <= value <= 10,
                f"{path}.{table}.{name}",
                "is out of range: a complaint never lowers the risk",
                "Write 0 to 10",
            )
    reader.check(1 <= spec.repeat_factor <= 10, f"{path}.repeat_factor", "is out of range", "Write 1 to 10")
    reader.check(0 <= spec.protection <= 10, f"{path}.protection", "is out of range", "Write 0 to 10")
    forget_after_ms = reader.duration(f"{path}.forget_after", spec.forget_after, units.DAY_MS)
    step_ms = reader.duration(f"{path}.step", spec.step, units.HOUR_MS)
    reader.check(
        forget_after_ms <= 1000 * step_ms,
        f"{path}.step",
        "is very small beside forget_after",
        "Use a longer one, such as 7d",
    )
    return ComplaintRisk(
        tuple(spec.severity.get(name, 0.0) for name in SEVERITIES),
        tuple(spec.status.get(name, 0.0) for name in STATUSES),
        reader.duration(f"{path}.repeat_within", spec.repeat_within),
        spec.repeat_factor,
        reader.duration(f"{path}.half_life", spec.half_life, units.HOUR_MS),
        step_ms,
        forget_after_ms,
        spec.protection,
    )


def build_value(reader: SettingsReader, file: PolicySpec, tiers: tuple[Tier, ...], risk_horizon_ms: int) -> ValueModel:
    """`[value]`; its horizon is the risk's unless the file has another."""
    spec = file.value
    reader.check(0 < spec.margin <= 1, "value.margin", "is not a share", "Write a number above 0, at most 1")
    reader.check(0 <= spec.annual_discount <= 1, "value.annual_discount", "is not a rate", "Write 0 to 1, such as 0.1")
    names = [tier.name for tier in tiers]
    for table, known in (("cost_to_serve", names), ("complaint_cost", list(SEVERITIES))):
        for name in getattr(spec, table):
            reader.check(name in known, f"value.{table}.{name}", "is not known", f"Use one of {', '.join(known)}")
    horizon_ms = (
        risk_horizon_ms if spec.horizon is None else reader.duration("value.horizon", spec.horizon, units.DAY_MS)
    )
    r, alpha = file.risk.r, file.risk.alpha_weeks
    if r > 0 and alpha > 0:  # what is no parameter has been reported
        least = (r + 1) * horizon_ms / units.WEEK_MS / LONGEST_HORIZON
        reader.check(
            alpha >= least,
            "risk.alpha_weeks",
            f"{alpha:g} weeks are too short for r = {r:g} and a value's horizon of {units.format_duration(horizon_ms)}",
            f"Write at least {least:.4g}, or a shorter horizon",
        )
    return ValueModel(
        horizon_ms,
        spec.margin,
        spec.annual_discount,
        tuple(reader.amount(f"value.cost_to_serve.{name}", spec.cost_to_serve.get(name, 0)) for name in names),
        tuple(reader.amount(f"value.complaint_cost.{name}", spec.complaint_cost.get(name, 0)) for name in SEVERITIES),
        _build_spend(reader, file),
    )


def _build_spend(reader: SettingsReader, file: PolicySpec) -> GammaGamma | None:
    spec = file.value.spend
    if spec is None:
        return None
    for name, least in (("p", 0), ("q", 1), ("v", 0)):
        value = getattr(spec, name)
        reader.check(
            least < value < MOST_SPEND,
            f"value.spend.{name}",
            f"{value} is not a parameter",
            f"Write a number above {least}",
        )
    return GammaGamma(spec.p, spec.q, spec.v * 10**reader.decimals) if spec.q > 1 else None


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
