"""`tierstream policy activate`, `rollback` and `history`: changing the policy of running workers."""

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
from streams.engine.policy_on_wire import Rules
from streams.settings import Settings, SettingsError, load_settings
from streams.sources.logs import LogError
from streams.sources.named_logs import find_logs
from streams.sources.options import MapOption
from streams.terminal import INTERRUPTED, JsonOption, fail, refuse, say, say_json
from streams.versions import activation as editions
from streams.versions.activation import InForce

OwnOption = Annotated[
    str | None, typer.Option("--own", help="The policy that the workers were started with: TIERSTREAM_POLICY.")
]
BrokerOption = Annotated[str | None, typer.Option(help="Kafka, as host:port.")]
AtOption = Annotated[
    str | None,
    typer.Option(help="From when on it is in force; default: now. Needed where workers go by the event clock."),
]
LogOption = Annotated[
    list[str] | None,
    typer.Option(
        "--log", help="Compare on this log (may be given several times); default: what is in the broker's topics."
    ),
]
DiffOption = Annotated[
    bool, typer.Option("--diff/--no-diff", help="Fold the log under both first, and show who would move.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]
ByOption = Annotated[
    str | None, typer.Option("--by", envvar="USER", help="Who does it; it is kept with the activation.")
]
ReasonOption = Annotated[str | None, typer.Option(help="Why; it is kept with the activation.")]


def activate(
    file: Annotated[str, typer.Argument(help="A policy file, or a shipped id.")],
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
    """Put another policy in force on running workers, everywhere from the same instant on, after showing who would move.

    Every customer is judged anew once, in turn, while events go on being folded; what that changes says `edition-N` for its
    cause, and every announcement says under which edition it was made. What the new policy can't take over from the one in
    force (another currency, a longer look-back) is refused, with the reason.
    """
    with _told():
        settings = load_settings(policy=own, broker=broker)
        now = editions.in_force(settings, Rules.of(models.load(settings.policy)))
        _begin(settings, now, Rules.of(models.load(file)), at, (log, maps) if diff else None, yes, by, reason, as_json)


def switch(
    parameters: Annotated[Path, typer.Option(help="A file that tierstream fit wrote.")],
    policy: Annotated[str | None, typer.Option("--policy", "-p", help="The policy that the workers run.")] = None,
    broker: Annotated[str | None, typer.Option(help="Kafka, as host:port.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Have running workers score with other fitted parameters from now on: a new edition of their policy.

    Every customer is judged anew, once, as of now; what that changes says `edition-N` for its cause.
    """
    try:
        settings = load_settings(policy=policy, broker=broker)
        number = editions.switch(settings, read_parameters(parameters), time.time_ns() // 1_000_000)
    except (SettingsError, PolicyError) as error:
        raise refuse(str(error)) from None
    except editions.SwitchError as error:
        raise fail(str(error)) from None
    if as_json:
        say_json({"edition": number})
    else:
        say(f"edition {number} has begun; every customer is judged under it as their turn comes")


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
    """Put the policy back in force that was before the latest activation: as another edition, so nothing is undone or hidden."""
    with _told():
        settings = load_settings(policy=own, broker=broker)
        now = editions.in_force(settings, Rules.of(models.load(settings.policy)))
        if not now.activations:
            raise refuse(f"no policy was activated; {now.rules.ref} is in force since the beginning")
        before = now.activations[-1].before
        _begin(settings, now, before, at, (log, maps) if diff else None, yes, by, reason, as_json)


def history(own: OwnOption = None, broker: BrokerOption = None, as_json: JsonOption = False) -> None:
    """Which policies were in force, since when, and why."""
    with _told():
        settings = load_settings(policy=own, broker=broker)
        now = editions.in_force(settings, Rules.of(models.load(settings.policy)))
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
def _told() -> Iterator[None]:
    """What is wrong, in words. Raises typer.Exit."""
    try:
        yield
    except (SettingsError, PolicyError, LogError) as error:
        raise refuse(str(error)) from None
    except editions.SwitchError as error:
        raise fail(str(error)) from None


def _begin(
    settings: Settings,
    now: InForce,
    rules: Rules,
    at: str | None,
    compared: tuple[list[str] | None, Sequence[str]] | None,
    yes: bool,
    by: str | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Compare, ask, and begin the edition. Raises SwitchError, PolicyError or LogError."""
    if at is None and settings.clock == "event":
        raise refuse("workers go by the time of the events (TIERSTREAM_CLOCK=event): say from when on, by --at")
    at_ms = None if at is None else _time(at)
    found = editions.why_not(now, rules)
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
            raise refuse("nobody is there to confirm; give --yes")
        question = f"Put {rules.ref} in force, in place of {now.rules.ref}, from {at or 'now'} on?"
        if not typer.confirm(question):
            raise fail("nothing was changed", INTERRUPTED)
    if at_ms is None:
        at_ms = time.time_ns() // 1_000_000  # not before: comparing and asking took their time
    number = editions.activate(settings, now, rules, at_ms, by, reason)
    if as_json:
        say_json({"edition": number, "policy": rules.ref, "before": now.rules.ref, "at": units.format_time(at_ms)})
        return
    say(
        f"{rules.ref} is in force as edition {number}, from {units.format_time(at_ms)} on: every customer is judged under it in turn."
    )
    say(
        "Workers go on with the TIERSTREAM_POLICY that they have. tierstream policy rollback goes back to the policy before."
    )


def _time(text: str) -> int:
    try:
        return units.parse_time(text)
    except ValueError as error:
        raise refuse(f"--at: {error}") from None


def _show(settings: Settings, now: InForce, rules: Rules, log: list[str] | None, maps: Sequence[str]) -> None:
    """Who would move."""
    from streams.engine.gc_tuning import collect_rarely
    from streams.workshop.compare.comparison import compare
    from streams.workshop.compare.report import Report

    names = log or [f"kafka://{settings.broker}"]
    policies = (now.rules.policy(), rules.policy())
    collect_rarely()
    try:
        found, until_ms = compare(find_logs(names, maps), policies, None, 10, 1, sys.stderr.isatty())
    except KeyboardInterrupt:
        raise fail("stopped; nothing was changed", INTERRUPTED) from None
    Report(policies, names, until_ms, 1, found).print(Console())
