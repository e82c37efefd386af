"""What every command has in common: how it speaks, and how it refuses."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final

import orjson
import typer

FAILED: Final = 1
WRONG_USE: Final = 2
INTERRUPTED: Final = 130

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def refuse(message: str) -> typer.Exit:
    """Say what is wrong on standard error; the caller raises the result."""
    return fail(message, WRONG_USE)


def fail(message: str, status: int = FAILED) -> typer.Exit:
    """Say what failed, and what to do, on standard error; the caller raises the result."""
    warn(f"tierstream: {message}")
    return typer.Exit(status)


def confirm(question: str, yes: bool, otherwise: str = "nothing was done; --yes goes on without asking") -> None:
    """Ask on standard error, unless `yes`. Raises typer.Exit, saying what was not done, if the answer is no."""
    if yes:
        return
    try:
        sure = typer.confirm(question, err=True)
    except typer.Abort:
        sure = False
    if not sure:
        raise fail(otherwise)


def warn(text: str) -> None:
    """To standard error, as it is."""
    print(text, file=sys.stderr)  # noqa: T201


def say(text: str) -> None:
    """To standard output, as it is."""
    print(text)  # noqa: T201


def say_json(value: Any, option: int | None = None) -> None:
    """JSON to standard output."""
    say(orjson.dumps(value, option=option).decode())


def printable(text: str) -> str:
    r"""With escapes for what a terminal would obey: what was sent comes from anywhere.

    >>> print(printable("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    return "".join(one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text)
