"""What commands share: their options, what they print, and how they refuse."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import orjson
import typer

FAILED: Final = 1
WRONG_USE: Final = 2
INTERRUPTED: Final = 130

_POLICY: Final = "A policy file, or a name that tierstream policy list shows."

BrokerOption = Annotated[
    str | None, typer.Option("--broker", help="Kafka, as host:port.  [env var: TIERSTREAM_BROKER]")
]
RedisOption = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        help="Redis with the serving view, as redis://host:port/0.  [env var: TIERSTREAM_REDIS_URL]",
    ),
]
RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry",
        help="A schema registry, as http://127.0.0.1:8081.  [env var: TIERSTREAM_REGISTRY_URL]",
    ),
]
WebPortOption = Annotated[
    int | None, typer.Option("--web-port", help="Port of the pages /healthz, /readyz, /stats and /metrics.")
]
PolicyArgument = Annotated[str, typer.Argument(help=_POLICY)]
SomePolicyArgument = Annotated[str | None, typer.Argument(help=_POLICY)]
PolicyOption = Annotated[str, typer.Option("--policy", "-p", help=_POLICY)]
SettingPolicyOption = Annotated[
    str | None, typer.Option("--policy", "-p", help=f"{_POLICY}  [env var: TIERSTREAM_POLICY]")
]
"""For commands that use the settings of the workers."""
PoliciesOption = Annotated[list[str], typer.Option("--policy", "-p", help=f"{_POLICY} May be given again.")]
SomePoliciesOption = Annotated[list[str] | None, typer.Option("--policy", "-p", help=f"{_POLICY} May be given again.")]
ProcessesOption = Annotated[
    int, typer.Option("--workers", min=1, help="How many processes; each folds its share of the customers.")
]
ByOption = Annotated[str | None, typer.Option("--by", envvar="USER", help="Your name, which is kept with what you do.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
JsonFileOption = Annotated[Path | None, typer.Option("--json", help="Write the report to this file, as JSON.")]
HtmlFileOption = Annotated[
    Path | None, typer.Option("--html", help="Write the report to this file, as one HTML page without other files.")
]

F = TypeVar("F", bound=Callable[..., Any])


def example(command: str) -> Callable[[F], F]:
    """Make a function a command of the table in streams.cli, with an example at the end of its help."""

    def with_example(function: F) -> F:
        vars(function)["epilog"] = epilog(command)
        return function

    return with_example


def epilog(command: str) -> str:
    r"""The end of a help page: an example on one line, so that it can be copied.

    >>> epilog("tierstream policy list")
    '\x08\nExample: tierstream policy list'
    """
    return f"\b\nExample: {command}"


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
    """Print to standard error, unchanged."""
    print(text, file=sys.stderr)  # noqa: T201


def say(text: str) -> None:
    """Print to standard output, unchanged."""
    print(text)  # noqa: T201


def say_json(value: Any, option: int | None = None) -> None:
    """Print JSON to standard output."""
    say(orjson.dumps(value, option=option).decode())


def printable(text: str) -> str:
    r"""The text with escapes in place of what a terminal would obey: it may come from anybody.

    >>> print(printable("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    return "".join(one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text)
