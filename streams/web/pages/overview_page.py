"""The page `/overview`: customers by tier and risk, moves between them, the results of alerts, and measures of each
tier.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

from litestar import Request, Response, get

from models import units
from models.alerts import RECOVERED
from models.customer import BASE_LEVEL
from streams.language.console_words import words
from streams.reports import charts
from streams.web.pages.rendering import language, page
from streams.web.pages.tier_measures import SAMPLE, TierMeasures, draw_sample, measures_of
from streams.web.services.container import services

PERIODS_DAYS: Final = (7, 30, 90, 365)
MOST_SLOTS: Final = 31
"""How many days or weeks the charts show at most; longer periods are shown in weeks, or in four weeks."""
WEEK: Final = 7
OUTCOMES: Final = ("saved", RECOVERED, "lost", "dismissed")
AT_RISK: Final = "at risk"
COLUMNS: Final = {
    "retention": "share", "churn": "share", "alive": "share", "repeat_rate": "share", "satisfaction": "whole",
    "frequency": "tenths", "spend": "whole", "lifetime_value": "whole", "cost": "whole", "benefit": "whole",
}  # fmt: skip
"""The measures of each tier, and the form of each; templates/overview.html uses both names."""


@get("/overview")
async def overview_page(request: Request[Any, Any, Any]) -> Response[str]:
    """The overview of a period that ends today."""
    here, t = services(request), words(language(request))
    asked = request.query_params.get("days", "")
    days = int(asked) if asked.isdigit() and int(asked) in PERIODS_DAYS else PERIODS_DAYS[1]
    today = await here.clock.today()
    counts = await here.queue.days(today - timedelta(days=days - 1), today)
    policies = await here.policies.read()
    policy = policies.current
    tiers = policy.ladder.tier_names
    levels = [level.name for level in policy.risk.levels]
    now_ms = await here.clock.now_ms()
    samples = await asyncio.gather(*(draw_sample(here.view, policies, tier, now_ms) for tier in tiers))
    measures = [measures_of(one.tier, [one]) for one in samples]
    at_risk = await here.view.redis.zcard(f"{here.view.prefix}at-risk")
    whole = _sum(counts)
    flows = _moves(whole, "flow:")
    dates, slots = _slots(counts)
    met, breached = whole.get("met", 0.0), whole.get("breached", 0.0)
    categories = {name.removeprefix("category:"): n for name, n in whole.items() if name.startswith("category:")}
    return page(
        request,
        "overview.html",
        policy=policy,
        periods=PERIODS_DAYS,
        days=days,
        today=today.isoformat(),
        measures=[*reversed(measures), measures_of(t("all"), list(samples))],
        columns=COLUMNS,
        said={
            "horizon": t("days_n", n=f"{policy.risk.horizon_ms / units.DAY_MS:g}"),
            "margin": f"{policy.value.margin:.0%}",
        },
        sample=SAMPLE,
        customers=sum(one.customers for one in measures),
        levels=levels,
        sizes=await here.queue.sizes(),
        owners=await here.queue.owners(),
        incidents=[] if policy.alerts is None else await here.queue.incidents(policy.alerts),
        opened=whole.get("opened", 0.0),
        closed={name: whole.get(name, 0.0) for name in OUTCOMES},
        saved_value=whole.get("saved_value", 0.0),
        currency=policy.currency,
        met_share=met / (met + breached) if met + breached else None,
        breached=breached,
        sizes_chart=charts.curves(
            dates,
            [
                (t("at_risk") if name == AT_RISK else name, values)
                for name, values in _sizes_over_time(slots, measures, at_risk)
            ],
            t("sizes_over_time"),
        ),
        categories=sorted(categories.items(), key=lambda one: -one[1]),
        flows=sorted(flows.items(), key=lambda one: -one[1]),
        sankey=charts.sankey(flows, tiers[::-1], tiers[::-1], t("moves_between_tiers")),
        risk_moves=sorted(_moves(whole, "risk:").items(), key=lambda one: -one[1]),
        alerts_chart=charts.columns(
            dates,
            [
                ("opened", [_sum(slot).get("opened", 0.0) for slot in slots]),
                ("closed", [sum(_sum(slot).get(name, 0.0) for name in OUTCOMES) for slot in slots]),
            ],
            t("alerts_opened_and_closed"),
        ),
    )  # fmt: skip


def _sum(counts: list[dict[str, Any]]) -> dict[str, float]:
    """The counts of several days together."""
    whole: dict[str, float] = {}
    for day in counts:
        for name, number in day.items():
            if name != "date":
                whole[name] = whole.get(name, 0.0) + number
    return whole


def _moves(whole: dict[str, float], prefix: str) -> dict[tuple[str, str], float]:
    """The counts with this prefix, by before and after."""
    found = {}
    for name, number in whole.items():
        if name.startswith(prefix):
            before, _, after = name.removeprefix(prefix).partition(">")
            found[before, after] = number
    return found


def _sizes_over_time(
    slots: list[list[dict[str, Any]]], measures: list[TierMeasures], at_risk: int
) -> list[tuple[str, list[float]]]:
    """How many customers each tier had at the end of each slot, and how many were at risk: counted back from now by the
    moves.

    The lowest tier is left out, since customers enter it without an announcement.
    """
    now = {one.tier: float(one.customers) for one in measures[1:]} | {AT_RISK: float(at_risk)}
    found: dict[str, list[float]] = {name: [] for name in now}
    for slot in reversed(slots):
        whole = _sum(slot)
        for name, values in found.items():
            values.insert(0, max(now[name], 0.0))
        for (before, after), number in _moves(whole, "flow:").items():
            for name, moved in ((before, number), (after, -number)):
                if name in now:
                    now[name] += moved
        for (before, after), number in _moves(whole, "risk:").items():
            now[AT_RISK] += number * ((before != BASE_LEVEL) - (after != BASE_LEVEL))
    return [(name, values) for name, values in found.items()]


def _slots(counts: list[dict[str, Any]]) -> tuple[list[str], list[list[dict[str, Any]]]]:
    """The slots of a period, days or weeks: the first date of each, and its counts."""
    size = 1 if len(counts) <= MOST_SLOTS else WEEK if len(counts) <= MOST_SLOTS * WEEK else 4 * WEEK
    slots = [counts[first : first + size] for first in range(0, len(counts), size)]
    return [slot[0]["date"] for slot in slots], slots
