"""A finding of an examination: ok, a warning or a problem, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding about one thing: `what` says what was found, `do` what to do about it."""

    about: str
    status: Status
    what: str
    do: str = ""


def ok(about: str, what: str) -> Finding:
    """Everything is as it should be."""
    return Finding(about, "ok", what)


def warning(about: str, what: str, do: str) -> Finding:
    """It works, but not as well as it could, or not forever."""
    return Finding(about, "warning", what, do)


def problem(about: str, what: str, do: str) -> Finding:
    """It does not work."""
    return Finding(about, "problem", what, do)


def version_text(version: Iterable[int]) -> str:
    """A version as text, as in 2.5."""
    return ".".join(map(str, version))


def with_count(count: int, what: str) -> str:
    """A number with a noun.

    >>> with_count(1, "broker"), with_count(3, "broker")
    ('1 broker', '3 brokers')
    """
    return f"{count} {what}{'' if count == 1 else 's'}"
