"""Two policies over the same events: the report of `tierstream diff`, as an object with tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct, field

from models.policy import Policy
from streams.library import columns, dataframes
from streams.library.inputs import Events, instant_of, logs_of, policy_of

if TYPE_CHECKING:
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
    """Customers who began, or are, together."""

    kind: str
    name: str


class ByRegion(_Customers, frozen=True, kw_only=True):
    """Customers of a region; None: of whom none is known."""

    region: str | None


class BySegment(_Customers, frozen=True, kw_only=True):
    """Customers in a segment of one of the policies; None: in none of them."""

    policy: str
    segment: str | None


class Moves(Struct, frozen=True, kw_only=True):
    """How many went up and down in a month."""

    upgrades: int
    downgrades: int


class Month(Struct, frozen=True, kw_only=True):
    """A month under each policy."""

    month: str
    a: Moves
    b: Moves


class Why(Struct, frozen=True, kw_only=True):
    """What lies between the two tiers, under each policy."""

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
        """Everything, as `tierstream diff --json` writes it."""
        return self.report.as_json()

    def to_arrow(self, name: str) -> Any:
        """A part as an Arrow table: `movers` (the most valuable first), `moves`, `cohorts`, `by_month`, `by_region` or `by_segment`."""
        if name not in TABLES:
            raise LookupError(f"there is no table {name!r}; there are {', '.join(TABLES)}")
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
    """What policy `b` instead of `a` would change, as `tierstream diff` tells it: who moves, why, and what it means.

    Events and policies are given as to `replay`; `as_of` leaves out what came later. `agents` share the alerts; `top` of the most valuable movers are
    listed. Raises ValueError with what is wrong and how to mend it.
    """
    from streams.workshop.compare import comparison
    from streams.workshop.compare.report import Report

    policies = policy_of(a), policy_of(b)
    found, until_ms = comparison.compare(logs_of(events, maps), policies, instant_of(as_of), top, 1, False)
    return Compared(Report(policies, (), until_ms, agents, found))
