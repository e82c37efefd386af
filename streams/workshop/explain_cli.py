"""`tierstream explain`."""

from __future__ import annotations

import sys
from typing import Annotated

import orjson
import typer
from rich.console import Console

import models
from models import units
from models.policy_file import SHIPPED
from streams.console import INTERRUPTED, JsonOption, fail, refuse, say, say_json
from streams.sources.opening import CsvMapOption, open_log

CustomerArgument = Annotated[str, typer.Argument(help="The customer's id.")]
SomeLogsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="JSONL files, also .gz; CSV files with --map; or kafka://HOST:PORT for the input topics there."
    ),
]
PolicyOption = Annotated[
    str | None, typer.Option("--policy", "-p", help=f"A policy file, or one of {', '.join(SHIPPED)}.")
]
RecordedLinesOption = Annotated[
    bool,
    typer.Option(
        "--recorded-lines",
        help="Where lines depend on all customers: those that a worker drew, from the log's commands, not new ones.",
    ),
]


def explain(
    customer_id: CustomerArgument,
    logs: SomeLogsArgument = None,
    at: Annotated[
        str | None, typer.Option(help="As of this time; what occurred later is left out. Default: the latest event.")
    ] = None,
    policy: PolicyOption = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many moments, the latest.")] = None,
    csv_map: CsvMapOption = None,
    recorded_lines: RecordedLinesOption = False,
    as_json: JsonOption = False,
) -> None:
    """A customer's whole story: what came, what it changed and why, what time alone did, how they are, how it goes on.

    By the same fold as ever, so the story says what a replay of the same log announces.
    """
    from streams.workshop.explain import story_of_log
    from streams.workshop.explain_page import print_story

    try:
        chosen = models.load(policy or "retail-three-tier")
        at_ms = None if at is None else units.parse_time(at)
        opened = [open_log(name, csv_map) for name in logs or []]
        story = story_of_log(customer_id, opened, chosen, at_ms, _shown(as_json), recorded_lines)
        found = story.as_json(last)
    except ValueError as error:
        raise refuse(str(error)) from None
    except KeyboardInterrupt:
        raise fail("stopped", INTERRUPTED) from None
    if as_json:
        say_json(found, orjson.OPT_INDENT_2)
    else:
        console = Console(highlight=False)
        with console.capture() as page:
            print_story(console, found, last)
        for line in page.get().splitlines():
            say(line.rstrip())  # columns are filled up with spaces, which whoever copies them does not want


def _shown(quiet: bool) -> bool:
    return not quiet and sys.stderr.isatty()
