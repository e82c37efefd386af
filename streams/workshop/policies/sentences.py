"""Describes a policy in sentences and small tables, for people who don't read TOML: tiers, downgrades, risk, value and
alerts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from models import units
from models.bodies import SEVERITIES, STATUSES
from models.life import OCCASIONAL
from models.policy import Policy
from models.tiers import THRESHOLD_UNKNOWN_MINOR, ScoreTerm, Tier

ANY: Final = "any"
NOTHING: Final = "-"
_UNITS: Final = (("w", units.WEEK_MS, "week"), ("d", units.DAY_MS, "day"), ("h", units.HOUR_MS, "hour"))


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the description: sentences, and a table below them if `columns` are given."""

    title: str
    sentences: tuple[str, ...]
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def sections(policy: Policy) -> list[Section]:
    """The sections of the whole policy."""
    return [*_sections(policy)]


def duration(duration_ms: int) -> str:
    """A duration in words.

    >>> duration(14 * units.DAY_MS), duration(units.HOUR_MS), duration(90 * units.MINUTE_MS)
    ('14 days', '1 hour', '1h30m')
    """
    for _, unit_ms, name in _UNITS[1:]:
        if duration_ms % unit_ms == 0:
            return f"{duration_ms // unit_ms} {name}{'' if duration_ms == unit_ms else 's'}"
    return units.format_duration(duration_ms)


def _sections(policy: Policy) -> Iterator[Section]:
    yield Section("What counts", tuple(_what_counts(policy)))
    yield _tiers(policy)
    yield Section("Downgrades", tuple(_downgrades(policy)))
    if policy.ladder.score_card is not None:
        yield _score(policy)
    if policy.segments:
        yield _segments(policy)
    yield _risk(policy)
    yield from _complaints(policy)
    yield Section("Value", tuple(_value(policy)))
    if policy.alerts is not None:
        yield Section("Alerts", tuple(_alerts(policy)))
    if policy.actions:
        yield _actions(policy)
    if policy.life is not None:
        yield _life_cycle(policy)


# ---------------------------------------------------------------- tiers
def _what_counts(policy: Policy) -> Iterator[str]:
    window = policy.window
    at = "UTC" if not window.utc_offset_ms else f"UTC{_offset(window.utc_offset_ms)}"
    if window.kind == "trailing":
        yield (
            f"Purchases of the last {duration(window.length_ms)}, less refunds. Each drops out by itself "
            f"when it is as old as that, to the {_grain(window.bucket_ms)}."
        )
    elif window.kind == "calendar-year":
        yield f"Purchases since 1 January, less refunds. Every year begins at nothing, at midnight {at}."
    else:
        yield (
            "Purchases since the last anniversary of the customer's first purchase, less refunds. "
            f"Every customer's year begins at nothing, at midnight {at}."
        )
    for currency, (numerator, denominator) in policy.rates.items():
        if currency != policy.currency:
            shift = policy.decimals - units.currency_decimals(currency)
            rate = Fraction(numerator, denominator) / Fraction(10) ** shift
            yield f"1 {currency} counts as {float(rate):g} {policy.currency}."
    yield f"An event that comes more than {duration(window.lateness_ms)} late is refused."
    if any(tier.min_satisfaction is not None for tier in policy.ladder.tiers):
        assumed = policy.satisfaction_assumed
        assumption = "meets no requirement" if assumed is None else f"counts as {assumed}"
        yield f"An answer to a survey is valid for {duration(policy.satisfaction_valid_for_ms)}; a missing answer {assumption}."
    if policy.relative is not None:
        yield (
            "Thresholds by shares and quintiles follow the base: they are computed again every "
            f"{_grain(policy.relative.every_ms)}, from all customers with an order in the window."
        )


def _tiers(policy: Policy) -> Section:
    tiers = policy.ladder.tiers
    shares = dict(policy.relative.top_shares) if policy.relative is not None else {}
    measures: list[tuple[str, Callable[[Tier], str | None]]] = [
        ("spend from", lambda tier: _spend(policy, tier, shares)),
        ("orders from", lambda tier: _number(tier.min_orders)),
        (f"active periods of {duration(policy.period_ms)}", lambda tier: _number(tier.min_active_periods)),
        ("satisfaction from", lambda tier: _number(tier.min_satisfaction)),
        ("last purchase within", lambda tier: None if tier.max_recency_ms is None else duration(tier.max_recency_ms)),
        ("score from", lambda tier: None if tier.min_score_milli is None else _points(tier.min_score_milli)),
    ]
    used = [(name, of) for name, of in measures if any(of(tier) is not None for tier in tiers)]
    rows = [(tier.name, *(of(tier) or NOTHING for _, of in used)) for tier in reversed(tiers[1:])]
    everybody = (tiers[0].name, *(NOTHING for _ in used))
    sentence = f"A tier is reached at once when all its requirements are met. All other customers are {tiers[0].name}."
    return Section("Tiers", (sentence,), ("tier", *(name for name, _ in used)), (*rows, everybody))


