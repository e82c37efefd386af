"""What commands share: their options, what they print, and how they refuse."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

import orjson
import typer

FAILED: Final = 1
WRONG_USE: Final = 2
INTERRUPTED: Final = 130

BrokerOption = Annotated[
    str | None, typer.Option("--broker", help="Kafka, as host:port.  [default: TIERSTREAM_BROKER]")
]
RedisOption = Annotated[
    str | None, typer.Option("--redis-url", help="The Redis of the serving view.  [default: TIERSTREAM_REDIS_URL]")
]
PolicyOption = Annotated[
    str, typer.Option("--policy", "-p", help="A policy file, or a name that tierstream policy list shows.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

F = TypeVar("F", bound=Callable[..., Any])


def example(command: str) -> Callable[[F], F]:
    """Make a function a command of the table in streams.cli, with an example at the end of its help."""

    def with_example(function: F) -> F:
        vars(function)["example"] = command
        return function

    return with_example


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
