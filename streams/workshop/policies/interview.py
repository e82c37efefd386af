"""The questions of `tierstream policy new`: each has a default, and none is asked that an option has answered."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

import typer

from models import units
from models.facts import WindowKind
from streams.terminal import say
from streams.workshop.policies.proposal import Step, Wishes
from streams.workshop.policies.round_thresholds import Sharing
from streams.workshop.policies.spend_history import Spend

MOST_TIERS: Final = 5
NAMES: Final = {
    1: ("member", "gold"),
    2: ("member", "silver", "gold"),
    3: ("member", "silver", "gold", "platinum"),
    4: ("member", "bronze", "silver", "gold", "platinum"),
    5: ("member", "bronze", "silver", "gold", "platinum", "diamond"),
}
SHARES: Final[dict[Sharing, dict[int, str]]] = {
    "customers": {1: "20", 2: "20, 5", 3: "20, 5, 1", 4: "40, 20, 5, 1", 5: "60, 40, 20, 5, 1"},
    "spend": {1: "60", 2: "60, 30", 3: "60, 30, 10", 4: "80, 60, 30, 10", 5: "80, 60, 40, 20, 10"},
}
"""Per cent in a tier and all above it: those of the customer pyramid (Zeithaml, Rust and Lemon 2001), and what such
customers spend.
"""
T = TypeVar("T")


@dataclass(frozen=True)
class Answers:
    """The answers that options have given; None is still to be asked."""

    id: str | None
    title: str | None
    currency: str | None
    tiers: int | None
    names: str | None
    window: str | None
    utc_offset: str
    grace: str | None
    step: str | None
    by: str | None
    shares: str | None


class Interview:
    """Asks on the terminal, or takes every default."""

    def __init__(self, takes_defaults: bool) -> None:
        self._takes_defaults = takes_defaults

    def ask(self, question: str, option: str, given: Any, default: str, read: Callable[[str], T]) -> T:
        """The value of an option, or the answer to a question, which is repeated until it is valid. Raises ValueError
        for an option.
        """
        if given is not None or self._takes_defaults:
            try:
                return read(default if given is None else str(given))
            except ValueError as error:
                raise ValueError(f"{option}: {error}") from None
        while True:
            typed = typer.prompt(question, default=default)
            try:
                return read(typed.strip())
            except ValueError as error:
                say(f"  {error}")

    def confirm(self, question: str, default: bool) -> bool:
        """Yes or no."""
        return default if self._takes_defaults else typer.confirm(question, default=default)

    def wishes(self, answers: Answers, found: dict[str, Spend], out: Path) -> Wishes:
        """Ask all questions except that about thresholds."""
        title = self.ask("Title", "--title", answers.title, "Customer tiers by annual spend", _text)
        slug = re.sub(r"[^a-z0-9._-]+", "-", out.stem.lower()).strip("-._") or "my-policy"
        policy_id = self.ask("Id, as announcements name it", "--id", answers.id, slug, _id)
        currency = self.ask("Currency", "--currency", answers.currency, next(iter(found)), _one_of(list(found)))
        names = self._names(answers)
        window: WindowKind = self.ask(
            f"Window, one of {', '.join(get_args(WindowKind))}",
            "--window",
            answers.window,
            "trailing",
            _one_of(get_args(WindowKind)),
        )
        units.parse_utc_offset(answers.utc_offset)
        grace = self.ask(
            "How long a tier is kept that is no longer earned"
            + ("" if window == "trailing" else "; period-end: to the end of the year"),
            "--grace",
            answers.grace,
            "30d" if window == "trailing" else "period-end",
            _grace_of(window),
        )
        step: Step = self.ask(
            "Down one tier at a time, or directly to the tier that is earned (one, direct)",
            "--step",
            answers.step,
            "one",
            _one_of(get_args(Step)),
        )
        sharing: Sharing = self.ask(
            "Set thresholds by shares of customers, or of what they spend (customers, spend)",
            "--by",
            answers.by,
            "customers",
            _one_of(get_args(Sharing)),
        )
        count = len(names) - 1
        shares = self.ask(
            f"Per cent of the {sharing} in {', '.join(names[1:])}, each with all above it",
            "--shares",
            answers.shares,
            SHARES[sharing][count],
            _shares_of(count),
        )  # fmt: skip
        return Wishes(policy_id, title, currency, names, window, answers.utc_offset, grace, step, sharing, shares)

    def _names(self, answers: Answers) -> tuple[str, ...]:
        if answers.names is not None:
            return self.ask("", "--names", answers.names, "", _names_of(answers.tiers))
        count = self.ask("How many tiers, besides the base tier", "--tiers", answers.tiers, "3", _count)
        return self.ask(
            "Their names, lowest first, beginning with the base tier",
            "--names",
            None,
            ", ".join(NAMES[count]),
            _names_of(count),
        )

    def thresholds(self, given: str | None, proposed: Sequence[float], decimals: int) -> tuple[int, ...]:
        """The proposed thresholds, or others, in minor units."""
        default = ", ".join(as_typed(int(threshold), decimals) for threshold in proposed)
        read = _thresholds_of(len(proposed), decimals)
        return self.ask("Thresholds, these or others", "--lines", given, default, read)


def as_typed(minor: int, decimals: int) -> str:
    """An amount as people type it, without decimals if these are 0."""
    return units.format_minor(minor, decimals).removesuffix("." + "0" * decimals) if decimals else str(minor)


def _text(typed: str) -> str:
    if not typed:
        raise ValueError("write something")
    return typed


def _id(typed: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", typed):
        raise ValueError(f"{typed!r} is not an id; use lower-case letters, digits and - . _")
    return typed


def _one_of(allowed: Sequence[Any]) -> Callable[[str], Any]:
    def read(typed: str) -> Any:
        if typed not in allowed:
            raise ValueError(f"{typed!r} is not among {', '.join(allowed)}")
        return typed

    return read


def _count(typed: str) -> int:
    if not typed.isdigit() or not 1 <= int(typed) <= MOST_TIERS:
        raise ValueError(f"{typed!r} is not a number from 1 to {MOST_TIERS}")
    return int(typed)


def _listed(typed: str) -> list[str]:
    return [one.strip() for one in typed.split(",") if one.strip()]


def _names_of(count: int | None) -> Callable[[str], tuple[str, ...]]:
    def read(typed: str) -> tuple[str, ...]:
        names = _listed(typed)
        if count is not None and len(names) != count + 1:
            raise ValueError(f"{count} tiers and the base tier are {count + 1} names, separated by commas")
        if not 2 <= len(names) <= MOST_TIERS + 1 or len(set(names)) != len(names) or max(map(len, names)) > 64:
            raise ValueError(
                f"write 2 to {MOST_TIERS + 1} different names of at most 64 characters, separated by commas"
            )
        return tuple(names)

    return read


def _grace_of(window: str) -> Callable[[str], str]:
    def read(typed: str) -> str:
        if typed != "period-end":
            units.parse_duration(typed)
        elif window == "trailing":
            raise ValueError("a trailing window has no period-end; write a duration such as 30d")
        return typed

    return read


def _shares_of(count: int) -> Callable[[str], tuple[float, ...]]:
    def read(typed: str) -> tuple[float, ...]:
        try:
            shares = tuple(float(one.removesuffix("%")) / 100 for one in _listed(typed))
        except ValueError:
            shares = ()
        falls = all(higher < lower for lower, higher in pairwise(shares))
        if len(shares) != count or not falls or not all(0 < share < 1 for share in shares):
            raise ValueError(
                f"write {count} per cents between 0 and 100, each smaller than the one before, such as {SHARES['customers'][count]}"
            )
        return shares

    return read


def _thresholds_of(count: int, decimals: int) -> Callable[[str], tuple[int, ...]]:
    def read(typed: str) -> tuple[int, ...]:
        thresholds = tuple(units.parse_minor(one, decimals) for one in _listed(typed))
        if len(thresholds) != count or thresholds[0] <= 0 or any(high <= low for low, high in pairwise(thresholds)):
            raise ValueError(f"write {count} amounts, each larger than the one before, separated by commas")
        return thresholds

    return read