def _spend(policy: Policy, tier: Tier, shares: dict[int, float]) -> str | None:
    if tier.rank in shares:
        share = f"the top {_percent(shares[tier.rank])}"
        is_known = tier.min_spend_minor is not None and tier.min_spend_minor != THRESHOLD_UNKNOWN_MINOR
        return f"{share} (now {_money(policy, tier.min_spend_minor or 0)})" if is_known else share
    return None if tier.min_spend_minor is None else _money(policy, tier.min_spend_minor)


def _downgrades(policy: Policy) -> Iterator[str]:
    if policy.grace_ms is None:
        yield (
            "A customer who no longer meets the requirements of a tier keeps it until the end of the window's year: so a tier "
            "earned in one year lasts to the end of the next."
        )
    elif policy.grace_ms:
        yield (
            f"A customer who no longer meets the requirements of a tier keeps it for {duration(policy.grace_ms)}, and beyond "
            "that if they meet them again by then."
        )
    else:
        yield "A customer who no longer meets the requirements of a tier loses it at once."
    if policy.min_hold_ms:
        yield f"A tier is held for at least {duration(policy.min_hold_ms)}."
    if policy.one_step:
        yield "A downgrade is one step at a time; the next step down takes the same time again."
    else:
        yield "A downgrade is directly to the tier that the customer still qualifies for."


def _score(policy: Policy) -> Section:
    card = policy.ladder.score_card
    assert card is not None
    named: tuple[tuple[str, ScoreTerm, Callable[[int], str]], ...] = (
        ("recency", card.recency, duration),
        ("frequency", card.frequency, str),
        ("monetary", card.monetary, lambda minor: _money(policy, minor)),
    )
    rows = []
    for name, term, written in named:
        better = "last purchase within" if name == "recency" else "orders from" if name == "frequency" else "spend from"
        points = ", ".join(written(one) for one in term.breakpoints)
        rows.append((name, _points(term.weight_milli), f"{better} {points}" if points else "by quintiles of the base"))
    sentence = "Each term gives one point, and one more for each threshold reached; the score is their weighted sum."
    return Section("Score", (sentence,), ("term", "weight", "a point for each of"), tuple(rows))


def _segments(policy: Policy) -> Section:
    rows = tuple(
        (one.name, *(_range(low, high) for low, high in (one.recency, one.frequency, one.monetary)))
        for one in policy.segments
    )
    sentence = "A segment names customers by their points, and is shown in profiles; the first that matches is used."
    return Section("Segments", (sentence,), ("segment", "recency", "frequency", "monetary"), rows)


# ---------------------------------------------------------------- risk
def _risk(policy: Policy) -> Section:
    risk, mbg, card = policy.risk, policy.risk.mbg, policy.risk.card
    parameters = f"r {mbg.r:g}, alpha {mbg.alpha:g} weeks, a {mbg.a:g}, b {mbg.b:g}"
    sentences = [
        f"The probability that a customer buys nothing for {duration(risk.horizon_ms)}, by MBG/NBD ({parameters}; fitted on: "
        f"{risk.fitted_on}), with complaints and satisfaction on top.",
        f"An answer of {risk.satisfaction_neutral} is neutral; ten points less add {risk.satisfaction_per_point * 10:g} to the log-odds.",
    ]
    weights = {
        "intercept": card.intercept,
        "silence": card.silence,
        "frequency": card.frequency,
        "spend": card.spend,
        "basket trend": card.basket_trend,
    }
    given = ", ".join(f"{name} {weight:g}" for name, weight in weights.items() if weight)
    if given or card.model != 1:
        sentences.append(f"Score card: model {card.model:g}{', ' if given else ''}{given}.")
    rows = tuple(
        (level.name, _percent(_probability(level.raise_at)), _percent(_probability(level.ease_below)))
        for level in reversed(risk.levels)
    )
    return Section("Risk", tuple(sentences), ("level", "raised from", "eases below"), rows)


def _complaints(policy: Policy) -> Iterator[Section]:
    rule = policy.risk.complaint_risk
    repeated = (
        f" A complaint within {duration(rule.repeat_within_ms)} of the one before counts {rule.repeat_factor:g} times."
        if rule.repeat_factor > 1
        else ""
    )
    yield Section(
        "Complaints",
        (
            "What a complaint adds to the log-odds of the risk, by its severity and how it stands. It fades to half in "
            f"{duration(rule.half_life_ms)} and is forgotten after {duration(rule.forget_after_ms)}.{repeated}",
            f"Past purchases protect: divided by 1 + {rule.protection:g} ln(1 + x), x being repeat purchases."
            if rule.protection
            else "Past purchases don't protect.",
        ),
        ("severity", *STATUSES),
        tuple(
            (name, *(f"{round(rule.severity[number] * factor, 3):+g}" for factor in rule.status))
            for number, name in reversed(list(enumerate(SEVERITIES)))
        ),
    )


