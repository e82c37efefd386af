"""`tierstream policy activate`, `rollback` and `history`: the policy of running workers."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import models
from models import units
from models.policy import PolicyError
from models.policy.parameters_file import read_parameters
from streams.engine.gc_tuning import collect_rarely
from streams.engine.policy_on_wire import PolicyOnWire
from streams.settings import Settings, SettingsError, load_settings
from streams.sources.logs import LogError
from streams.sources.named_logs import find_logs
from streams.sources.options import MapOption
from streams.terminal import (
    INTERRUPTED,
    BrokerOption,
    ByOption,
    JsonOption,
    SomePolicyArgument,
    YesOption,
    example,
    fail,
    refuse,
    say,
    say_json,
)
from streams.versions import activation as editions
from streams.versions.activation import InForce
from streams.workshop.compare.comparison import compare
from streams.workshop.compare.report import Report

OwnOption = Annotated[
    str | None,
    typer.Option("--own", help="The policy that the workers were started with.  [env var: TIERSTREAM_POLICY]"),
]
AtOption = Annotated[
    str | None,
    typer.Option(help="When it begins to be in force; default: now. Workers with the event clock need it."),
]
LogOption = Annotated[
    list[str] | None,
    typer.Option("--log", help="Compare on this log; may be given again. Default: the broker's topics."),
]
DiffOption = Annotated[
    bool,
    typer.Option(
        "--diff/--no-diff", help="First fold the log under both policies, and show which customers would move."
    ),
]
ReasonOption = Annotated[str | None, typer.Option(help="Your reason, which is kept with the activation.")]


@example("tierstream policy activate mine.toml --broker 127.0.0.1:9092 --reason 'gold is 250 now'")
def activate(
    file: SomePolicyArgument = None,
    parameters: Annotated[
        Path | None,
        typer.Option(help="Instead of a policy: a file that tierstream policy fit wrote, for the policy in force."),
    ] = None,
    own: OwnOption = None,
    broker: BrokerOption = None,
    at: AtOption = None,
    log: LogOption = None,
    maps: MapOption = [],  # noqa: B006
    diff: DiffOption = True,
    yes: YesOption = False,
    by: ByOption = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put another policy, or other parameters, in force.

    It begins everywhere at the same instant, while workers run. First the log is folded under both policies, to show
    which customers would move, and a question is asked. Every customer is then judged anew once, in turn, while events
    go on being folded; what that changes has the cause `edition-N`, and every announcement names the edition it was
    made under. A policy that can't follow the one in force (another currency, a longer look-back) is refused, with the
    reason.

    With --parameters, workers score with other fitted parameters from now on; nothing is compared or asked.
    """
    if (file is None) == (parameters is None):
        raise refuse("give a policy file, or --parameters FILE; exactly one of them")
    with _sentences():
        settings = load_settings(policy=own, broker=broker)
        if parameters is not None:
            given = {"--at": at, "--log": log, "--map": maps, "--reason": reason}
            for name in (name for name, value in given.items() if value):
                raise refuse(f"--parameters are in force from now on, and are not compared: leave {name} out")
            _switch(settings, parameters, as_json)
        elif file is not None:
            now = editions.read_policy_in_force(settings, PolicyOnWire.of(models.load(settings.policy)))
            _begin(
                settings,
                now,
                PolicyOnWire.of(models.load(file)),
                at,
                (log, maps) if diff else None,
                yes,
                by,
                reason,
                as_json,
            )


