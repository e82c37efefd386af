"""What a comparison of two app versions found, and what is to be done about a switch, for people and programs."""

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
from streams.versions.two_tables import EXAMPLES, HARMLESS, KINDS, STANDING, Difference, Found, Version
from streams.workshop.compare.comparison import direction
from streams.workshop.compare.report import share


@dataclass(frozen=True)
class Report:
    """A comparison with what it is about."""

    old: Version
    new: Version
    found: Found
    differences: Sequence[Difference]

    @property
    def same_policy(self) -> bool:
        """Whether the versions ought to be equal."""
        return self.old.policy.ref == self.new.policy.ref

    @property
    def is_accepted(self) -> bool:
        """Whether nothing speaks against going over: under another policy customers are meant to move."""
        return self.found.is_harmless or not self.same_policy

    @property
    def verdict(self) -> list[str]:
        """The answer in a few sentences."""
        found = self.found
        at = f"as of the same records and time (folded for that in memory: {found.records[0]:,} and {found.records[1]:,} records)"
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
        """How customers compare: kind, how many, and under one policy what it means."""
        for kind, meaning in KINDS.items():
            if count := self.found.kinds[kind]:
                if self.same_policy:
                    yield kind, count, meaning
                else:
                    yield ("another tier or risk level" if kind == STANDING else kind), count, ""

    # ------------------------------------------------------------ for people
    def print(self, console: Console) -> None:
        """For a terminal."""
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
            console.print(f"{one.customer_id}: {one.kind}, {_said(one.tiers)}, risk {_said(one.levels)}")

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
        """All but the customers who differ, who have a file of their own."""
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
        """The customers who differ, a line each."""
        for one in self.differences:
            yield orjson.dumps(
                {
                    "customer_id": one.customer_id,
                    "what": one.kind,
                    "tier": list(one.tiers),
                    "risk_level": list(one.levels),
                }
            )


def what_is_left_to_do(old: Version, new: Version) -> list[str]:
    """What only those can do who run the installation."""
    environment = f"TIERSTREAM_APP_VERSION={new.number}"
    if new.settings.policy != old.settings.policy:
        environment += f" TIERSTREAM_POLICY={new.settings.policy}"
    lines = [
        f"Start workers with {environment}, and with it the console, alerts push, alerts digest and programs that use streams.client.changes or .lookups."
    ]
    names = ", ".join(f"{old.settings.topic(name)} → {new.settings.topic(name)}" for name in OUTPUTS)
    lines.append(f"Other consumers: {names}.")
    if new.settings.redis_url is not None:
        lines.append(f"Who reads Redis themselves: keys begin with {new.settings.redis_prefix} now.")
    if new.policy.ref != old.policy.ref:
        lines.append(
            f"Customers whose tier differs were told nothing of it on version {new.number}'s topics after the cut: --moves FILE lists "
            f"them, and {new.settings.topic('profiles')} has everybody as they are."
        )
    return lines


def _moves(counts: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"from": before, "to": after, "customers": count} for (before, after), count in sorted(counts.items())]


def _said(sides: Iterable[str | None]) -> str:
    return " → ".join(one or "not known" for one in sides)
