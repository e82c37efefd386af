"""Reads single settings of a policy file, and collects what is wrong with them instead of stopping at the first."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, TypeVar

from models import units
from models.events import MAX_AMOUNT_MINOR
from models.policy.line_numbers import line_of
from models.policy.problems import Problem

LONGEST_MS: Final = 100 * 365 * units.DAY_MS
"""No duration is longer: so every instant computed from an event's time and a policy can be written as RFC 3339."""

_T = TypeVar("_T")


class SettingsReader:
    """Turns settings into numbers of the right unit.

    Where a setting is wrong it records a problem and gives a usable value, so that one reading finds all problems.
    `path` names a setting, as in `tiers[1].min_spend`; `fix` says what to write instead. `decimals` are those of the
    policy's currency.
    """

    def __init__(self, text: str, decimals: int) -> None:
        self.text = text
        self.decimals = decimals
        self.problems: list[Problem] = []

    def problem(self, path: str, what: str, fix: str) -> None:
        """Record a problem."""
        self.problems.append(Problem(line_of(self.text, path), path, what, fix))

    def check(self, holds: bool, path: str, what: str, fix: str) -> None:
        """Record a problem unless `holds`."""
        if not holds:
            self.problem(path, what, fix)

    def read(self, path: str, parser: Callable[[Any], _T], value: Any, default: _T) -> _T:
        """`parser(value)`; where that raises ValueError, a problem is recorded and `default` returned."""
        try:
            return parser(value)
        except ValueError as error:
            what, _, fix = str(error).partition("; ")
            self.problem(path, what, fix[:1].upper() + fix[1:] if fix else "Write a valid value")
            return default

    def duration(self, path: str, value: str, least_ms: int = 0) -> int:
        """A duration in milliseconds, from `least_ms` to LONGEST_MS."""
        duration_ms = self.read(path, units.parse_duration, value, max(least_ms, 1))
        self.check(
            duration_ms >= least_ms, path, f"{value} is too short", f"Write at least {units.format_duration(least_ms)}"
        )
        self.check(
            duration_ms <= LONGEST_MS,
            path,
            f"{value} is too long",
            f"Write at most {units.format_duration(LONGEST_MS)}",
        )
        return min(max(duration_ms, least_ms), LONGEST_MS)

    def amount(self, path: str, value: str | int) -> int:
        """An amount in minor units of the policy's currency, not negative."""
        minor = self.read(path, lambda amount: units.parse_minor(amount, self.decimals), value, 0)
        self.check(0 <= minor <= MAX_AMOUNT_MINOR, path, f"{value} is out of range", "Write an amount from 0 up")
        return minor

    def milli(self, path: str, value: str | float | int) -> int:
        """Thousandths, exactly: scores and weights have at most three decimals."""
        return self.read(path, _milli, value, 0)


def _milli(value: str | float | int) -> int:
    try:
        milli = Decimal(str(value)) * 1000
        whole = int(milli) if abs(milli) <= 10**9 else None
    except ArithmeticError:
        raise ValueError(f"{value!r} is not a number; write one such as 0.3") from None
    if whole is None or milli != whole:
        raise ValueError(f"{value} is not a number of at most three decimals; round it")
    return whole
