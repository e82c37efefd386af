"""The report of a backtest: tables for a terminal, and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from models import units
from models.fitting import metrics
from models.fitting.alerts import TeamMeasures
from models.fitting.backtest import Backtest, Result
from streams.reports.formats import date, number

SHARES = (0.05, 0.10)


@dataclass(frozen=True)
class Flapping:
    """Changes per customer over the whole log, with the policy as it is and without grace, hold and hysteresis."""

    tier_changes: float
    risk_changes: float
    tier_changes_without: float
    risk_changes_without: float


@dataclass(frozen=True)
class PolicyReport:
    """The effect of a policy on the team."""

    name: str
    team: TeamMeasures
    flapping: Flapping


@dataclass(frozen=True)
class Report:
    """The result of a backtest."""

    logs: Sequence[str]
    events: int
    begins_ms: int
    ends_ms: int
    unusable: int
    found: Backtest
    policies: Sequence[PolicyReport]

    @property
    def title(self) -> str:
        """What was tested, and on what."""
        origins = self.found.origins_ms
        when = " at " + date(origins[0]) if len(origins) == 1 else f" at {len(origins)} origins"
        return f"Backtest{when}: no purchase within {units.format_duration(self.found.horizon_ms)}"

    @property
    def summary(self) -> str:
        """The events and customers, and how the models were fitted."""
        return (
            f"{self.events:,} events, {date(self.begins_ms)} to {date(self.ends_ms)}; {self.found.customers:,} customers "
            f"judged, {self.found.churned:.1%} churned. {self.how}"
        )

    @property
    def how(self) -> str:
        """How the models were fitted, in a sentence."""
        if self.found.is_by_customers:
            return (
                "The log before the cut is too short for earlier outcomes, so the models were fitted to the outcomes of other "
                "customers (five folds)."
            )
        return "At every origin each model was fitted to outcomes that were known then, so the future had no influence on it."

    @property
    def verdict(self) -> list[str]:
        """The answer in a few sentences."""
        fair = [one for one in self.found.results if one.is_out_of_sample]
        best, baseline = max(fair, key=lambda one: one.auc), self.found.best_baseline
        if best.is_baseline:
            lines = [
                f"The rule of thumb {best.name!r} ranks customers best (AUC {best.auc:.3f}): no model is worth "
                "its complexity on this log."
            ]
        else:
            lines = [
                f"{best.name} ranks customers best: AUC {best.auc:.3f}; the best rule of thumb ({baseline.name}) has "
                f"{baseline.auc:.3f}."
            ]
            lines += [f"{one.name} does not beat {baseline.name}: AUC {one.auc:.3f}." for one in self.found.beaten]
        lines += [
            f"{one.name} was fitted to a log until {date(one.fitted_until_ms)}, so it was fitted to outcomes that it is judged by: its "
            "figures flatter it. Fit it with --until the first origin, or see the score card that is fitted at every origin."
            for one in self.found.results
            if not one.is_out_of_sample
        ]
        return lines

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        found = self.found
        return {
            "logs": list(self.logs),
            "events": self.events,
            "unusable_records": self.unusable,
            "begins": units.format_time(self.begins_ms),
            "ends": units.format_time(self.ends_ms),
            "horizon": units.format_duration(found.horizon_ms),
            "origins": [units.format_time(at_ms) for at_ms in found.origins_ms],
            "learned_from": "other customers" if found.is_by_customers else "earlier outcomes",
            "customers": found.customers,
            "churned": round(found.churned, 6),
            "models": [self._model(one) for one in found.results],
            "policies": [self._policy(one) for one in self.policies],
            "verdict": self.verdict,
        }

    def _model(self, one: Result) -> dict[str, Any]:
        probability, churned = one.pooled
        return {
            "name": one.name,
            "is_baseline": one.is_baseline,
            "is_out_of_sample": one.is_out_of_sample,
            "auc": round(one.auc, 6),
            "brier": round(one.brier, 6),
            "lift_5": round(one.lift(0.05), 6),
            "lift_10": round(one.lift(0.10), 6),
            "calibration": [
                {"customers": part.customers, "predicted": round(part.predicted, 6), "churned": round(part.churned, 6)}
                for part in metrics.deciles(probability, churned)
            ],
            "by_origin": [
                {
                    "origin": units.format_time(judged.at_ms),
                    "customers": len(judged.churned),
                    "churned": round(float(judged.churned.mean()), 6),
                    "auc": round(metrics.auc(judged.probability, judged.churned), 6),
                    "brier": round(metrics.brier(judged.probability, judged.churned), 6),
                }
                for judged in one.forecasts
            ],
        }

    def _policy(self, one: PolicyReport) -> dict[str, Any]:
        team, flapping = one.team, one.flapping
        return {
            "name": one.name,
            "alerts": team.alerts,
            "alerts_per_week": _known(team.alerts_per_week),
            "alerts_by_week": [[units.format_time(at_ms), count] for at_ms, count in team.alerts_by_week],
            "precision": _known(team.precision),
            "losses": team.losses,
            "losses_caught": _known(team.caught),
            "value_caught": _known(team.value_caught),
            "lead_days": {name: _known(days) for name, days in zip(("p25", "p50", "p75"), team.lead_days, strict=True)},
            "tier_changes_per_customer": round(flapping.tier_changes, 6),
            "risk_changes_per_customer": round(flapping.risk_changes, 6),
            "without_grace_hold_and_hysteresis": {
                "tier_changes_per_customer": round(flapping.tier_changes_without, 6),
                "risk_changes_per_customer": round(flapping.risk_changes_without, 6),
            },
        }

    def print(self, console: Console) -> None:
        """Print the report to a terminal."""
        found = self.found
        console.print(f"[bold]{self.title}[/bold]")
        console.print(self.summary)
        table = Table("model", "AUC", "Brier", "lift, top 5 %", "lift, top 10 %")
        for column in table.columns[1:]:
            column.justify = "right"
        for one in sorted(found.results, key=lambda one: -one.auc):
            name = f"{one.name} (rule of thumb)" if one.is_baseline else one.name
            name += "" if one.is_out_of_sample else " (had seen outcomes)"
            table.add_row(name, f"{one.auc:.4f}", f"{one.brier:.4f}", *(f"{one.lift(share):.2f}" for share in SHARES))
        console.print(table)
        if self.policies:
            console.print(self._team_table())
        for line in self.verdict:
            console.print(line)

    def _team_table(self) -> Table:
        table = Table("effect on the team", *(one.name for one in self.policies))
        for column in table.columns[1:]:
            column.justify = "right"
        for what, cells in self.team_rows():
            table.add_row(what, *cells)
        return table

    def team_rows(self) -> list[tuple[str, list[str]]]:
        """The measures of each policy, a row for each measure."""
        teams, flapping = [one.team for one in self.policies], [one.flapping for one in self.policies]
        return [
            ("alerts per week", [number(one.alerts_per_week, "{:,.1f}") for one in teams]),
            ("right alerts: no purchase within the horizon", [number(one.precision, "{:.1%}") for one in teams]),
            ("losses", [f"{one.losses:,}" for one in teams]),
            ("caught: an alert before the loss", [number(one.caught, "{:.1%}") for one in teams]),
            ("value of the losses caught", [number(one.value_caught, "{:.1%}") for one in teams]),
            ("days between alert and loss, median", [number(one.lead_days[1], "{:.0f}") for one in teams]),
            ("tier changes per customer", [f"{one.tier_changes:.2f}" for one in flapping]),
            ("  without grace and hold", [f"{one.tier_changes_without:.2f}" for one in flapping]),
            ("risk changes per customer", [f"{one.risk_changes:.2f}" for one in flapping]),
            ("  without hysteresis", [f"{one.risk_changes_without:.2f}" for one in flapping]),
        ]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)
