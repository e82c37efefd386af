"""`tierstream policy`: making, checking, reading and testing policies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import models
from models.policy import SHIPPED, PolicyError
from streams.sources.options import LogsArgument, MapOption
from streams.terminal import FAILED, WRONG_USE, JsonOption, refuse, say, say_json, warn

policy_app = typer.Typer(help="Make, check, show and test policies, and list the shipped ones.", no_args_is_help=True)


@policy_app.command(epilog="Example: tierstream policy check my-policy.toml")
def check(
    file: Annotated[str, typer.Argument(help="A policy file, or a shipped id.")], as_json: JsonOption = False
) -> None:
    """Say what is wrong with a policy, on which line, and how to mend it."""
    try:
        chosen = models.load(file)
    except PolicyError as error:
        if as_json:
            problems = [
                {"line": one.line, "where": one.where, "what": one.what, "mend": one.fix} for one in error.problems
            ]
            say_json({"ok": False, "source": error.source, "problems": problems})
        else:
            for problem in error.problems:
                warn(f"{error.source}, {problem}")
        raise typer.Exit(WRONG_USE) from None
    tiers = chosen.ladder.tier_names
    if as_json:
        say_json({"ok": True, "policy": chosen.ref, "tiers": tiers})
    else:
        say(f"{chosen.ref} is fine: {chosen.title}; tiers {' < '.join(tiers)}; currency {chosen.currency}")


@policy_app.command("list", epilog="Example: tierstream policy list")
def list_policies() -> None:
    """The policies that ship with Tierstream."""
    for name in SHIPPED:
        say(f"{name:20} {models.load(name).title}")


@policy_app.command(epilog="Example: tierstream policy new purchases.jsonl --out my-policy.toml")
def new(
    logs: LogsArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The policy file to write.")] = Path("my-policy.toml"),
    title: Annotated[str | None, typer.Option(help="What it is called.")] = None,
    id: Annotated[str | None, typer.Option(help="As announcements name it; default: as the file.")] = None,
    currency: Annotated[str | None, typer.Option(help="Default: the one with the most purchases.")] = None,
    tiers: Annotated[int | None, typer.Option(help="How many, besides that of everybody else; default 3.")] = None,
    names: Annotated[str | None, typer.Option(help='Lowest first: "member, silver, gold".')] = None,
    window: Annotated[str | None, typer.Option(help="trailing (default), calendar-year or anniversary-year.")] = None,
    utc_offset: Annotated[str, typer.Option(help="When days and years begin: +08:00.")] = "+00:00",
    grace: Annotated[str | None, typer.Option(help="30d, or period-end: to the end of the year.")] = None,
    step: Annotated[str | None, typer.Option(help="Down by one tier (default), or direct.")] = None,
    by: Annotated[str | None, typer.Option(help="Lines by shares of customers (default), or of spend.")] = None,
    shares: Annotated[
        str | None, typer.Option(help='Per cent in each tier with all above it, lowest first: "20, 5, 1".')
    ] = None,
    lines: Annotated[
        str | None, typer.Option(help='Lines of your own instead of those proposed: "75, 200, 500".')
    ] = None,
    fit: Annotated[
        bool | None, typer.Option("--fit/--no-fit", help="Fit the risk to the log too; asked if neither is given.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take every default.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    maps: MapOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Ask a few questions, propose round lines between tiers from what the log's customers spent, and write a policy.

    Every question has a default (Enter takes it) and an option. The log is read once; with a fit, once more.
    """
    from streams.workshop.policies.interview import Answers
    from streams.workshop.policies.new import make

    answers = Answers(id, title, currency, tiers, names, window, utc_offset, grace, step, by, shares)
    make(logs, maps, out, answers, lines, fit, yes or as_json, force, as_json)


@policy_app.command(epilog="Example: tierstream policy show annual-spend")
def show(
    policy: Annotated[str, typer.Argument(help="A policy file, or a shipped id.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown for a wiki.")] = False,
    as_json: JsonOption = False,
) -> None:
    """A policy in words and tables: what earns a tier and what loses it, what makes a risk, what is done about it."""
    from rich.console import Console

    from streams.workshop.policies.sentences import as_wire, sections
    from streams.workshop.policies.show import as_markdown, print_sections

    try:
        chosen = models.load(policy)
    except PolicyError as error:
        raise refuse(str(error)) from None
    found = sections(chosen)
    if as_json:
        say_json(as_wire(chosen, found))
    elif markdown:
        say(as_markdown(chosen, found).rstrip())
    else:
        print_sections(chosen, found, Console())


@policy_app.command(epilog="Example: tierstream policy test my-policy.toml customers.toml")
def test(
    policy: Annotated[str, typer.Argument(help="A policy file, or a shipped id.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="TOML or JSON files of customers worked out by hand; of a shipped policy, by default its own."
        ),
    ] = None,
    write_example: Annotated[
        Path | None,
        typer.Option(help="Write a file to begin with, of customers who just reach each tier; run nothing."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run customers worked out by hand through a policy, like unit tests: a line for each instant, and why one is
    wrong.

    Status 0 if all are as expected, 1 if not, 2 if a file can't be used. docs/policies.md has the form of the files.
    """
    from streams.reports.output_files import write_new
    from streams.workshop.cases.case_file import load_cases, shipped_cases
    from streams.workshop.cases.report import as_wire, lines_of, summary
    from streams.workshop.cases.runner import run_cases

    try:
        chosen = models.load(policy)
        if write_example is not None:
            from streams.workshop.cases.example import example_of

            write_new(write_example, example_of(chosen), force=False)
            say(f"written to {write_example}; run it by tierstream policy test {policy} {write_example}")
            return
        paths = files or shipped_cases(policy)
        if not paths:
            raise refuse(
                f"name the files of customers to test {policy} with; --write-example FILE makes one to begin with"
            )
        outcomes = [outcome for path in paths for outcome in run_cases(load_cases(path, chosen), chosen)]
    except ValueError as error:
        raise refuse(str(error)) from None
    if as_json:
        say_json(as_wire(chosen, outcomes))
    else:
        for outcome in outcomes:
            for line in lines_of(outcome):
                say(line)
        say(summary(chosen, outcomes))
    raise typer.Exit(0 if all(outcome.passed for outcome in outcomes) else FAILED)
