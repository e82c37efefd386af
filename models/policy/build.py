"""From the settings of a policy file to a policy, with every problem found on the way."""

from __future__ import annotations

import re
from fractions import Fraction

from models import units
from models.parameters import Parameters
from models.policy.alert_sections import build_actions, build_alerts, build_life_cycle
from models.policy.form import PolicySpec
from models.policy.policy import Policy
from models.policy.problems import PolicyError
from models.policy.risk_sections import build_levels, build_risk, build_value
from models.policy.settings_reader import SettingsReader
from models.policy.tier_sections import build_relative, build_score, build_segments, build_tiers, build_window
from models.tiers import ScoreCard, Tier, TierLadder


def build(spec: PolicySpec, text: str, source: str, parameters: Parameters | None = None) -> Policy:
    """The policy of these settings; `text` is the file's, `source` its name. Raises PolicyError with every problem
    found.
    """
    reader = SettingsReader(text, units.currency_decimals(spec.currency))
    reader.check(
        bool(re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", spec.id)),
        "id",
        f"{spec.id!r} is not an id",
        "Use lower-case letters, digits and - . _",
    )
    reader.check(
        spec.version >= 1, "version", f"{spec.version} is not a version", "Start with 1 and count up at each change"
    )
    reader.check(
        _is_currency(spec.currency),
        "currency",
        f"{spec.currency!r} is not a currency",
        "Write its three capital letters of ISO 4217, such as CNY",
    )
    window = build_window(reader, spec)
    period_ms = reader.duration("period", spec.period, 1)
    reader.check(
        period_ms % window.bucket_ms == 0,
        "period",
        f"{spec.period} is not a multiple of window.bucket",
        "Choose one that is, such as 30d",
    )
    grace_ms = (
        None if spec.downgrade.grace == "period-end" else reader.duration("downgrade.grace", spec.downgrade.grace)
    )
    if grace_ms is None:
        reader.check(
            window.kind != "trailing",
            "downgrade.grace",
            "a trailing window has no period-end",
            "Write a duration such as 30d",
        )
    tiers = build_tiers(reader, spec)
    score = build_score(reader, spec)
    for index, tier in enumerate(spec.tiers):
        reader.check(
            tier.min_score is None or score is not None,
            f"tiers[{index}].min_score",
            "there is no [score] to compare it with",
            "Add the table [score]",
        )
    levels = build_levels(reader, spec)
    risk = build_risk(reader, spec, levels)
    assumed = spec.satisfaction.assume
    reader.check(
        assumed is None or 0 <= assumed <= 100,
        "satisfaction.assume",
        f"{assumed} is not within 0 and 100",
        "Write a score of 0 to 100, or leave it out",
    )
    policy = Policy(
        id=spec.id,
        version=spec.version,
        title=spec.title,
        currency=spec.currency,
        rates=_build_rates(reader, spec),
        window=window,
        period_ms=period_ms,
        ladder=TierLadder(tiers, score, _recency_limits(tiers, score)),
        grace_ms=grace_ms,
        one_step=spec.downgrade.step == "one",
        min_hold_ms=reader.duration("downgrade.min_hold", spec.downgrade.min_hold),
        satisfaction_valid_for_ms=risk.satisfaction_valid_for_ms,
        satisfaction_assumed=assumed,
        risk=risk,
        relative=build_relative(reader, spec, tiers),
        segments=build_segments(reader, spec),
        life=build_life_cycle(reader, spec),
        text=text,
        value=build_value(reader, spec, tiers, risk.horizon_ms),
        parameters="" if parameters is None else parameters.digest,
        fitted_until_ms=-1 if parameters is None else parameters.fit.ends_ms,
        fitted=parameters,
        actions=build_actions(reader, spec, tiers, levels),
        alerts=build_alerts(reader, spec, levels),
    )
    if reader.problems:
        raise PolicyError(source, reader.problems)
    return policy


def _build_rates(reader: SettingsReader, spec: PolicySpec) -> dict[str, tuple[int, int]]:
    """Per currency, the exact fraction from its minor units to the policy's."""
    rates = {spec.currency: (1, 1)}
    for currency, written in spec.rates.items():
        path = f"rates.{currency}"
        reader.check(
            _is_currency(currency),
            path,
            f"{currency!r} is not a currency",
            "Write its three capital letters of ISO 4217",
        )
        reader.check(currency != spec.currency, path, "is the policy's own currency", "Remove it")
        rate = reader.read(path, _positive_fraction, written, Fraction(1))
        shift = reader.decimals - units.currency_decimals(currency)
        rate *= Fraction(10) ** shift
        rates[currency] = (rate.numerator, rate.denominator)
    return rates


def _recency_limits(tiers: tuple[Tier, ...], score: ScoreCard | None) -> tuple[int, ...]:
    limits = {tier.max_recency_ms for tier in tiers if tier.max_recency_ms is not None}
    limits.update(score.recency.breakpoints if score else ())
    return tuple(sorted(limits))


def _is_currency(text: str) -> bool:
    return bool(re.fullmatch(r"[A-Z]{3}", text))


def _positive_fraction(written: str) -> Fraction:
    try:
        # Without an exponent: "1e99999999" would keep Fraction busy for hours.
        rate = Fraction(written) if re.fullmatch(r"\d{1,12}(\.\d{1,12}|/\d{1,12})?", written, re.ASCII) else Fraction(0)
    except ZeroDivisionError:
        rate = Fraction(0)
    if rate <= 0:
        raise ValueError(
            f'{written!r} is not a rate; write how much of the policy\'s currency one unit is worth, as in "7.10"'
        )
    return rate
