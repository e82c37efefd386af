"""A comparison of two policies as one self-contained HTML page: a Sankey diagram, plots, and tables."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any, Final

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from models import units
from streams.reports import charts
from streams.reports.plots import COLOURS, GREY, Drawing, Plot, dates_below, render, swatch
from streams.workshop.compare.comparison import MOVES
from streams.workshop.compare.report import Report, share, tiers_of

A, B = list(COLOURS)[3:5]
STYLES: Final = ({"color": A, "marker": "o"}, {"color": B, "marker": "s"})
MARKS_UP_TO: Final = 40
"""A curve with more points has no markers."""
WEEK_DAYS: Final = 7


def page(report: Report) -> str:
    """The page; the same comparison gives the same page."""
    return render("streams.workshop.compare", "diff.html", lambda draw: _values(report, draw))


def _values(report: Report, draw: Drawing) -> dict[str, Any]:
    months = report.months()
    names = [policy.ref for policy in report.policies]
    return {
        "report": report,
        "names": names,
        "share": share,
        "tiers": [
            tiers_of(policy, side)[::-1] for policy, side in zip(report.policies, report.found.sides, strict=True)
        ],
        "sankey": _sankey(report),
        "key": [(name, swatch(draw, style)) for name, style in zip(names, STYLES, strict=True)],
        "moves": [
            (change, _moves(draw, report, months, change))
            for change in MOVES
            if len(months) > 1 and any(side.moves[month, change] for side in report.found.sides for month in months)
        ],
        "alerts": _alerts(draw, report),
        "cohorts": _cohorts(draw, report),
    }


def _sankey(report: Report) -> Markup:
    before, after = (
        tiers_of(policy, side)[::-1] for policy, side in zip(report.policies, report.found.sides, strict=True)
    )
    flows = {tiers: float(group.customers) for tiers, group in report.found.flows.items()}
    return charts.sankey(flows, before, after, f"Customers by tier under {report.title}", report.way)


def _moves(draw: Drawing, report: Report, months: list[str], change: str) -> Plot:
    """Upgrades or downgrades by month."""
    at_ms = [round(datetime.fromisoformat(f"{month}-01T00:00:00+00:00").timestamp() * 1000) for month in months]
    counts = [[side.moves[month, change] for month in months] for side in report.found.sides]

    def plot(axes: Axes) -> None:
        for style, values in zip(STYLES, counts, strict=True):
            axes.plot(at_ms, values, **_marked(style, len(values)))
        axes.set(xlabel="month", ylabel=f"{change}s", ylim=(0, None))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        dates_below(axes, at_ms)

    summary = " and ".join(
        f"{sum(values):,} under {policy.ref}" for policy, values in zip(report.policies, counts, strict=True)
    )
    return draw(3.6, 2.6, plot, f"{change}s by month: {summary}.".capitalize())


def _alerts(draw: Drawing, report: Report) -> Plot | None:
    """Alerts per day and agent, by week."""
    first, last = report.found.begins_ms // units.WEEK_MS, report.as_of_ms // units.WEEK_MS
    weeks = list(range(first, last))  # the last week is not complete
    if len(weeks) < 2:
        return None
    counts = []
    for side in report.found.sides:
        by_week: Counter[int] = Counter()
        for day, alerts in side.alerts.items():
            by_week[day * units.DAY_MS // units.WEEK_MS] += alerts
        counts.append([by_week[week] / WEEK_DAYS / report.agents for week in weeks])
    budgets = {policy.alerts.budget for policy in report.policies if policy.alerts is not None and policy.alerts.budget}

    def plot(axes: Axes) -> None:
        for style, values in zip(STYLES, counts, strict=True):
            axes.plot([week * units.WEEK_MS for week in weeks], values, **_marked(style, len(values)))
        for budget in budgets:
            if budget < 2 * max(map(max, counts)):
                axes.axhline(budget, color=GREY, linestyle="--", linewidth=1.2)
        axes.set(xlabel="week from", ylabel="alerts per day and agent", ylim=(0, None))
        dates_below(axes, [week * units.WEEK_MS for week in weeks])

    summary = " and ".join(
        f"at most {max(values):,.1f} under {policy.ref}" for policy, values in zip(report.policies, counts, strict=True)
    )
    return draw(3.6, 2.6, plot, f"Alerts per day and agent by week: {summary}.")


def _cohorts(draw: Drawing, report: Report) -> Plot | None:
    """The shares of each cohort that are lower and higher."""
    cohorts = [one for one in report.cohorts if one.kind == "first purchase"]
    if len(cohorts) < 2:
        return None
    places = range(len(cohorts))
    down = [one.group.down / one.group.customers for one in cohorts]
    up = [one.group.up / one.group.customers for one in cohorts]

    def plot(axes: Axes) -> None:
        axes.bar(places, up, 0.8, color=list(COLOURS)[5], linewidth=0)
        axes.bar(places, [-value for value in down], 0.8, color=list(COLOURS)[4], linewidth=0)
        axes.axhline(0, color=GREY, linewidth=1)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(visible=False, axis="x")
        every = max(1, -(-len(cohorts) // 6))
        axes.set_xticks(list(places)[::every], [one.name for one in cohorts][::every], fontsize=8)
        axes.set(xlabel="first purchase", ylabel="lower ↔ higher")

    worst = max(zip(down, cohorts, strict=True), key=lambda one: one[0])
    return draw(
        5.4,
        2.6,
        plot,
        f"Share of each cohort that would be higher or lower; the largest share lower: {worst[1].name}, {worst[0]:.1%}.",
    )


def _marked(style: dict[str, Any], points: int) -> dict[str, Any]:
    return style if points <= MARKS_UP_TO else style | {"marker": ""}