@example("tierstream policy rollback --broker 127.0.0.1:9092 --yes")
def rollback(
    own: OwnOption = None,
    broker: BrokerOption = None,
    at: AtOption = None,
    log: LogOption = None,
    maps: MapOption = [],  # noqa: B006
    diff: DiffOption = True,
    yes: YesOption = False,
    by: ByOption = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put the policy before the latest activation back in force.

    It is another edition, so nothing is undone or hidden.
    """
    with _sentences():
        settings = load_settings(policy=own, broker=broker)
        now = editions.read_policy_in_force(settings, PolicyOnWire.of(models.load(settings.policy)))
        if not now.activations:
            raise refuse(f"no policy was activated; {now.rules.ref} is in force since the beginning")
        before = now.activations[-1].before
        _begin(settings, now, before, at, (log, maps) if diff else None, yes, by, reason, as_json)


@example("tierstream policy history --broker 127.0.0.1:9092")
def history(own: OwnOption = None, broker: BrokerOption = None, as_json: JsonOption = False) -> None:
    """List which policies were in force, since when, and why."""
    with _sentences():
        settings = load_settings(policy=own, broker=broker)
        now = editions.read_policy_in_force(settings, PolicyOnWire.of(models.load(settings.policy)))
    rows = [(0, now.activations[0].before.ref if now.activations else now.rules.ref, "the beginning", "", "")]
    rows += [(one.edition, one.rules.ref, one.at, one.actor or "", one.reason or "") for one in now.activations]
    names = ("edition", "policy", "since", "by", "reason")
    if as_json:
        say_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    table = Table(*names)
    for row in rows:
        table.add_row(*map(str, row))
    Console().print(table)


@contextmanager
def _sentences() -> Iterator[None]:
    """Say what is wrong in a sentence. Raises typer.Exit."""
    try:
        yield
    except (SettingsError, PolicyError, LogError) as error:
        raise refuse(str(error)) from None
    except editions.SwitchError as error:
        raise fail(str(error)) from None


def _begin(
    settings: Settings,
    now: InForce,
    rules: PolicyOnWire,
    at: str | None,
    compared: tuple[list[str] | None, Sequence[str]] | None,
    yes: bool,
    by: str | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Compare, ask, and begin the edition. Raises SwitchError, PolicyError or LogError."""
    if at is None and settings.clock == "event":
        raise refuse(
            "workers use the time of the events (TIERSTREAM_CLOCK=event): give --at, the time from which it is in force"
        )
    at_ms = None if at is None else _time(at)
    found = editions.reasons_against(now, rules)
    if found:
        raise refuse(
            f"{rules.ref} can't follow {now.rules.ref}, which is in force:\n"
            + "\n".join(f"  - {one}" for one in found)
            + "\nA new TIERSTREAM_APP_VERSION replays the inputs under it (docs/changing.md)"
        )
    if compared is not None and not as_json:
        _show(settings, now, rules, *compared)
    if not yes:
        if not sys.stdin.isatty():
            raise refuse("standard input is no terminal, so nobody can confirm; give --yes")
        question = f"Put {rules.ref} in force, in place of {now.rules.ref}, from {at or 'now'} on?"
        if not typer.confirm(question):
            raise fail("nothing was changed", INTERRUPTED)
    if at_ms is None:
        at_ms = time.time_ns() // 1_000_000  # now, since to compare and to ask took time
    number = editions.activate(settings, now, rules, at_ms, by, reason)
    if as_json:
        say_json({"edition": number, "policy": rules.ref, "before": now.rules.ref, "at": units.format_time(at_ms)})
        return
    say(
        f"{rules.ref} is in force as edition {number}, from {units.format_time(at_ms)} on: every customer is judged under it in turn."
    )
    say("Workers keep the TIERSTREAM_POLICY that they have. tierstream policy rollback restores the earlier policy.")


def _switch(settings: Settings, parameters: Path, as_json: bool) -> None:
    """Begin an edition of the policy in force with other parameters. Raises SwitchError or PolicyError."""
    number = editions.switch(settings, read_parameters(parameters), time.time_ns() // 1_000_000)
    if as_json:
        say_json({"edition": number})
    else:
        say(f"edition {number} has begun; every customer is judged under it as their turn comes")


def _time(text: str) -> int:
    try:
        return units.parse_time(text)
    except ValueError as error:
        raise refuse(f"--at: {error}") from None


def _show(settings: Settings, now: InForce, rules: PolicyOnWire, log: list[str] | None, maps: Sequence[str]) -> None:
    """Print which customers would move."""
    names = log or [f"kafka://{settings.broker}"]
    policies = (now.rules.policy(), rules.policy())
    collect_rarely()
    try:
        found, until_ms = compare(find_logs(names, maps), policies, None, 10, 1, sys.stderr.isatty())
    except KeyboardInterrupt:
        raise fail("stopped; nothing was changed", INTERRUPTED) from None
    Report(policies, names, until_ms, 1, found).print(Console())
