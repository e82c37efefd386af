"""A backtest as one self-contained HTML page: its plots are SVG inside the page, in the page's own colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter, methodcaller
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from models import units
from models.fitting import metrics
from models.fitting.backtest import Forecast, Result
from models.fitting.history import Floats
from streams.reports.formats import number
from streams.reports.plots import COLOURS, GREY, INK, Drawing, Plot, dates_below, percent, render, swatch
from streams.workshop.fitting.backtest_report import SHARES, PolicyReport, Report

MARKERS = "osD^vP"
CHANCE: dict[str, Any] = {"color": INK, "linestyle": ":", "linewidth": 1.2}
PERFECT: dict[str, Any] = {"color": INK, "linestyle": "--", "linewidth": 1.2}
CONTACTED = np.linspace(0, 1, 101)
TENTHS = "{:.1%}"


@dataclass(frozen=True)
class Curve:
    """A contender that is plotted, with the same style in every plot."""

    result: Result
    role: str
    style: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the contender."""
        return self.result.name


def page(report: Report) -> str:
    """The page; the same report gives the same page."""
    return render("streams.workshop.fitting", "backtest.html", lambda draw: _values(report, draw))


def _values(report: Report, draw: Drawing) -> dict[str, Any]:
    found, curves = report.found, _curves(report)
    return {
        "report": report,
        "found": found,
        "horizon": units.format_duration(found.horizon_ms),
        "shares": SHARES,
        "models": _models(found.results),
        "calibration": [(one, _calibration(draw, one)) for one in curves],
        "gains": _gains(draw, curves),
        "gains_key": [
            *_key(draw, curves),
            ("perfect knowledge", swatch(draw, PERFECT)),
            ("chance", swatch(draw, CHANCE)),
        ],
        "origins_key": _key(draw, curves),
        "by_origin": [
            _by_origin(draw, curves, *what) for what in (("AUC", metrics.auc), ("Brier score", metrics.brier))
        ]
        if len(found.origins_ms) > 1
        else [],
        "alerts": _alerts_of_all(draw, report, curves),
    }


def _curves(report: Report) -> list[Curve]:
    """The contenders that are plotted: the best model, the policies, the best rule of thumb."""
    models = {one.name: one for one in report.found.results if not one.is_baseline}
    best = max((one for one in models.values() if one.is_out_of_sample), key=_auc, default=None)
    policies = [one.name for one in report.policies]
    names = dict.fromkeys([*([best.name] if best else []), *(name for name in policies if name in models)])
    colours = list(COLOURS)[3:]
    curves = []
    for place, name in enumerate(names):
        style = {"color": colours[place % len(colours)], "marker": MARKERS[place % len(MARKERS)]}
        roles = [*(["best model"] if best and name == best.name else []), *(["policy"] if name in policies else [])]
        curves.append(Curve(models[name], ", ".join(roles), style))
    rule = report.found.best_baseline
    return [*curves, Curve(rule, "best rule of thumb", {"color": GREY, "marker": "X", "linestyle": "--"})]


def _auc(one: Result) -> float:
    return -1.0 if np.isnan(one.auc) else one.auc


def _models(results: Sequence[Result]) -> list[tuple[Result, list[tuple[str, bool]]]]:
    """Each contender with its measures as shown, the best first, and whether the measure is the best out of sample."""
    cells: dict[str, list[tuple[str, bool]]] = {one.name: [] for one in results}
    measures: list[tuple[str, int, Callable[[Result], float]]] = [
        ("{:.4f}", 1, attrgetter("auc")),
        ("{:.4f}", -1, attrgetter("brier")),
        *(("{:.2f}", 1, methodcaller("lift", share)) for share in SHARES),
    ]
    for form, sign, measure in measures:
        values = [measure(one) for one in results]
        fair = [sign * value for one, value in zip(results, values, strict=True) if one.is_out_of_sample]
        best = form.format(sign * np.nanmax(fair)) if not np.isnan(fair).all() else ""
        for one, value in zip(results, values, strict=True):
            text = number(value, form)
            cells[one.name].append((text, one.is_out_of_sample and text == best))
    return [(one, cells[one.name]) for one in sorted(results, key=_auc, reverse=True)]


def _key(draw: Drawing, curves: Sequence[Curve]) -> list[tuple[str, Plot]]:
    return [(one.name, swatch(draw, one.style)) for one in curves]


def _calibration(draw: Drawing, curve: Curve) -> Plot:
    """Predicted and actual churn, by decile."""
    deciles = metrics.deciles(*curve.result.pooled)
    predicted, churned = [one.predicted for one in deciles], [one.churned for one in deciles]
    off = np.average(np.abs(np.subtract(predicted, churned)), weights=[one.customers for one in deciles])

    def plot(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], **PERFECT)
        axes.plot(predicted, churned, **curve.style, clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="predicted", ylabel="churned")
        percent(axes)

    says = f"Calibration of {curve.name}: predictions differ from outcomes by {100 * off:.1f} points on average."
    return draw(3.3, 2.95, plot, says)


