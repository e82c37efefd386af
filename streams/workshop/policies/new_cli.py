"""`tierstream policy new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streams.sources.options import LogsArgument, MapOption
from streams.terminal import JsonOption, YesOption, example
from streams.workshop.policies.interview import Answers
from streams.workshop.policies.new import make


@example("tierstream policy new purchases.jsonl --out my-policy.toml")
def new(
    logs: LogsArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The policy file to write.")] = Path("my-policy.toml"),
    title: Annotated[str | None, typer.Option(help="What it is called.")] = None,
    id: Annotated[
        str | None, typer.Option(help="The name of the policy in announcements; default: that of the file.")
    ] = None,
    currency: Annotated[str | None, typer.Option(help="Default: the one with the most purchases.")] = None,
    tiers: Annotated[
        int | None, typer.Option(help="How many, besides the one of all other customers; default 3.")
    ] = None,
    names: Annotated[str | None, typer.Option(help='Lowest first: "member, silver, gold".')] = None,
    window: Annotated[str | None, typer.Option(help="trailing (default), calendar-year or anniversary-year.")] = None,
    utc_offset: Annotated[str, typer.Option(help="When days and years begin: +08:00.")] = "+00:00",
    grace: Annotated[str | None, typer.Option(help="30d, or period-end: to the end of the year.")] = None,
    step: Annotated[str | None, typer.Option(help="Down by one tier (default), or direct.")] = None,
    by: Annotated[str | None, typer.Option(help="Thresholds by shares of customers (default), or of spend.")] = None,
    shares: Annotated[
        str | None, typer.Option(help='Per cent in each tier with all above it, lowest first: "20, 5, 1".')
    ] = None,
    lines: Annotated[
        str | None, typer.Option(help='Your own thresholds, instead of those proposed: "75, 200, 500".')
    ] = None,
    fit: Annotated[
        bool | None, typer.Option("--fit/--no-fit", help="Fit the risk to the log too; asked if neither is given.")
    ] = None,
    yes: YesOption = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")] = False,
    maps: MapOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Write a policy from a log and your answers to questions.

    It proposes round thresholds for the tiers from what the log's customers spent. Every question has a default (Enter
    takes it) and an option. The log is read once; with a fit, once more.
    """
    answers = Answers(id, title, currency, tiers, names, window, utc_offset, grace, step, by, shares)
    make(logs, maps, out, answers, lines, fit, yes or as_json, force, as_json)
