"""`tierstream policy diff`."""

from __future__ import annotations

import sys
from typing import Annotated

import orjson
import typer
from rich.console import Console

import models
from models import units
from streams.engine.gc_tuning import collect_rarely
from streams.reports.output_files import write_report
from streams.sources.named_logs import Sorting, open_logs
from streams.sources.options import (
    DEFAULT_SORT_MEMORY,
    LogsArgument,
    MapOption,
    SortFolderOption,
    SortMemoryOption,
    SortOption,
)
from streams.terminal import (
    INTERRUPTED,
    HtmlFileOption,
    JsonFileOption,
    PoliciesOption,
    ProcessesOption,
    example,
    fail,
    refuse,
)
from streams.workshop.compare.comparison import UnlikeError, compare
from streams.workshop.compare.page import page
from streams.workshop.compare.report import Report


@example(
    "tierstream policy diff purchases.jsonl complaints.jsonl --policy annual-spend --policy mine.toml --html diff.html"
)
def diff(
    logs: LogsArgument,
    policy: PoliciesOption,
    as_of: Annotated[
        str | None,
        typer.Option(help="Compare at this time; what occurred later is left out. Default: the latest event."),
    ] = None,
    agents: Annotated[int, typer.Option(min=1, help="How many people share the alerts.")] = 1,
    top: Annotated[int, typer.Option(min=0, help="How many of the most valuable customers that move to list.")] = 100,
    workers: ProcessesOption = 1,
    json_file: JsonFileOption = None,
    html: HtmlFileOption = None,
    maps: MapOption = [],  # noqa: B006
    sort: SortOption = False,
    sort_memory: SortMemoryOption = DEFAULT_SORT_MEMORY,
    sort_folder: SortFolderOption = None,
) -> None:
    """Show what another policy would change on a log.

    --policy is given twice: the policy that is in force, and another one. The report says which customers move from
    which tier to which, why, and what that means for alerts, revenue and cost. The log is folded under both policies in
    one pass; the same log and policies always give the same report. Nothing is written but the files that are named.
    """
    try:
        if len(policy) != 2:
            raise refuse(
                f"--policy is given {len(policy)} times; give it twice: the policy that is, and the one that might be"
            )
        first, second = (models.load(name) for name in policy)
        as_of_ms = None if as_of is None else units.parse_time(as_of)
        sorting, shown = Sorting.from_options(sort, sort_memory, sort_folder), sys.stderr.isatty()
        collect_rarely()
        with open_logs(logs, maps, sorting, shown) as opened:
            found, until_ms = compare(opened, (first, second), as_of_ms, top, workers, shown)
    except UnlikeError as error:
        raise refuse(f"{error}; leave out --workers") from None
    except ValueError as error:
        raise refuse(str(error)) from None
    except KeyboardInterrupt:
        raise fail("stopped; nothing was written", INTERRUPTED) from None
    report = Report((first, second), logs, until_ms, agents, found)
    report.print(Console())
    if json_file is not None:
        write_report(json_file, orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2) + b"\n")
    if html is not None:
        write_report(html, page(report).encode())
