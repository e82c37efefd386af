"""The report of a comparison of two policies: tables for a terminal, and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, mean, quantiles
from typing import Any, Final, Literal

from rich.console import Console
from rich.table import Table

from models import units
from models.policy import Policy
from streams.reports.formats import date
from streams.workshop.compare.comparison import (
    MOVES,
    NOWHERE,
    UNKNOWN,
    Comparison,
    Group,
    Side,
    direction,
    revenue_days,
)

BY_QUARTERS_FROM: Final = 25
"""Months; with so many or more, cohorts are quarters."""
LEAST_OF_A_COHORT: Final = 20
"""Customers; a smaller cohort is shown, but never called the hardest hit."""
SHOWN_IN_TERMINAL: Final = 10
CohortKind = Literal["first purchase", "region", "segment"]


@dataclass(frozen=True)
class Cohort:
    """Customers with the same month of first purchase, region or segment."""

    kind: CohortKind
    """What they have in common."""
    name: str
    group: Group

    @property
    def shown(self) -> str:
        """Its name as shown, also where it is the group of customers without one."""
        return self.name or "none known" if self.kind == "region" else self.name or "none of them"

    @property
    def least_share_down(self) -> float:
        """A lower bound of the share that is lower under the second policy: the lower end of Wilson's 95 % interval.

        So a large cohort of which a third goes down ranks before a small one of which two thirds go down by chance.
        """
        down, customers, z = self.group.down, self.group.customers, NormalDist().inv_cdf(0.975)
        spread = z * sqrt(z * z + 4 * down * (customers - down) / customers)
        return max((2 * down + z * z - spread) / (2 * (customers + z * z)), 0.0)


@dataclass(frozen=True)
class Report:
    """A comparison, with the policies, logs and instant that it is about."""

    policies: tuple[Policy, Policy]
    logs: Sequence[str]
    as_of_ms: int
    agents: int
    found: Comparison

    # ------------------------------------------------------------ figures
    @property
    def title(self) -> str:
        """The policies and the instant."""
        return f"{self.policies[0].ref} → {self.policies[1].ref}, as of {date(self.as_of_ms)}"

    @property
    def revenue_days(self) -> int:
        """The number of days over which revenue is counted."""
        return revenue_days(self.policies[0])

    @property
    def days(self) -> int:
        """The number of days (UTC) from the first event to the end."""
        return max(self.as_of_ms // units.DAY_MS - self.found.begins_ms // units.DAY_MS + 1, 1)

    @property
    def summary(self) -> str:
        """The number of events and customers, and the span of time."""
        begins = date(min(self.found.begins_ms, self.as_of_ms))
        return (
            f"{self.found.events:,} events of {self.found.all.customers:,} customers, {begins} to {date(self.as_of_ms)}"
        )

    def money(self, minor: float, policy: int = 0) -> str:
        """An amount as it is shown, without decimals."""
        chosen = self.policies[policy]
        return f"{minor / 10**chosen.decimals:,.0f} {chosen.currency}"

    def alerts(self, number: int) -> dict[str, float]:
        """The `total` of a policy's alerts; per day and agent the `mean`, the least on the `busiest_twentieth` of days,
        and the `most`; with a budget the `days_over_budget`.
        """
        by_day = self.found.sides[number].alerts
        counts = [*by_day.values(), *([0] * max(self.days - len(by_day), 0))]
        *_, busy = quantiles(counts, n=20, method="inclusive") if len(counts) > 1 else counts
        rules = self.policies[number].alerts
        figures = {
            "total": float(sum(counts)),
            "mean": mean(counts) / self.agents,
            "busiest_twentieth": busy / self.agents,
            "most": max(counts) / self.agents,
        }
        if rules is not None and rules.budget:
            figures["days_over_budget"] = float(sum(one > rules.budget * self.agents for one in counts))
        return figures

    def cost_to_serve(self, number: int) -> dict[str, int] | None:
        """The cost to serve of a year by tier, in minor units; None if the policy has no costs."""
        policy, side = self.policies[number], self.found.sides[number]
        costs = policy.value.cost_to_serve_minor
        if not any(costs):
            return None
        return {
            name: side.tiers[name] * (costs[rank] if rank < len(costs) else 0)
            for rank, name in enumerate(policy.ladder.tier_names)
        }

    @property
    def cohorts(self) -> list[Cohort]:
        """Customers by first purchase, oldest first."""
        months = self.found.cohorts
        if len(months) >= BY_QUARTERS_FROM:
            months = _by_quarters(months)
        return [Cohort("first purchase", name, group) for name, group in sorted(months.items())]

    @property
    def regions(self) -> list[Cohort]:
        """Customers by region, those without a known region last; empty if no region is known."""
        return _named("region", sorted(self.found.regions), self.found.regions)

    def segments(self, number: int) -> list[Cohort]:
        """Customers by segment of a policy, in its order, those in no segment last; empty if it has no segments."""
        names = [one.name for one in self.policies[number].segments]
        return _named("segment", names, self.found.segments[number])

    @property
    def parts(self) -> list[tuple[str, list[Cohort]]]:
        """Customers by region, and by segment of each policy, where these exist; each with its heading."""
        found = [("by region", self.regions)]
        found += [(f"by segment of {self.policies[number].ref}", self.segments(number)) for number in (0, 1)]
        return [(heading, cohorts) for heading, cohorts in found if cohorts]

    @property
    def hardest_hit(self) -> Cohort | None:
        """The cohort with the largest `least_share_down`; None if no large cohort has a customer who is lower."""
        known = [*self.cohorts, *self.regions, *self.segments(0)]
        large = [one for one in known if one.name and one.group.customers >= LEAST_OF_A_COHORT and one.group.down]
        return max(large, key=lambda one: one.least_share_down, default=None)

    def months(self) -> list[str]:
        """All months from the first to the last that has an upgrade or a downgrade."""
        known = sorted({month for side in self.found.sides for month, _ in side.moves})
        if not known:
            return []
        (year, month), (last_year, last_month) = (map(int, one.split("-")) for one in (known[0], known[-1]))
        numbers = range(year * 12 + month - 1, last_year * 12 + last_month)
        return [f"{one // 12:04}-{one % 12 + 1:02}" for one in numbers]

    @property
    def verdict(self) -> list[str]:
        """The answer in a few sentences."""
        everybody, second = self.found.all, self.policies[1]
        movers, revenue = everybody.up + everybody.down, everybody.up_minor + everybody.down_minor
        if not movers:
            lines = [f"Nobody would be in another tier under {second.ref}."]
        else:
            lines = [
                f"{movers:,} of {everybody.customers:,} customers ({share(movers, everybody.customers)}) would be in another "
                f"tier: {everybody.up:,} higher, {everybody.down:,} lower.",
                f"They bought for {self.money(revenue)} in the last {self.revenue_days} days, "
                f"{share(revenue, everybody.revenue_minor)} of all revenue; those who would be lower bought for "
                f"{self.money(everybody.down_minor)} of it.",
            ]
        before, after = self.alerts(0)["mean"], self.alerts(1)["mean"]
        each = "" if self.agents == 1 else " and agent"
        lines.append(f"Alerts per day{each}: {before:,.1f} now, {after:,.1f} then.")
        costs = [self.cost_to_serve(number) for number in (0, 1)]
        per_policy = [
            f"{self.money(sum(one.values()), number)} {('now', 'then')[number]}"
            for number, one in enumerate(costs)
            if one is not None
        ]
        if per_policy:
            lines.append(f"Serving all customers costs, per year: {', '.join(per_policy)}.")
        hardest = self.hardest_hit
        if hardest is not None:
            lines.append(
                f"The hardest hit are customers with {hardest.kind} {hardest.name}: {share(hardest.group.down, hardest.group.customers)} "
                f"of {hardest.group.customers:,} would be lower."
            )
        return lines

    # ------------------------------------------------------------ for programs
    def as_json(self) -> dict[str, Any]:
        """Everything. Amounts are decimal texts, in the first policy's currency unless they are the second policy's
        own.
        """
        everybody = self.found.all
        return {
            "policies": [self._policy(number) for number in (0, 1)],
            "logs": list(self.logs),
            "as_of": units.format_time(self.as_of_ms),
            "begins": units.format_time(min(self.found.begins_ms, self.as_of_ms)),
            "events": self.found.events,
            "revenue_days": self.revenue_days,
            "all": self._group(everybody),
            "moves": [
                {"from": before, "to": after, "direction": self.way(before, after), **self._group(group)}
                for (before, after), group in self.flows()
            ],
            "by_month": [
                {
                    "month": month,
                    **{
                        name: {f"{change}s": side.moves[month, change] for change in MOVES}
                        for name, side in zip(("a", "b"), self.found.sides, strict=True)
                    },
                }
                for month in self.months()
            ],
            "agents": self.agents,
            "by_region": [{"region": one.name or None, **self._group(one.group)} for one in self.regions],
            "by_segment": [
                {"policy": name, "segment": one.name or None, **self._group(one.group)}
                for number, name in enumerate(("a", "b"))
                for one in self.segments(number)
            ],
            "cohorts": [{"kind": one.kind, "name": one.name, **self._group(one.group)} for one in self.cohorts],
            "hardest_hit": None if (one := self.hardest_hit) is None else {"kind": one.kind, "name": one.name},
            "movers": [
                {
                    "customer_id": one.customer_id,
                    "from": one.tiers[0],
                    "to": one.tiers[1],
                    "direction": self.way(*one.tiers),
                    "lifetime_value": self._amount(one.lifetime_minor),
                    "revenue": self._amount(one.revenue_minor),
                    "region": one.region or None,
                    "why": {"a": one.why[0], "b": one.why[1]},
                }
                for one in self.found.movers
            ],
            "verdict": self.verdict,
        }

    def _policy(self, number: int) -> dict[str, Any]:
        policy, side = self.policies[number], self.found.sides[number]
        costs = self.cost_to_serve(number)
        return {
            "policy": policy.ref,
            "title": policy.title,
            "currency": policy.currency,
            "tiers": {name: side.tiers[name] for name in tiers_of(policy, side)},
            **{f"{change}s": sum(n for (_, name), n in side.moves.items() if name == change) for change in MOVES},
            "alerts": {name: round(value, 3) for name, value in self.alerts(number).items()},
            "cost_to_serve": None
            if costs is None
            else {
                name: units.format_minor(minor, policy.decimals)
                for name, minor in {"total": sum(costs.values()), **costs}.items()
            },
            "rejected": dict(sorted(side.rejected.items())),
        }

    def _group(self, group: Group) -> dict[str, Any]:
        return {
            "customers": group.customers,
            "revenue": self._amount(group.revenue_minor),
            "up": group.up,
            "up_revenue": self._amount(group.up_minor),
            "down": group.down,
            "down_revenue": self._amount(group.down_minor),
        }

    def _amount(self, minor: int) -> str:
        return units.format_minor(minor, self.policies[0].decimals)

    def flows(self) -> Iterator[tuple[tuple[str, str], Group]]:
        """The groups of customers by their tiers under each policy, from the highest tiers down."""
        names = [tiers_of(policy, side) for policy, side in zip(self.policies, self.found.sides, strict=True)]
        for before in reversed(names[0]):
            for after in reversed(names[1]):
                if (group := self.found.flows.get((before, after))) is not None:
                    yield (before, after), group

    def way(self, before: str, after: str) -> int:
        """Whether a move is up (1), down (-1) or neither (0)."""
        return direction(self.policies, (before, after))

    # ------------------------------------------------------------ for people
    def print(self, console: Console) -> None:
        """Print the report to a terminal."""
        console.print(f"[bold]{self.title}[/bold]")
        console.print(self.summary)
        for line in self.verdict:
            console.print(line)
        console.print(self._matrix())
        console.print(self._figures())
        for heading, cohorts in self.parts:
            console.print(self._part(heading, cohorts))
        if self.found.movers:
            console.print(self._movers())

    def _matrix(self) -> Table:
        names = [tiers_of(policy, side) for policy, side in zip(self.policies, self.found.sides, strict=True)]
        table = Table(f"{self.policies[0].ref} ↓  {self.policies[1].ref} →", title="Customers by tier under each")
        for after in names[1]:
            table.add_column(after, justify="right")
        table.add_column("all", justify="right")
        for before in reversed(names[0]):
            cells = [self.found.flows.get((before, after), Group()).customers for after in names[1]]
            shown = [_coloured(n, self.way(before, after)) for n, after in zip(cells, names[1], strict=True)]
            table.add_row(before, *shown, f"{sum(cells):,}")
        return table

    def _figures(self) -> Table:
        table = Table("", *(policy.ref for policy in self.policies))
        for column in table.columns[1:]:
            column.justify = "right"
        for what, cells in self.rows():
            table.add_row(what, *cells)
        return table

    def rows(self) -> list[tuple[str, list[str]]]:
        """The figures of each policy, a row for each measure."""
        sides, alerts = self.found.sides, [self.alerts(number) for number in (0, 1)]
        each = "per day" if self.agents == 1 else f"per day and agent, of {self.agents}"
        rows = [
            (
                f"{change}s over the log",
                [f"{sum(n for (_, c), n in side.moves.items() if c == change):,}" for side in sides],
            )
            for change in MOVES
        ]
        rows += [
            (f"alerts {each}", [f"{one['mean']:,.1f}" for one in alerts]),
            ("  on the busiest twentieth of days, at least", [f"{one['busiest_twentieth']:,.1f}" for one in alerts]),
            (
                "  days over the budget",
                [f"{one['days_over_budget']:,.0f}" if "days_over_budget" in one else UNKNOWN for one in alerts],
            ),
        ]
        costs = [self.cost_to_serve(number) for number in (0, 1)]
        per_policy = [UNKNOWN if one is None else self.money(sum(one.values()), n) for n, one in enumerate(costs)]
        rows.append(("cost to serve, per year", per_policy))
        rows.append(("records not used", [f"{sum(side.rejected.values()):,}" for side in sides]))
        return rows

    def _part(self, heading: str, cohorts: list[Cohort]) -> Table:
        table = Table(heading.partition(" ")[2].split(" ")[0], title=f"Customers {heading}")
        for name in ("customers", "revenue", "higher", "lower", "share lower"):
            table.add_column(name, justify="right")
        for one in cohorts:
            group = one.group
            table.add_row(
                one.shown,
                f"{group.customers:,}",
                self.money(group.revenue_minor),
                _coloured(group.up, 1),
                _coloured(group.down, -1),
                share(group.down, group.customers),
            )
        return table

    def _movers(self) -> Table:
        shown = self.found.movers[:SHOWN_IN_TERMINAL]
        table = Table(
            "customer",
            "from",
            "to",
            "worth",
            "why",
            title=f"The most valuable customers who would move, {len(shown)} of {len(self.found.movers)}",
        )
        table.columns[3].justify = "right"
        for one in shown:
            # What the higher of the two tiers takes, under the policy that gives the lower one.
            why = one.why[0 if self.way(*one.tiers) > 0 else 1]
            table.add_row(
                one.customer_id,
                one.tiers[0],
                _coloured(one.tiers[1], self.way(*one.tiers)),
                self.money(one.lifetime_minor),
                why,
            )
        return table


def tiers_of(policy: Policy, side: Side) -> list[str]:
    """A policy's tiers, lowest first; before them UNKNOWN, if there are customers whom it does not know."""
    return [*([UNKNOWN] if side.tiers[UNKNOWN] else []), *policy.ladder.tier_names]


def share(part: float, whole: float) -> str:
    """A share in percent; a dash if the whole is 0."""
    return f"{part / whole:.1%}" if whole else "–"


def _coloured(value: int | str, way: int) -> str:
    text = f"{value:,}" if isinstance(value, int) else value
    return text if not way or not value else f"[{'green' if way > 0 else 'red'}]{text}[/]"


def _named(kind: CohortKind, names: Sequence[str], groups: Mapping[str, Group]) -> list[Cohort]:
    """Groups in the order of `names`, the group without a name last; empty if there is no other."""
    found = [Cohort(kind, name, groups[name]) for name in names if name and name in groups]
    return [*found, *([Cohort(kind, NOWHERE, groups[NOWHERE])] if NOWHERE in groups else [])] if found else []


def _by_quarters(months: Mapping[str, Group]) -> dict[str, Group]:
    found: dict[str, Group] = {}
    for month, group in months.items():
        quarter = f"{month[:4]}-Q{(int(month[5:]) + 2) // 3}"
        found.setdefault(quarter, Group()).add(group)
    return found
