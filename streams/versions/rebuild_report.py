"""The report of a comparison of two app versions, and the steps left to do after a switch, for people and programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from models.customer import BASE_LEVEL
from streams.topics import OUTPUTS
from streams.versions.table_comparison import EXAMPLES, HARMLESS, KINDS, STANDING, Difference, TableComparison, Version
from streams.workshop.compare.comparison import direction
from streams.workshop.compare.report import share


@dataclass(frozen=True)
class Report:
    """A comparison, with the versions compared."""

    old: Version
    new: Version
    found: TableComparison
    differences: Sequence[Difference]

    @property
    def same_policy(self) -> bool:
        """Whether both versions have the same policy, so that their customers should be equal."""
        return self.old.policy.ref == self.new.policy.ref

    @property
    def is_accepted(self) -> bool:
        """Whether the switch needs no --accept-differences: under another policy customers are meant to differ."""
        return self.found.is_harmless or not self.same_policy

    @property
    def verdict(self) -> list[str]:
        """The result in a few sentences."""
        found = self.found
        at = (
            "as of the same records and time (for this comparison "
            f"{found.records[0]:,} and {found.records[1]:,} records were folded in memory)"
        )
        if self.same_policy and found.is_harmless:
            return [
                f"All {found.customers:,} customers are the same in versions {self.old.number} and {self.new.number}, {at}."
            ]
        if self.same_policy:
            count = sum(count for kind, count in found.kinds.items() if kind not in HARMLESS)
            return [
                f"{count:,} of {found.customers:,} customers ({share(count, found.customers)}) are not the same in versions "
                f"{self.old.number} and {self.new.number}, under one policy, {at}."
            ]
        lines = [f"{found.customers:,} customers, {at}."]
        policies = (self.old.policy, self.new.policy)
        up = sum(count for move, count in found.tiers.items() if direction(policies, move) > 0)
        down = sum(count for move, count in found.tiers.items() if direction(policies, move) < 0)
        lines.append(
            f"{found.moved:,} of them ({share(found.moved, found.customers)}) are in another tier under {self.new.policy.ref}"
            + (f": {up:,} higher, {down:,} lower." if found.moved else ".")
        )
        return lines

    def rows(self) -> Iterator[tuple[str, int, str]]:
        """Per kind of difference: its name, how many customers, and under one policy what it means."""
        for kind, meaning in KINDS.items():
            if count := self.found.kinds[kind]:
                if self.same_policy:
                    yield kind, count, meaning
                else:
                    yield ("another tier or risk level" if kind == STANDING else kind), count, ""

    # ------------------------------------------------------------ for people
    def print(self, console: Console) -> None:
        """Print the report to a terminal."""
        console.print(f"[bold]Version {self.old.number} → version {self.new.number}[/bold]")
        for line in self.verdict:
            console.print(line)
        table = Table("customers", "", *(["what it means"] if self.same_policy else []))
        table.columns[0].justify = "right"
        for kind, count, meaning in self.rows():
            table.add_row(f"{count:,}", kind, *([meaning] if self.same_policy else []))
        console.print(table)
        if not (self.same_policy and self.found.is_harmless):
            levels = [[BASE_LEVEL, *(one.name for one in side.policy.risk.levels)] for side in (self.old, self.new)]
            tiers = [side.policy.ladder.tier_names for side in (self.old, self.new)]
            console.print(self._matrix("Customers by tier in each", tiers, self.found.tiers))
            console.print(self._matrix("Customers by risk level in each", levels, self.found.levels))
        for one in self._examples():
            console.print(f"{one.customer_id}: {one.kind}, {_in_each(one.tiers)}, risk {_in_each(one.levels)}")

    def _matrix(self, title: str, names: Sequence[Sequence[str]], counts: Counter[tuple[str, str]]) -> Table:
        table = Table(f"version {self.old.number} ↓  {self.new.number} →", title=title)
        for after in names[1]:
            table.add_column(after, justify="right")
        for before in reversed(names[0]):
            cells = [counts[before, after] for after in names[1]]
            table.add_row(before, *(f"{one:,}" for one in cells))
        return table

    def _examples(self) -> Iterator[Difference]:
        if not self.same_policy:
            return
        seen: Counter[str] = Counter()
        for one in self.differences:
            seen[one.kind] += 1
            if seen[one.kind] <= EXAMPLES:
                yield one

    # ------------------------------------------------------------ for programs
    def as_json(self) -> dict[str, Any]:
        """The report without the customers that differ, which are in a file of their own (`lines`)."""
        found = self.found
        return {
            "versions": [self.old.number, self.new.number],
            "policies": [self.old.policy.ref, self.new.policy.ref],
            "customers": found.customers,
            "compared": dict(sorted(found.kinds.items())),
            "tiers": _moves(found.tiers),
            "levels": _moves(found.levels),
            "differences": len(self.differences),
            "accepted": self.is_accepted,
            "verdict": self.verdict,
        }

    def lines(self) -> Iterator[bytes]:
        """The customers that differ, as JSON, one per line."""
        for one in self.differences:
            yield orjson.dumps(
                {
                    "customer_id": one.customer_id,
                    "what": one.kind,
                    "tier": list(one.tiers),
                    "risk_level": list(one.levels),
                }
            )


def steps_left(old: Version, new: Version) -> list[str]:
    """What the operators of the installation still have to do, in sentences."""
    environment = f"TIERSTREAM_APP_VERSION={new.number}"
    if new.settings.policy != old.settings.policy:
        environment += f" TIERSTREAM_POLICY={new.settings.policy}"
    lines = [
        f"Start workers with {environment}; use it also for the console, alerts push, alerts digest and programs that use "
        "streams.client.changes or .lookups."
    ]
    names = ", ".join(f"{old.settings.topic(name)} → {new.settings.topic(name)}" for name in OUTPUTS)
    lines.append(f"Other consumers: {names}.")
    if new.settings.redis_url is not None:
        lines.append(f"Programs that read Redis directly: keys begin with {new.settings.redis_prefix} now.")
    if new.policy.ref != old.policy.ref:
        lines.append(
            f"Version {new.number}'s topics have no announcement after the cut for customers whose tier differs: "
            f"--moves FILE lists them, and {new.settings.topic('profiles')} has the profiles of all customers."
        )
    return lines


def _moves(counts: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"from": before, "to": after, "customers": count} for (before, after), count in sorted(counts.items())]


def _in_each(sides: Iterable[str | None]) -> str:
    return " → ".join(one or "not known" for one in sides)
