"""`tierstream policy`: making, checking, reading and testing policies, and switching the running one's parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import models
from models.policy_file import SHIPPED
from models.policy_problem import PolicyError
from streams.console import FAILED, WRONG_USE, JsonOption, fail, refuse, say, say_json, warn
from streams.settings import SettingsError, load_settings

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
                {"line": one.line, "where": one.where, "what": one.what, "mend": one.mend} for one in error.problems
            ]
            say_json({"ok": False, "source": error.source, "problems": problems})
        else:
            for problem in error.problems:
                warn(f"{error.source}, {problem}")
        raise typer.Exit(WRONG_USE) from None
    tiers = [tier.name for tier in chosen.ladder.tiers]
    if as_json:
        say_json({"ok": True, "policy": chosen.ref, "tiers": tiers})
    else:
        say(f"{chosen.ref} is fine: {chosen.title}; tiers {' < '.join(tiers)}; currency {chosen.currency}")


@policy_app.command(
    epilog="Example: TIERSTREAM_BROKER=127.0.0.1:9092 tierstream policy switch --parameters params.toml"
)
def switch(
    parameters: Annotated[Path, typer.Option(help="A file that tierstream fit wrote.")],
    policy: Annotated[str | None, typer.Option("--policy", "-p", help="The policy that the workers run.")] = None,
    broker: Annotated[str | None, typer.Option(help="Kafka, as host:port.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Have running workers score with other fitted parameters from now on: a new edition of their policy.

    Every customer is judged anew, once, as of now; what that changes says `edition-N` for its cause.
    """
    import time

    from models.parameters import read_parameters
    from streams import editions

    try:
        settings = load_settings(policy=policy, broker=broker)
        number = editions.switch(
            settings, models.load(settings.policy), read_parameters(parameters), time.time_ns() // 1_000_000
        )
    except (SettingsError, PolicyError) as error:
        raise refuse(str(error)) from None
    except editions.SwitchError as error:
        raise fail(str(error)) from None
    if as_json:
        say_json({"edition": number})
    else:
        say(f"edition {number} has begun; every customer is judged under it as their turn comes")


@policy_app.command("list", epilog="Example: tierstream policy list")
def list_policies() -> None:
    """The policies that ship with Tierstream."""
    for name in SHIPPED:
        say(f"{name:20} {models.load(name).title}")


@policy_app.command(epilog="Example: tierstream policy show annual-spend")
def show(
    policy: Annotated[str, typer.Argument(help="A policy file, or a shipped id.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown for a wiki.")] = False,
    as_json: JsonOption = False,
) -> None:
    """A policy in words and tables: what earns a tier and what loses it, what makes a risk, what is done about it."""
    from rich.console import Console

    from streams.workshop.policy_show import as_markdown, print_sections
    from streams.workshop.policy_words import as_wire, sections

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
    """Run customers worked out by hand through a policy, like unit tests: a line for each instant, and why one is wrong.

    Status 0 if all are as expected, 1 if not, 2 if a file can't be used. docs/policies.md has the form of the files.
    """
    from streams.workshop.case_report import as_wire, lines_of, summary
    from streams.workshop.case_runs import run_cases
    from streams.workshop.cases import load_cases, shipped_cases

    try:
        chosen = models.load(policy)
        if write_example is not None:
            from streams.workshop.case_example import example_of

            _write_new(write_example, example_of(chosen), force=False)
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


def _write_new(path: Path, text: str, force: bool) -> None:
    """Write a file that must not be there yet, unless forced. Raises typer.Exit."""
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise refuse(f"{path} is there already; give another file, or --force to overwrite it") from None
    except OSError as error:
        raise refuse(f"can't write {path}: {error.strerror}; give another file") from None
