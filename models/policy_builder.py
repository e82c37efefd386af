"""From a policy file's settings to a policy, with every problem found on the way."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final, TypeVar

from models import units
from models.alerts import AlertRules
from models.bodies import SEVERITIES, STATUSES
from models.customer import BASE_LEVEL
from models.events import MAX_AMOUNT_MINOR
from models.facts import Window
from models.gamma_gamma import GammaGamma
from models.life import LifeCycle
from models.mbg_nbd import MbgNbd
from models.parameters import Parameters
from models.policy import Action, Policy, Relative, Segment
from models.policy_form import PolicySpec, RelativeSpec, ScoreTermSpec
from models.policy_lines import line_of
from models.policy_problem import Problem
from models.risk import Card, ComplaintRisk, Level, RiskModel
from models.tiers import NOT_DRAWN_MINOR, ScoreCard, ScoreTerm, Tier, TierLadder
from models.value import ValueModel

CAUSES: Final = ("base", "rhythm", "silence", "complaints", "satisfaction", "basket_trend")
"""What can be the main cause of an alert: the terms of the risk score that can raise it."""

LONGEST_MS: Final = 100 * 365 * units.DAY_MS
"""No duration is longer: so every instant computed from an event's time and a policy can be written as RFC 3339."""

MOST_WEIGHT: Final = 1000.0
LEAST_WEIGHT: Final = 0.001
"""Of model or silence: less, and no silence would ever cross a line."""
MOST_SPEND: Final = 1e12
MOST_SEGMENTS: Final = 10
MOST_BUDGET: Final = 10_000

_T = TypeVar("_T")


