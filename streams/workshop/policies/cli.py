"""`tierstream policy list`, `show`, `check` and `test`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import models
from models.policy import SHIPPED, PolicyError
from streams.reports.output_files import write_new
from streams.terminal import FAILED, WRONG_USE, JsonOption, PolicyArgument, example, refuse, say, say_json, warn
from streams.workshop.cases.case_file import load_cases, shipped_cases
from streams.workshop.cases.example import example_of
from streams.workshop.cases.report import as_wire as outcomes_as_wire
from streams.workshop.cases.report import lines_of, summary
from streams.workshop.cases.runner import run_cases
from streams.workshop.policies.sentences import as_wire, sections
from streams.workshop.policies.show import as_markdown, print_sections


@example("tierstream policy check my-policy.toml")
def check(
    file: PolicyArgument,
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong with a policy, on which line, and the fix."""
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


@example("tierstream policy list")
def list_policies() -> None:
    """List the policies that come with Tierstream."""
    for name in SHIPPED:
        say(f"{name:20} {models.load(name).title}")


@example("tierstream policy show annual-spend")
def show(
    policy: PolicyArgument,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown for a wiki.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a policy in words and tables.

    It says what earns a tier and what loses it, what makes a customer a risk, and what is done about that.
    """
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


@example("tierstream policy test my-policy.toml customers.toml")
def test(
    policy: PolicyArgument,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="TOML or JSON files of customers and their results; a policy that comes with Tierstream has its own."
        ),
    ] = None,
    write_example: Annotated[
        Path | None,
        typer.Option(help="Write a first file, of customers who just reach each tier, and test nothing."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Test a policy on customers whose results you have written.

    Each customer is like a unit test: it prints a line for each instant, and why one is wrong. Status 0 if all are as
    expected, 1 if not, 2 if a file can't be used. docs/policies.md has the form of the files.
    """
    try:
        chosen = models.load(policy)
        if write_example is not None:
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
        say_json(outcomes_as_wire(chosen, outcomes))
    else:
        for outcome in outcomes:
            for line in lines_of(outcome):
                say(line)
        say(summary(chosen, outcomes))
    raise typer.Exit(0 if all(outcome.passed for outcome in outcomes) else FAILED)
