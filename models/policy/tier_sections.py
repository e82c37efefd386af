"""The sections of a policy file that say who is in which tier: window, tiers, score, relative thresholds, segments."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final

from models import units
from models.facts import Window
from models.policy.form import PolicySpec, RelativeSpec, ScoreTermSpec
from models.policy.policy import RelativeRules, Segment
from models.policy.settings_reader import SettingsReader
from models.tiers import THRESHOLD_UNKNOWN_MINOR, ScoreCard, ScoreTerm, Tier

MOST_SEGMENTS: Final = 10


def build_window(reader: SettingsReader, file: PolicySpec) -> Window:
    """`[window]`."""
    spec = file.window
    bucket_ms = reader.duration("window.bucket", spec.bucket, units.MINUTE_MS)
    reader.check(
        units.DAY_MS % bucket_ms == 0,
        "window.bucket",
        f"{spec.bucket} does not divide a day",
        "Use 1m, 5m, 15m, 30m, 1h, 6h, 12h or 1d",
    )
    offset_ms = reader.read("window.utc_offset", units.parse_utc_offset, spec.utc_offset, 0)
    reader.check(
        offset_ms % bucket_ms == 0,
        "window.utc_offset",
        f"{spec.utc_offset} is not a multiple of window.bucket",
        "Use smaller buckets, such as 30m or 15m",
    )
    if spec.kind == "trailing":
        if spec.length is None:
            reader.problem("window", "a trailing window needs a length", 'Add length = "365d"')
        length_ms = reader.duration("window.length", spec.length or "365d", units.DAY_MS)
    else:
        reader.check(
            spec.length is None, "window.length", f"a {spec.kind} window has its year for a length", "Remove it"
        )
        length_ms = 366 * units.DAY_MS
    lateness_ms = length_ms if spec.lateness is None else reader.duration("window.lateness", spec.lateness)
    return Window(spec.kind, length_ms, bucket_ms, offset_ms, lateness_ms)


def build_tiers(reader: SettingsReader, file: PolicySpec) -> tuple[Tier, ...]:
    """`base_tier` and `[[tiers]]`."""
    tiers = [Tier(file.base_tier, 0)]
    reader.check(0 < len(file.base_tier) <= 64, "base_tier", "is empty or too long", "Use 1 to 64 characters")
    reader.check(bool(file.tiers), "tiers", "there is no tier", "Add [[tiers]], lowest first")
    for index, tier in enumerate(file.tiers):
        path = f"tiers[{index}]"
        names = [known.name for known in tiers]
        reader.check(
            tier.name not in names,
            f"{path}.name",
            f"{tier.name!r} is there already",
            "Give every tier a name of its own",
        )
        reader.check(0 < len(tier.name) <= 64, f"{path}.name", "is empty or too long", "Use 1 to 64 characters")
        given = [name for name in tier.__struct_fields__ if name != "name" and getattr(tier, name) is not None]
        reader.check(
            bool(given),
            path,
            "asks for nothing",
            "Give it at least one of min_spend, min_orders, min_active_periods, min_satisfaction, max_recency, min_score, "
            "top_share",
        )
        reader.check(
            tier.top_share is None or 0 < tier.top_share < 1,
            f"{path}.top_share",
            f"{tier.top_share} is not a share",
            "Write a number between 0 and 1, such as 0.05",
        )
        reader.check(
            tier.top_share is None or tier.min_spend is None,
            f"{path}.min_spend",
            "and top_share draw the same line",
            "Remove one of them",
        )
        for name in ("min_orders", "min_active_periods", "min_satisfaction"):
            value = getattr(tier, name)
            most = 100 if name == "min_satisfaction" else 10**6
            reader.check(
                value is None or 0 <= value <= most,
                f"{path}.{name}",
                f"{value} is out of range",
                f"Write 0 to {most}",
            )
        tiers.append(
            Tier(
                tier.name,
                index + 1,
                reader.amount(f"{path}.min_spend", tier.min_spend)
                if tier.min_spend is not None
                else None
                if tier.top_share is None
                else THRESHOLD_UNKNOWN_MINOR,
                tier.min_orders,
                tier.min_active_periods,
                tier.min_satisfaction,
                None if tier.max_recency is None else reader.duration(f"{path}.max_recency", tier.max_recency, 1),
                None if tier.min_score is None else reader.milli(f"{path}.min_score", tier.min_score),
            )
        )
    _check_ascending(reader, tiers)
    return tuple(tiers)


def _check_ascending(reader: SettingsReader, tiers: list[Tier]) -> None:
    """A higher tier that asks for less than a lower one is a slip: nobody would ever be in the lower."""
    for lower, higher in pairwise(tiers[1:]):
        path = f"tiers[{higher.rank - 1}]"
        for name in ("min_spend_minor", "min_orders", "min_active_periods", "min_satisfaction", "min_score_milli"):
            low, high = getattr(lower, name), getattr(higher, name)
            written = name.removesuffix("_minor").removesuffix("_milli")
            if low is not None and high is not None:
                reader.check(
                    high >= low,
                    f"{path}.{written}",
                    f"asks for less than the tier {lower.name!r} below it",
                    "Put the tiers in order, lowest first",
                )
        if lower.max_recency_ms is not None and higher.max_recency_ms is not None:
            reader.check(
                higher.max_recency_ms <= lower.max_recency_ms,
                f"{path}.max_recency",
                f"asks for less than the tier {lower.name!r} below it",
                "Put the tiers in order, lowest first",
            )


def build_score(reader: SettingsReader, file: PolicySpec) -> ScoreCard | None:
    """`[score]`; None if the policy has none."""
    spec = file.score
    if spec is None:
        return None
    recency = _build_score_term(
        reader, "score.recency", spec.recency, lambda path, value: reader.duration(path, str(value), 1)
    )
    frequency = _build_score_term(
        reader, "score.frequency", spec.frequency, lambda path, value: reader.read(path, int, value, 0)
    )
    monetary = _build_score_term(reader, "score.monetary", spec.monetary, reader.amount)
    return ScoreCard(recency, frequency, monetary)


def _build_score_term(
    reader: SettingsReader, path: str, spec: ScoreTermSpec, read: Callable[[str, str | int], int]
) -> ScoreTerm:
    weight_milli = reader.milli(f"{path}.weight", spec.weight)
    reader.check(weight_milli >= 0, f"{path}.weight", "is negative", "Write a weight from 0 up")
    if spec.breakpoints is None:
        return ScoreTerm(weight_milli, ())
    breakpoints = [read(f"{path}.breakpoints", value) for value in spec.breakpoints]
    ascending = all(low < high for low, high in pairwise(breakpoints))
    reader.check(
        bool(breakpoints) and ascending,
        f"{path}.breakpoints",
        "are not ascending",
        "Write them from the smallest up",
    )
    return ScoreTerm(weight_milli, tuple(breakpoints))


def build_relative(reader: SettingsReader, file: PolicySpec, tiers: tuple[Tier, ...]) -> RelativeRules | None:
    """The thresholds that depend on all customers: `top_share` and terms of the score without breakpoints; None if
    there are none.
    """
    shares = [
        (tier, one.top_share) for tier, one in zip(tiers[1:], file.tiers, strict=False) if one.top_share is not None
    ]
    for (_, lower), (tier, higher) in pairwise(shares):
        reader.check(
            higher < lower,
            f"tiers[{tier.rank - 1}].top_share",
            "is not smaller than that of the tier below it",
            "Put the tiers in order, lowest first",
        )
    by_quintiles = (
        ()
        if file.score is None
        else tuple(
            name for name in ("recency", "frequency", "monetary") if getattr(file.score, name).breakpoints is None
        )
    )
    if not shares and not by_quintiles:
        reader.check(file.relative is None, "relative", "draws no line", "Give a tier a top_share, or remove the table")
        return None
    every = RelativeSpec().every if file.relative is None else file.relative.every
    return RelativeRules(
        reader.duration("relative.every", every, units.HOUR_MS),
        tuple((tier.rank, share) for tier, share in shares),
        by_quintiles,
    )


def build_segments(reader: SettingsReader, file: PolicySpec) -> tuple[Segment, ...]:
    """`[[segments]]`."""
    specs, found = file.segments, []
    reader.check(
        len(specs) <= MOST_SEGMENTS,
        f"segments[{MOST_SEGMENTS}]",
        f"are more than {MOST_SEGMENTS}",
        "Nobody can manage more: join some",
    )
    reader.check(not specs or file.score is not None, "segments", "need the points of a score", "Add the table [score]")
    for index, spec in enumerate(specs):
        ranges = []
        for name in ("recency", "frequency", "monetary"):
            given = getattr(spec, name)
            holds = 1 <= given[0] <= given[1]
            reader.check(holds, f"segments[{index}].{name}", f"{given} is not a range of points", "Write as in [4, 5]")
            ranges.append(given)
        found.append(Segment(spec.name, *ranges))
    return tuple(found)