def _gains(draw: Drawing, curves: Sequence[Curve]) -> Plot:
    """The share of churners among the customers with the highest risks."""
    forecasts = [one for one in curves[0].result.forecasts if one.churned.any()]
    perfect = _over_origins(forecasts, lambda one: np.minimum(CONTACTED / one.churned.mean(), 1))
    found = [
        _over_origins([one for one in curve.result.forecasts if one.churned.any()], _churners_found) for curve in curves
    ]

    def plot(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], **CHANCE)
        axes.plot(CONTACTED, perfect, **PERFECT)
        for place, (curve, shares) in enumerate(zip(curves, found, strict=True)):
            apart = {"markevery": ((5 + 4 * place) % 20, 20), "linewidth": 1.4, "zorder": 2 + 1 / (1 + place)}
            axes.plot(CONTACTED, shares, **(curve.style | apart))
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="customers contacted", ylabel="share of all churners")
        percent(axes)

    shares = ", ".join(
        f"{number(shares[10], TENTHS)} by {curve.name}" for curve, shares in zip(curves, found, strict=True)
    )
    says = f"Gains: a tenth of the customers holds {shares}; {number(perfect[10], TENTHS)} at best, 10% by chance."
    return draw(3.6, 3, plot, says)


def _over_origins(forecasts: Sequence[Forecast], shares: Callable[[Forecast], Floats]) -> Floats:
    """The mean of a curve over the origins, weighted by their churners."""
    if not forecasts:
        return np.full(len(CONTACTED), np.nan)
    found: Floats = np.average(
        [shares(one) for one in forecasts], axis=0, weights=[one.churned.sum() for one in forecasts]
    )
    return found


def _churners_found(forecast: Forecast) -> Floats:
    """The share of churners among the customers contacted, by descending risk; equal risks count in part."""
    order = np.argsort(-forecast.probability, kind="stable")
    last = np.append(np.diff(forecast.probability[order]) != 0, True)
    contacted = np.flatnonzero(last) + 1
    lost = forecast.churned[order].cumsum()[last]
    found: Floats = np.interp(CONTACTED, np.append(0, contacted / len(order)), np.append(0, lost / lost[-1]))
    return found


def _by_origin(draw: Drawing, curves: Sequence[Curve], name: str, measure: Callable[..., float]) -> tuple[str, Plot]:
    """A measure at each origin."""

    def plot(axes: Axes) -> None:
        for curve in curves:
            forecasts = curve.result.forecasts
            values = [measure(one.probability, one.churned) for one in forecasts]
            axes.plot([one.at_ms for one in forecasts], values, **curve.style)
        axes.set(xlabel="origin", ylabel=name)
        axes.margins(x=0.08)
        dates_below(axes, [one.at_ms for one in curves[0].result.forecasts])

    names = ", ".join(curve.name for curve in curves)
    return name, draw(3.6, 2.7, plot, f"{name} at each of the origins: {names}.")


def _alerts_of_all(draw: Drawing, report: Report, curves: Sequence[Curve]) -> list[tuple[PolicyReport, Plot]]:
    """The plot of alerts of each policy, over whole weeks, all to the same scale."""
    colours = {curve.name: curve.style["color"] for curve in curves}
    ends_ms = report.ends_ms - report.found.horizon_ms
    weeks = [
        [one for one in policy.team.alerts_by_week if one[0] + units.WEEK_MS <= ends_ms] for policy in report.policies
    ]
    most = max((alerts for one in weeks for _, alerts in one), default=0)
    return [
        (policy, _alerts(draw, policy, one, most, colours.get(policy.name, GREY)))
        for policy, one in zip(report.policies, weeks, strict=True)
    ]


def _alerts(draw: Drawing, policy: PolicyReport, weeks: Sequence[tuple[int, int]], most: int, colour: str) -> Plot:
    """Alerts by week."""

    def plot(axes: Axes) -> None:
        axes.bar(
            [at_ms for at_ms, _ in weeks],
            [alerts for _, alerts in weeks],
            0.85 * units.WEEK_MS,
            align="edge",
            color=colour,
            linewidth=0,
        )
        axes.set(ylim=(0, 1.05 * max(most, 1)), xlabel="week from", ylabel="alerts")
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        dates_below(axes, [at_ms for at_ms, _ in weeks])

    counts = [alerts for _, alerts in weeks]
    spread = f"between {min(counts):,} and {max(counts):,}" if counts else "none"
    return draw(3.6, 2.4, plot, f"Alerts of {policy.name} in each of {len(weeks)} weeks: {spread}.")