class Builder:
    """Turns a file's spec into a policy, collecting what is wrong on the way."""

    def __init__(self, spec: PolicySpec, text: str, parameters: Parameters | None = None) -> None:
        self.spec = spec
        self.parameters = parameters
        self.text = text
        self.problems: list[Problem] = []
        self.decimals = units.currency_decimals(spec.currency)

    def _problem(self, path: str, what: str, mend: str) -> None:
        self.problems.append(Problem(line_of(self.text, path), path, what, mend))

    def _check(self, holds: bool, path: str, what: str, mend: str) -> None:
        if not holds:
            self._problem(path, what, mend)

    def _read(self, path: str, parser: Callable[[Any], _T], value: Any, otherwise: _T) -> _T:
        """`parser(value)`; where that raises ValueError a problem at `path`, and `otherwise`."""
        try:
            return parser(value)
        except ValueError as error:
            what, _, mend = str(error).partition("; ")
            self._problem(path, what, mend[:1].upper() + mend[1:] if mend else "Write a valid value")
            return otherwise

    def _duration(self, path: str, value: str, least_ms: int = 0) -> int:
        duration_ms = self._read(path, units.parse_duration, value, max(least_ms, 1))
        self._check(
            duration_ms >= least_ms, path, f"{value} is too short", f"Write at least {units.format_duration(least_ms)}"
        )
        self._check(
            duration_ms <= LONGEST_MS,
            path,
            f"{value} is too long",
            f"Write at most {units.format_duration(LONGEST_MS)}",
        )
        return min(max(duration_ms, least_ms), LONGEST_MS)

    def _amount(self, path: str, value: str | int) -> int:
        minor = self._read(path, lambda given: units.parse_minor(given, self.decimals), value, 0)
        self._check(0 <= minor <= MAX_AMOUNT_MINOR, path, f"{value} is out of range", "Write an amount from 0 up")
        return minor

    def _milli(self, path: str, value: str | float | int) -> int:
        """Thousandths, exactly: scores and weights have at most three decimals."""
        return self._read(path, _milli, value, 0)

    def build(self) -> Policy:
        """The policy; to be used only if no problem was found."""
        spec = self.spec
        self._check(
            bool(re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", spec.id)),
            "id",
            f"{spec.id!r} is not an id",
            "Use lower-case letters, digits and - . _",
        )
        self._check(
            spec.version >= 1, "version", f"{spec.version} is not a version", "Start with 1 and count up at each change"
        )
        self._check(
            _is_currency(spec.currency),
            "currency",
            f"{spec.currency!r} is not a currency",
            "Write its three capital letters of ISO 4217, such as CNY",
        )
        window = self._window()
        period_ms = self._duration("period", spec.period, 1)
        self._check(
            period_ms % window.bucket_ms == 0,
            "period",
            f"{spec.period} is not a multiple of window.bucket",
            "Choose one that is, such as 30d",
        )
        grace_ms = (
            None if spec.downgrade.grace == "period-end" else self._duration("downgrade.grace", spec.downgrade.grace)
        )
        if grace_ms is None:
            self._check(
                window.kind != "trailing",
                "downgrade.grace",
                "a trailing window has no period-end",
                "Write a duration such as 30d",
            )
        tiers = self._tiers()
        score = self._score()
        for index, tier in enumerate(spec.tiers):
            self._check(
                tier.min_score is None or score is not None,
                f"tiers[{index}].min_score",
                "there is no [score] to compare it with",
                "Add the table [score]",
            )
        levels = self._levels()
        risk = self._risk(levels)
        assumed = spec.satisfaction.assume
        self._check(
            assumed is None or 0 <= assumed <= 100,
            "satisfaction.assume",
            f"{assumed} is not within 0 and 100",
            "Write a score of 0 to 100, or leave it out",
        )
        return Policy(
            id=spec.id,
            version=spec.version,
            title=spec.title,
            currency=spec.currency,
            rates=self._rates(),
            window=window,
            period_ms=period_ms,
            ladder=TierLadder(tiers, score, _recency_limits(tiers, score)),
            grace_ms=grace_ms,
            one_step=spec.downgrade.step == "one",
            min_hold_ms=self._duration("downgrade.min_hold", spec.downgrade.min_hold),
            satisfaction_valid_for_ms=risk.satisfaction_valid_for_ms,
            satisfaction_assumed=assumed,
            risk=risk,
            relative=self._relative(tiers),
            segments=self._segments(),
            life=self._life_cycle(),
            text=self.text,
            value=self._value(tiers, risk.horizon_ms),
            parameters="" if self.parameters is None else self.parameters.digest,
            fitted_until_ms=-1 if self.parameters is None else self.parameters.fit.ends_ms,
            fitted=self.parameters,
            actions=self._actions(tiers, levels),
            alerts=self._alerts(levels),
        )

    def _rates(self) -> dict[str, tuple[int, int]]:
        """Per currency, the exact fraction from its minor units to the policy's."""
        rates = {self.spec.currency: (1, 1)}
        for currency, written in self.spec.rates.items():
            path = f"rates.{currency}"
            self._check(
                _is_currency(currency),
                path,
                f"{currency!r} is not a currency",
                "Write its three capital letters of ISO 4217",
            )
            self._check(currency != self.spec.currency, path, "is the policy's own currency", "Remove it")
            rate = self._read(path, _positive_fraction, written, Fraction(1))
            shift = self.decimals - units.currency_decimals(currency)
            rate *= Fraction(10) ** shift
            rates[currency] = (rate.numerator, rate.denominator)
        return rates

    def _window(self) -> Window:
        spec = self.spec.window
        bucket_ms = self._duration("window.bucket", spec.bucket, units.MINUTE_MS)
        self._check(
            units.DAY_MS % bucket_ms == 0,
            "window.bucket",
            f"{spec.bucket} does not divide a day",
            "Use 1m, 5m, 15m, 30m, 1h, 6h, 12h or 1d",
        )
        offset_ms = self._read("window.utc_offset", units.parse_utc_offset, spec.utc_offset, 0)
        self._check(
            offset_ms % bucket_ms == 0,
            "window.utc_offset",
            f"{spec.utc_offset} is not a multiple of window.bucket",
            "Use smaller buckets, such as 30m or 15m",
        )
        if spec.kind == "trailing":
            if spec.length is None:
                self._problem("window", "a trailing window needs a length", 'Add length = "365d"')
            length_ms = self._duration("window.length", spec.length or "365d", units.DAY_MS)
        else:
            self._check(
                spec.length is None, "window.length", f"a {spec.kind} window has its year for a length", "Remove it"
            )
            length_ms = 366 * units.DAY_MS
        lateness_ms = length_ms if spec.lateness is None else self._duration("window.lateness", spec.lateness)
        return Window(spec.kind, length_ms, bucket_ms, offset_ms, lateness_ms)

    def _tiers(self) -> tuple[Tier, ...]:
        spec = self.spec
        tiers = [Tier(spec.base_tier, 0)]
        self._check(0 < len(spec.base_tier) <= 64, "base_tier", "is empty or too long", "Use 1 to 64 characters")
        self._check(bool(spec.tiers), "tiers", "there is no tier", "Add [[tiers]], lowest first")
        for index, tier in enumerate(spec.tiers):
            path = f"tiers[{index}]"
            names = [known.name for known in tiers]
            self._check(
                tier.name not in names,
                f"{path}.name",
                f"{tier.name!r} is there already",
                "Give every tier a name of its own",
            )
            self._check(0 < len(tier.name) <= 64, f"{path}.name", "is empty or too long", "Use 1 to 64 characters")
            given = [name for name in tier.__struct_fields__ if name != "name" and getattr(tier, name) is not None]
            self._check(
                bool(given),
                path,
                "asks for nothing",
                "Give it at least one of min_spend, min_orders, min_active_periods, min_satisfaction, max_recency, min_score, "
                "top_share",
            )
            self._check(
                tier.top_share is None or 0 < tier.top_share < 1,
                f"{path}.top_share",
                f"{tier.top_share} is not a share",
                "Write a number between 0 and 1, such as 0.05",
            )
            self._check(
                tier.top_share is None or tier.min_spend is None,
                f"{path}.min_spend",
                "and top_share draw the same line",
                "Remove one of them",
            )
            for name in ("min_orders", "min_active_periods", "min_satisfaction"):
                value = getattr(tier, name)
                most = 100 if name == "min_satisfaction" else 10**6
                self._check(
                    value is None or 0 <= value <= most,
                    f"{path}.{name}",
                    f"{value} is out of range",
                    f"Write 0 to {most}",
                )
            tiers.append(
                Tier(
                    tier.name,
                    index + 1,
                    self._amount(f"{path}.min_spend", tier.min_spend)
                    if tier.min_spend is not None
                    else None
                    if tier.top_share is None
                    else NOT_DRAWN_MINOR,
                    tier.min_orders,
                    tier.min_active_periods,
                    tier.min_satisfaction,
                    None if tier.max_recency is None else self._duration(f"{path}.max_recency", tier.max_recency, 1),
                    None if tier.min_score is None else self._milli(f"{path}.min_score", tier.min_score),
                )
            )
        self._check_ascending(tiers)
        return tuple(tiers)

    def _relative(self, tiers: tuple[Tier, ...]) -> Relative | None:
        spec = self.spec
        shares = [
            (tier, one.top_share) for tier, one in zip(tiers[1:], spec.tiers, strict=False) if one.top_share is not None
        ]
        for (_, lower), (tier, higher) in pairwise(shares):
            self._check(
                higher < lower,
                f"tiers[{tier.rank - 1}].top_share",
                "is not smaller than that of the tier below it",
                "Put the tiers in order, lowest first",
            )
        by_quintiles = (
            ()
            if spec.score is None
            else tuple(
                name for name in ("recency", "frequency", "monetary") if getattr(spec.score, name).breakpoints is None
            )
        )
        if not shares and not by_quintiles:
            self._check(
                spec.relative is None, "relative", "draws no line", "Give a tier a top_share, or remove the table"
            )
            return None
        every = RelativeSpec().every if spec.relative is None else spec.relative.every
        return Relative(
            self._duration("relative.every", every, units.HOUR_MS),
            tuple((tier.rank, share) for tier, share in shares),
            by_quintiles,
        )

    def _segments(self) -> tuple[Segment, ...]:
        specs, found = self.spec.segments, []
        self._check(
            len(specs) <= MOST_SEGMENTS,
            f"segments[{MOST_SEGMENTS}]",
            f"are more than {MOST_SEGMENTS}",
            "Nobody can manage more: join some",
        )
        self._check(
            not specs or self.spec.score is not None, "segments", "need the points of a score", "Add the table [score]"
        )
        for index, spec in enumerate(specs):
            ranges = []
            for name in ("recency", "frequency", "monetary"):
                given = getattr(spec, name)
                holds = 1 <= given[0] <= given[1]
                self._check(
                    holds, f"segments[{index}].{name}", f"{given} is not a range of points", "Write as in [4, 5]"
                )
                ranges.append(given)
            found.append(Segment(spec.name, *ranges))
        return tuple(found)

    def _life_cycle(self) -> LifeCycle | None:
        spec = self.spec.life_cycle
        if spec is None:
            return None
        self._check(
            2 <= spec.loyal_days <= 1000,
            "life_cycle.loyal_days",
            f"{spec.loyal_days} is out of range",
            "Write 2 to 1000 days with a purchase",
        )
        names = ("high_frequency", "active", "regular", "cooling_after", "lost_after")
        times = {name: self._duration(f"life_cycle.{name}", getattr(spec, name), units.HOUR_MS) for name in names}
        for shorter, longer in (*pairwise(names[:3]), names[3:]):
            self._check(
                times[shorter] < times[longer],
                f"life_cycle.{longer}",
                f"is not longer than {shorter}",
                "Put them in order",
            )
        return LifeCycle(
            spec.loyal_days,
            self._duration("life_cycle.loyal_after", spec.loyal_after),
            times["cooling_after"],
            times["lost_after"],
            tuple((name.replace("_", "-"), times[name]) for name in names[:3]),
        )

    def _check_ascending(self, tiers: list[Tier]) -> None:
        """A higher tier that asks for less than a lower one is a slip: nobody would ever be in the lower."""
        for lower, higher in pairwise(tiers[1:]):
            path = f"tiers[{higher.rank - 1}]"
            for name in ("min_spend_minor", "min_orders", "min_active_periods", "min_satisfaction", "min_score_milli"):
                low, high = getattr(lower, name), getattr(higher, name)
                written = name.removesuffix("_minor").removesuffix("_milli")
                if low is not None and high is not None:
                    self._check(
                        high >= low,
                        f"{path}.{written}",
                        f"asks for less than the tier {lower.name!r} below it",
                        "Put the tiers in order, lowest first",
                    )
            if lower.max_recency_ms is not None and higher.max_recency_ms is not None:
                self._check(
                    higher.max_recency_ms <= lower.max_recency_ms,
                    f"{path}.max_recency",
                    f"asks for less than the tier {lower.name!r} below it",
                    "Put the tiers in order, lowest first",
                )

    def _score(self) -> ScoreCard | None:
        spec = self.spec.score
        if spec is None:
            return None
        recency = self._score_term(
            "score.recency", spec.recency, lambda path, value: self._duration(path, str(value), 1)
        )
        frequency = self._score_term(
            "score.frequency", spec.frequency, lambda path, value: self._read(path, int, value, 0)
        )
        monetary = self._score_term("score.monetary", spec.monetary, self._amount)
        return ScoreCard(recency, frequency, monetary)

    def _score_term(self, path: str, spec: ScoreTermSpec, read: Callable[[str, str | int], int]) -> ScoreTerm:
        weight_milli = self._milli(f"{path}.weight", spec.weight)
        self._check(weight_milli >= 0, f"{path}.weight", "is negative", "Write a weight from 0 up")
        if spec.breakpoints is None:
            return ScoreTerm(weight_milli, ())
        breakpoints = [read(f"{path}.breakpoints", value) for value in spec.breakpoints]
        ascending = all(low < high for low, high in pairwise(breakpoints))
        self._check(
            bool(breakpoints) and ascending,
            f"{path}.breakpoints",
            "are not ascending",
            "Write them from the smallest up",
        )
        return ScoreTerm(weight_milli, tuple(breakpoints))

    def _levels(self) -> tuple[Level, ...]:
        levels: list[Level] = []
        specs = self.spec.risk.levels
        self._check(bool(specs), "risk.levels", "there is no level", "Add [[risk.levels]], lowest first")
        for index, spec in enumerate(specs):
            path = f"risk.levels[{index}]"
            names = [BASE_LEVEL, *(level.name for level in levels)]
            self._check(
                spec.name not in names, f"{path}.name", f"{spec.name!r} is taken", "Give every level a name of its own"
            )
            in_range = 0 < spec.ease_below <= spec.raise_at < 1
            self._check(
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
                self._check(
                    rises, path, f"is not above the level {levels[-1].name!r}", "Put the levels in order, lowest first"
                )
            levels.append(level)
        return tuple(levels)

    def _risk(self, levels: tuple[Level, ...]) -> RiskModel:
        spec = self.spec.risk
        for name in ("r", "alpha_weeks", "a", "b"):
            value = getattr(spec, name)
            self._check(
                0 < value < 1e6 and math.isfinite(value),
                f"risk.{name}",
                f"{value} is not a parameter",
                "Write a number above 0",
            )
        self._check(abs(spec.a - 1) > 1e-9, "risk.a", "the model has no expectation at a = 1", "Use 0.999 or 1.001")
        self._check(
            0 <= spec.satisfaction.neutral <= 100,
            "risk.satisfaction.neutral",
            "is not within 0 and 100",
            "Write a score of 0 to 100",
        )
        self._check(
            0 <= spec.satisfaction.per_ten_points <= 10,
            "risk.satisfaction.per_ten_points",
            "is out of range: a better answer never raises the risk",
            "Write 0 to 10",
        )
        return RiskModel(
            MbgNbd(spec.r, spec.alpha_weeks, spec.a, spec.b),
            spec.fitted_on,
            self._duration("risk.horizon", spec.horizon, units.DAY_MS),
            levels,
            self._complaint_risk(),
            spec.satisfaction.neutral,
            spec.satisfaction.per_ten_points / 10,
            self._duration("satisfaction.valid_for", self.spec.satisfaction.valid_for, units.DAY_MS),
            self._card(),
        )

    def _card(self) -> Card:
        spec, path = self.spec.risk.card, "risk.card"
        if spec is None:
            return Card()
        for name in ("intercept", "model", "silence", "frequency", "spend", "basket_trend"):
            self._check(
                abs(getattr(spec, name)) <= MOST_WEIGHT,
                f"{path}.{name}",
                f"{getattr(spec, name)} is not a weight",
                f"Write a number between -{MOST_WEIGHT:.0f} and {MOST_WEIGHT:.0f}",
            )
        for name in ("model", "silence"):
            self._check(
                getattr(spec, name) >= 0,
                f"{path}.{name}",
                "is negative: the risk would fall with silence",
                "Write a number from 0 up",
            )
        for name in ("frequency", "spend", "basket_trend"):
            self._check(
                getattr(spec, name) <= 0,
                f"{path}.{name}",
                "is positive: the risk would rise with purchases",
                "Write a number up to 0",
            )
        least = LEAST_WEIGHT
        self._check(
            max(spec.model, spec.silence) >= least,
            path,
            "would not rise with silence",
            f"Give model or silence a weight of at least {least}",
        )
        typical_minor = 1
        if spec.typical_spend is not None:
            typical_minor = self._amount(f"{path}.typical_spend", spec.typical_spend)
        self._check(
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

    def _value(self, tiers: tuple[Tier, ...], risk_horizon_ms: int) -> ValueModel:
        spec = self.spec.value
        self._check(0 < spec.margin <= 1, "value.margin", "is not a share", "Write a number above 0, at most 1")
        self._check(
            0 <= spec.annual_discount <= 1, "value.annual_discount", "is not a rate", "Write 0 to 1, such as 0.1"
        )
        names = [tier.name for tier in tiers]
        for table, known in (("cost_to_serve", names), ("complaint_cost", list(SEVERITIES))):
            for name in getattr(spec, table):
                self._check(name in known, f"value.{table}.{name}", "is not known", f"Use one of {', '.join(known)}")
        return ValueModel(
            risk_horizon_ms if spec.horizon is None else self._duration("value.horizon", spec.horizon, units.DAY_MS),
            spec.margin,
            spec.annual_discount,
            tuple(self._amount(f"value.cost_to_serve.{name}", spec.cost_to_serve.get(name, 0)) for name in names),
            tuple(
                self._amount(f"value.complaint_cost.{name}", spec.complaint_cost.get(name, 0)) for name in SEVERITIES
            ),
            self._spend(),
        )

    def _spend(self) -> GammaGamma | None:
        spec = self.spec.value.spend
        if spec is None:
            return None
        for name, least in (("p", 0), ("q", 1), ("v", 0)):
            value = getattr(spec, name)
            self._check(
                least < value < MOST_SPEND,
                f"value.spend.{name}",
                f"{value} is not a parameter",
                f"Write a number above {least}",
            )
        return GammaGamma(spec.p, spec.q, spec.v * 10**self.decimals) if spec.q > 1 else None

    def _complaint_risk(self) -> ComplaintRisk:
        spec, path = self.spec.risk.complaints, "risk.complaints"
        for table, names in (("severity", SEVERITIES), ("status", STATUSES)):
            given = getattr(spec, table)
            self._check(
                set(given) == set(names),
                f"{path}.{table}",
                f"has {', '.join(given) or 'nothing'}",
                f"Give each of {', '.join(names)}",
            )
            for name, value in given.items():
                self._check(
                    0 <= value <= 10,
                    f"{path}.{table}.{name}",
                    "is out of range: a complaint never lowers the risk",
                    "Write 0 to 10",
                )
        self._check(1 <= spec.repeat_factor <= 10, f"{path}.repeat_factor", "is out of range", "Write 1 to 10")
        self._check(0 <= spec.protection <= 10, f"{path}.protection", "is out of range", "Write 0 to 10")
        forget_after_ms = self._duration(f"{path}.forget_after", spec.forget_after, units.DAY_MS)
        step_ms = self._duration(f"{path}.step", spec.step, units.HOUR_MS)
        self._check(
            forget_after_ms <= 1000 * step_ms,
            f"{path}.step",
            "is very small beside forget_after",
            "Use a longer one, such as 7d",
        )
        return ComplaintRisk(
            tuple(spec.severity.get(name, 0.0) for name in SEVERITIES),
            tuple(spec.status.get(name, 0.0) for name in STATUSES),
            self._duration(f"{path}.repeat_within", spec.repeat_within),
            spec.repeat_factor,
            self._duration(f"{path}.half_life", spec.half_life, units.HOUR_MS),
            step_ms,
            forget_after_ms,
            spec.protection,
        )

    def _actions(self, tiers: tuple[Tier, ...], levels: tuple[Level, ...]) -> tuple[Action, ...]:
        actions = []
        known = {
            "tier": [tier.name for tier in tiers],
            "cause": list(CAUSES),
            "level": [level.name for level in levels],
        }
        for index, spec in enumerate(self.spec.actions):
            for name, allowed in known.items():
                value = getattr(spec, name)
                self._check(
                    value is None or value in allowed,
                    f"actions[{index}].{name}",
                    f"{value!r} is not among {', '.join(allowed)}",
                    "Use one of them, or leave it out to match all",
                )
            for name in ("do", "do_zh"):
                self._check(
                    getattr(spec, name) is None or bool(getattr(spec, name).strip()),
                    f"actions[{index}].{name}",
                    "is empty",
                    "Say what to do",
                )
            within_ms = self._duration(f"actions[{index}].within", spec.within, units.MINUTE_MS)
            actions.append(Action(spec.do, spec.do_zh, within_ms, spec.tier, spec.cause, spec.level))
        return tuple(actions)

    def _alerts(self, levels: tuple[Level, ...]) -> AlertRules | None:
        spec = self.spec.alerts
        if spec is None:
            return None
        names = [level.name for level in levels]
        self._check(
            spec.level is None or spec.level in names,
            "alerts.level",
            f"{spec.level!r} is not among {', '.join(names)}",
            "Use one of them, or leave it out for the lowest",
        )
        self._check(
            spec.budget is None or 1 <= spec.budget <= MOST_BUDGET,
            "alerts.budget",
            f"{spec.budget} is out of range",
            f"Write how many alerts an agent takes on a day, 1 to {MOST_BUDGET}, or leave it out",
        )
        self._check(
            spec.incident_customers > 1,
            "alerts.incident_customers",
            f"{spec.incident_customers} alerts are no incident",
            "Write 2 or more",
        )
        return AlertRules(
            1 if spec.level not in names else names.index(spec.level) + 1,
            self._duration("alerts.cool_down", spec.cool_down),
            self._duration("alerts.deadline", spec.deadline, units.MINUTE_MS),
            spec.hold_silence,
            spec.budget or 0,
            spec.incident_customers,
            self._duration("alerts.incident_within", spec.incident_within, units.MINUTE_MS),
        )


def _recency_limits(tiers: tuple[Tier, ...], score: ScoreCard | None) -> tuple[int, ...]:
    limits = {tier.max_recency_ms for tier in tiers if tier.max_recency_ms is not None}
    limits.update(score.recency.breakpoints if score else ())
    return tuple(sorted(limits))


def _is_currency(text: str) -> bool:
    return bool(re.fullmatch(r"[A-Z]{3}", text))


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


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


def _milli(value: str | float | int) -> int:
    try:
        milli = Decimal(str(value)) * 1000
        whole = int(milli) if abs(milli) <= 10**9 else None
    except ArithmeticError:
        raise ValueError(f"{value!r} is not a number; write one such as 0.3") from None
    if whole is None or milli != whole:
        raise ValueError(f"{value} is not a number of at most three decimals; round it")
    return whole
