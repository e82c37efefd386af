"""The command line: one table of its commands. A command's module is imported when the command is run, or its help is shown."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Annotated, Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from streams.terminal import refuse


class Command(NamedTuple):
    """A command."""

    function: str
    """module:name of its function, or of a Typer application of several commands."""
    sentence: str
    """What it does; the first line of its help."""


class Group(NamedTuple):
    """Commands that share the first word of their names."""

    sentence: str
    commands: Mapping[str, Command]


Headings = Mapping[str, Mapping[str, Command | Group]]
"""What a help page lists: by heading, the commands below it by name."""

# fmt: off
COMMANDS: Final[Headings] = {
    "Run": {
        "up": Command("streams.local.cli:up", "Start Kafka, Redis, a worker and the console, for development."),
        "worker": Command("streams.worker.cli:worker", "Keep tiers and churn risk current from the input topics."),
        "console": Command("streams.web.cli:console_app", "Serve the web console, and look-ups for programs."),
        "load": Command("streams.ingest.load_cli:load", "Load a log, or one event, into the input topics."),
        "ingest": Command("streams.ingest.cli:ingest", "Carry records of other topics into the input topics."),
    },
    "Replay": {
        "replay": Command("streams.workshop.replay.cli:replay", "Fold event logs into output files, without a broker."),
        "mappings": Group("List and show the mappings that come with Tierstream.", {
            "list": Command("streams.sources.cli:list_mappings", "List the mappings, and what each one is for."),
            "show": Command("streams.sources.cli:show", "Print a mapping, to read it or to change a copy."),
        }),
    },
    "Policies": {
        "policy": Group("Make, compare and fit policies, and put them in force.", {
            "list": Command("streams.workshop.policies.cli:list_policies", "List the policies that come with Tierstream."),
            "show": Command("streams.workshop.policies.cli:show", "Show a policy in words and tables."),
            "check": Command("streams.workshop.policies.cli:check", "Say what is wrong with a policy, on which line, and the fix."),
            "test": Command("streams.workshop.policies.cli:test", "Test a policy on customers whose results you have written."),
            "new": Command("streams.workshop.policies.new_cli:new", "Write a policy from a log and your answers to questions."),
            "diff": Command("streams.workshop.compare.cli:diff", "Show what another policy would change on a log."),
            "fit": Command("streams.workshop.fitting.cli:fit", "Fit the risk score and the expected spend to a log."),
            "backtest": Command("streams.workshop.fitting.cli:backtest", "Test on the past whether policies were right about churn."),
            "activate": Command("streams.versions.activate_cli:activate", "Put another policy, or other parameters, in force."),
            "rollback": Command("streams.versions.activate_cli:rollback", "Put the policy before the latest activation back in force."),
            "history": Command("streams.versions.activate_cli:history", "List which policies were in force, since when, and why."),
        }),
    },
    "Retention": {
        "customer": Group("Show a customer: how they are now, and how that came about.", {
            "show": Command("streams.view.cli:show", "Show one customer's profile from the serving view, as JSON."),
            "explain": Command("streams.workshop.explain.cli:explain", "Show a customer's story, or what one more event would do."),
        }),
        "alerts": Group("Send alerts to a webhook, or a summary of a day to people.", {
            "push": Command("streams.notify.push_cli:push", "Send each alert to a webhook, signed, until stopped."),
            "digest": Command("streams.notify.digest_cli:digest", "Summarize a day of alerts for a mailbox or a chat."),
        }),
    },
    "Operate": {
        "doctor": Command("streams.doctor.cli:doctor", "Check everything that a worker needs, and say what to do."),
        "topics": Group("Create the topics, or change how many partitions they have.", {
            "create": Command("streams.versions.topics_cli:create", "Create every topic that is missing."),
            "migrate": Command("streams.versions.topics_cli:migrate", "Copy the input topics to another number of partitions."),
        }),
        "dead-letters": Group("See, repair and resend records that could not be used.", {
            "list": Command("streams.dead_letters.cli:list_dead_letters", "List the open dead letters."),
            "show": Command("streams.dead_letters.cli:show", "Show one dead letter: the reason, its origin and its bytes."),
            "repair": Command("streams.dead_letters.cli:repair", "Repair a record, and send it to the topic it came from."),
            "resend": Command("streams.dead_letters.cli:resend", "Send the original records again."),
            "dismiss": Command("streams.dead_letters.cli:dismiss", "Settle dead letters without sending anything."),
        }),
        "rebuild": Command("streams.versions.rebuild_cli:rebuild", "Build a new app version beside the old one, and switch."),
    },
}
# fmt: on


class Renamed(NamedTuple):
    """What a command of earlier versions is called now."""

    now: str
    options: Mapping[str, str] = {}
    """Options that have another name there."""


RENAMED: Final[Mapping[str, Renamed]] = {
    "fit": Renamed("tierstream policy fit"),
    "backtest": Renamed("tierstream policy backtest"),
    "diff": Renamed("tierstream policy diff"),
    "policy switch": Renamed("tierstream policy activate", {"--policy": "--own", "-p": "--own"}),
    "whatif": Renamed("tierstream customer explain"),
    "explain": Renamed("tierstream customer explain"),
    "customer": Renamed("tierstream customer show"),
    "sources": Renamed("tierstream mappings"),
    "push": Renamed("tierstream alerts push"),
    "digest": Renamed("tierstream alerts digest"),
    "migrate": Renamed("tierstream topics migrate"),
    "seek": Renamed("tierstream rebuild", {"--to": "--as-of"}),
    "contracts": Renamed("./scripts/documents"),
}
"""The names of earlier versions: each is refused, with the name of now."""


class LazyGroup(TyperGroup):
    """A group that imports a command when it is asked for, and lists all of them from the table."""

    def __init__(self, *, headings: Headings = COMMANDS, **attributes: Any) -> None:
        listed = {
            name: TyperCommand(name, help=one.sentence) for below in headings.values() for name, one in below.items()
        }
        super().__init__(**(attributes | {"commands": listed}))
        self._headings = headings

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]  # of Typer's own copy of Click
        """The command of a name, imported now; None if there is none."""
        for below in self._headings.values():
            if cmd_name in below:
                return _load(cmd_name, below[cmd_name])
        return None

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """The arguments, parsed. Raises typer.Exit for a name, or a form, of an earlier version."""
        path = ctx.command_path.split()[1:]
        if args and (old := " ".join([*path, args[0]])) in RENAMED and self.get_command(ctx, args[0]) is None:
            raise refuse(moved(old, args[1:]))
        if args and (old := " ".join(path)) in RENAMED and not self._means_one(args[0]):
            raise refuse(moved(old, args))
        return super().parse_args(ctx, args)

    def _means_one(self, word: str) -> bool:
        """Whether a word is one of the commands, or meant to be, or asks for help."""
        names = [name for below in self._headings.values() for name in below]
        return word == "--help" or bool(get_close_matches(word, names))

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """Write the commands below their headings, each with its whole sentence."""
        width = max(len(name) for below in self._headings.values() for name in below)
        for heading, below in self._headings.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{name:{width}}", one.sentence) for name, one in below.items()])


def moved(old: str, arguments: Sequence[str]) -> str:
    """What to type now in place of a command of an earlier version.

    >>> moved("seek", ["--to", "2026-01-31T08:00:00Z", "--to-version", "2"])
    "'seek' is 'rebuild' now: tierstream rebuild --as-of 2026-01-31T08:00:00Z --to-version 2"
    """
    now, options = RENAMED[old]
    typed = []
    for one in arguments:
        name, equals, value = one.partition("=")
        typed.append(options.get(name, name) + equals + value)
    return f"{old!r} is {now.removeprefix('tierstream ')!r} now: {shlex.join([*now.split(), *typed])}"


def _load(name: str, entry: Command | Group) -> Any:
    """The command, or group, that an entry of the table stands for."""
    if isinstance(entry, Group):
        headings = {"Commands": entry.commands}
        return LazyGroup(name=name, headings=headings, help=entry.sentence, no_args_is_help=True, rich_markup_mode=None)
    module, _, attribute = entry.function.partition(":")
    found = getattr(import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name, epilog=vars(found)["epilog"])(found)
        found = single
    command = typer.main.get_command(found)
    command.name = name
    return command


app = typer.Typer(
    cls=LazyGroup, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(import_module("streams.versions.about").version_text())
        raise typer.Exit


@app.callback()
def tierstream(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the versions of build and formats."
        ),
    ] = False,
) -> None:
    """Keeps every customer's value tier and churn risk current, event by event."""


def main() -> None:
    """The console script."""
    app(prog_name="tierstream")


if __name__ == "__main__":
    main()
