"""What an examination finds: ok, a warning or a problem, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one thing, and what to do about it."""

    about: str
    status: Status
    what: str
    do: str = ""


def ok(about: str, what: str) -> Finding:
    """As it should be."""
    return Finding(about, "ok", what)


def warning(about: str, what: str, do: str) -> Finding:
    """It works, but not as well as it could, or not for ever."""
    return Finding(about, "warning", what, do)


def problem(about: str, what: str, do: str) -> Finding:
    """It does not work like that."""
    return Finding(about, "problem", what, do)


def dotted(version: Iterable[int]) -> str:
    """A version as it is written."""
    return ".".join(map(str, version))


def counted(count: int, what: str) -> str:
    """So many of something.

    >>> counted(1, "broker"), counted(3, "broker")
    ('1 broker', '3 brokers')
    """
    return f"{count} {what}{'' if count == 1 else 's'}"