def _value(policy: Policy) -> Iterator[str]:
    value = policy.value
    margin = "all of it margin" if value.margin == 1 else f"{_percent(value.margin)} of it margin"
    discount = f", discounted by {_percent(value.annual_discount)} a year" if value.annual_discount else ""
    spend = "the customer's own mean" if value.spend is None else "the mean that Gamma-Gamma expects"
    yield f"The value of a customer is what is expected within {duration(value.horizon_ms)}: purchases at {spend}, {margin}{discount}."
    for what, names, costs in (
        ("Serving costs", policy.ladder.tier_names, value.cost_to_serve_minor),
        ("A complaint costs", SEVERITIES, value.complaint_cost_minor),
    ):
        given = [f"{_money(policy, cost)} ({name})" for name, cost in zip(names, costs, strict=True) if cost]
        if given:
            yield f"{what} {', '.join(given)}."


# ---------------------------------------------------------------- alerts
def _alerts(policy: Policy) -> Iterator[str]:
    rules = policy.alerts
    assert rules is not None
    yield f"One open alert per customer at the most, from the risk level {policy.risk.levels[rules.rank - 1].name} on."
    yield f"After an alert was closed there is none for {duration(rules.cool_down_ms)}, unless the risk is worse."
    if rules.hold_silence:
        yield "An alert about silence waits while a complaint is open."
    if rules.budget:
        yield f"An agent handles {rules.budget} per day; further alerts wait for the next day."
    yield (
        f"{rules.incident_customers} alerts about one category of complaint, each within "
        f"{duration(rules.incident_within_ms)} of the one before, are one incident."
    )
    yield f"Where the table of actions has no deadline, it is {duration(rules.deadline_ms)}."


def _actions(policy: Policy) -> Section:
    rows = tuple(
        (one.tier or ANY, one.cause or ANY, one.level or ANY, one.do, duration(one.within_ms)) for one in policy.actions
    )
    return Section(
        "Actions", ("The first row that matches is used.",), ("tier", "cause", "level", "do", "within"), rows
    )


def _life_cycle(policy: Policy) -> Section:
    life = policy.life
    assert life is not None
    gaps = ", ".join(f"{name} up to {duration(most_ms)}" for name, most_ms in life.gaps)
    rows = (
        ("prospect", "reported as one, and has not bought yet"),
        ("new", "bought on one day"),
        ("active", "bought on more than one day"),
        ("loyal", f"bought on {life.loyal_days} days or more, over {duration(life.loyal_after_ms)} or longer"),
        ("cooling", f"silent for longer than {duration(life.cooling_after_ms)}"),
        ("lost", f"silent for longer than {duration(life.lost_after_ms)}"),
        ("won-back", "bought again after having been lost, until the next purchase"),
    )
    sentence = f"Behaviour is the mean gap between days with a purchase: {gaps}, else {OCCASIONAL}."
    return Section("Life cycle", (sentence,), ("stage", "who"), rows)


# ---------------------------------------------------------------- figures
def _money(policy: Policy, minor: int) -> str:
    text = units.money_in_words(minor, policy.currency)
    return text.replace("." + "0" * policy.decimals, "") if policy.decimals else text


def _number(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _points(milli: int) -> str:
    return f"{milli / 1000:g}"


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}" if (low, high) != (1, 5) else ANY


def _percent(share: float) -> str:
    return f"{round(share * 100, 4):g} %"


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))


def _offset(offset_ms: int) -> str:
    hours, minutes = divmod(abs(offset_ms) // units.MINUTE_MS, 60)
    return f"{'-' if offset_ms < 0 else '+'}{hours:02d}:{minutes:02d}"


def _grain(bucket_ms: int) -> str:
    for _, unit_ms, name in _UNITS:
        if bucket_ms == unit_ms:
            return name
    return duration(bucket_ms)


def as_wire(policy: Policy, found: Sequence[Section]) -> dict[str, Any]:
    """The sections for programs: each table as rows by column."""
    return {
        "policy": policy.ref,
        "title": policy.title,
        "currency": policy.currency,
        "sections": [
            {
                "title": one.title,
                "sentences": list(one.sentences),
                "rows": [dict(zip(one.columns, row, strict=True)) for row in one.rows],
            }
            for one in found
        ],
    }
