"""Compares two policies over the same events: the report of `tierstream policy diff`, as an object with tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from models.policy import Policy
from streams.library import columns, dataframes
from streams.library.inputs import Events, instant_of, logs_of, policy_of
from streams.workshop.compare import comparison
from streams.workshop.compare.report import Report


class _Customers(Struct, frozen=True, kw_only=True):
    customers: int
    revenue: Decimal
    up: int
    up_revenue: Decimal
    down: int
    down_revenue: Decimal


class Move(_Customers, frozen=True, kw_only=True):
    """Customers by their tiers under each policy."""

    from_: str = field(name="from")
    to: str
    direction: int


class Cohort(_Customers, frozen=True, kw_only=True):
    """Customers with the same month of first purchase, region or segment."""

    kind: str
    name: str


class ByRegion(_Customers, frozen=True, kw_only=True):
    """Customers of a region; None for customers without a known region."""

    region: str | None


class BySegment(_Customers, frozen=True, kw_only=True):
    """Customers in a segment of one of the policies; None for customers in no segment."""

    policy: str
    segment: str | None


class Moves(Struct, frozen=True, kw_only=True):
    """The number of upgrades and downgrades in a month."""

    upgrades: int
    downgrades: int


class Month(Struct, frozen=True, kw_only=True):
    """A month under each policy."""

    month: str
    a: Moves
    b: Moves


class Why(Struct, frozen=True, kw_only=True):
    """What separates the two tiers, under each policy."""

    a: str
    b: str


class Mover(Struct, frozen=True, kw_only=True):
    """A customer whose tier differs."""

    customer_id: str
    from_: str = field(name="from")
    to: str
    direction: int
    lifetime_value: Decimal
    revenue: Decimal
    region: str | None
    why: Why


TABLES: Final[dict[str, type[Struct]]] = {
    "movers": Mover,
    "moves": Move,
    "cohorts": Cohort,
    "by_month": Month,
    "by_region": ByRegion,
    "by_segment": BySegment,
}


@dataclass(frozen=True, repr=False)
class Compared:
    """What another policy would change."""

    report: Report

    def __repr__(self) -> str:
        return "\n".join([self.report.title, self.report.summary, *self.report.verdict])

    @property
    def verdict(self) -> list[str]:
        """The answer in a few sentences."""
        return self.report.verdict

    def as_json(self) -> dict[str, Any]:
        """Everything, as `tierstream policy diff --json` writes it."""
        return self.report.as_json()

    def to_arrow(self, name: str) -> Any:
        """A table of the comparison, as an Arrow table: `movers` (the most valuable first), `moves`, `cohorts`,
        `by_month`, `by_region` or `by_segment`.
        """
        if name not in TABLES:
            raise LookupError(f"there is no table {name!r}; the tables are {', '.join(TABLES)}")
        rows = [msgspec.convert(row, TABLES[name]) for row in self.as_json()[name]]
        return columns.arrow_table([TABLES[name]], rows, self.report.policies[0])

    def to_pandas(self, name: str) -> Any:
        """The same as a pandas DataFrame."""
        return dataframes.to_pandas(self.to_arrow(name))

    def to_polars(self, name: str) -> Any:
        """The same as a Polars DataFrame."""
        return dataframes.to_polars(self.to_arrow(name))


def compare(
    events: Events,
    a: Policy | Mapping[str, Any] | str | Path,
    b: Policy | Mapping[str, Any] | str | Path,
    as_of: str | int | date | None = None,
    *,
    agents: int = 1,
    top: int = 100,
    maps: Sequence[str] = (),
) -> Compared:
    """Compare policy `a` with policy `b`, as `tierstream policy diff` does: which customers move, why, and what it means.

    Events and policies are given as to `replay`. Events later than `as_of` are left out. Alerts are counted per each of
    `agents` agents; the `top` most valuable movers are listed. Raises ValueError that says what is wrong and what to
    do.

    >>> sales = [{"event_id": "1", "order_id": "1", "kind": "purchase", "customer_id": "ada", "amount": "150.00",
    ...           "currency": "USD", "occurred_at": "2026-01-05T00:00:00Z"}]
    >>> compare(sales, "annual-spend", "annual-spend").verdict[0]
    'Nobody would be in another tier under annual-spend@1.'
    """
    policies = policy_of(a), policy_of(b)
    found, until_ms = comparison.compare(logs_of(events, maps), policies, instant_of(as_of), top, 1, False)
    return Compared(Report(policies, (), until_ms, agents, found))
