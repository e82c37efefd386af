"""`tierstream fit` and `tierstream backtest`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import orjson
import typer
from rich.console import Console
from rich.table import Table

import models
from models import units
from models.policy import SHIPPED
from streams.reports.output_files import write_report
from streams.sources.logs import Log
from streams.sources.named_logs import Sorting, open_logs
from streams.sources.options import (
    DEFAULT_SORT_MEMORY,
    LogsArgument,
    MapOption,
    SortFolderOption,
    SortMemoryOption,
    SortOption,
)
from streams.terminal import INTERRUPTED, JsonOption, fail, refuse, say, say_json, warn

if TYPE_CHECKING:
    from models.fitting.history import History
    from models.policy import Policy
    from streams.workshop.fitting.backtest_report import PolicyReport

DEFAULT_HORIZON: Final = "90d"

HorizonOption = Annotated[str, typer.Option(help="Churned is who buys nothing for this long.")]


def fit(
    logs: LogsArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The parameter file to write.")] = Path("params.toml"),
    horizon: HorizonOption = DEFAULT_HORIZON,
    policy: Annotated[
        str,
        typer.Option(
            "--policy", "-p", help=f"Whose currency and rules for complaints: a file, or {', '.join(SHIPPED)}."
        ),
    ] = "annual-spend",
    until: Annotated[
        str | None, typer.Option(help="Leave out what came after this date, so that a backtest can test on it.")
    ] = None,
    maps: MapOption = [],  # noqa: B006
    sort: SortOption = False,
    sort_memory: SortMemoryOption = DEFAULT_SORT_MEMORY,
    sort_folder: SortFolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the risk score and the expected spend to a log, by maximum likelihood and on outcomes, calibrated out of
    time.

    Writes a parameter file; a policy uses it by [risk] parameters = "FILE" in place of its own numbers.
    """
    from models.fitting.fit import fit as fit_parameters
    from streams.workshop.fitting.history_reader import read_history

    try:
        chosen = models.load(policy)
        horizon_ms = units.parse_duration(horizon)
        sorting, shown = Sorting.from_options(sort, sort_memory, sort_folder), _shown(as_json)
        with open_logs(logs, maps, sorting, shown) as opened:
            history, unusable = read_history(opened, chosen, shown)
        if until is not None:
            history = history.known_at(units.parse_time(until))
        found = fit_parameters(history, chosen, horizon_ms, [Path(name).name for name in logs], _steps(as_json))
        out.write_text(found.as_toml(), "utf-8")
    except OSError as error:
        raise refuse(f"can't write {out}: {error.strerror}; give another --out") from None
    except ValueError as error:
        raise refuse(str(error)) from None
    except KeyboardInterrupt:
        raise fail(f"stopped; {out} was not written", INTERRUPTED) from None
    if as_json:
        say_json({**found.as_dict(), "digest": found.digest, "unusable_records": unusable, "out": str(out)})
        return
    table = Table(
        title=f"Fitted to {history.events:,} events of {len(history.customers):,} customers", show_header=False
    )
    for name, value in found.in_words():
        table.add_row(name, value)
    Console().print(table)
    if unusable:
        say(f"{unusable:,} records could not be used; tierstream replay says why")
    say(
        f'written to {out}; a policy uses it by [risk] parameters = "{out}" in place of r, alpha_weeks, a, b and horizon'
    )


def backtest(
    logs: LogsArgument,
    policy: Annotated[
        list[str], typer.Option("--policy", "-p", help="A policy to test, file or shipped id; may be given again.")
    ] = ["annual-spend"],  # noqa: B006
    horizon: HorizonOption = DEFAULT_HORIZON,
    every: Annotated[str | None, typer.Option(help="Between two origins; default: the horizon.")] = None,
    cut: Annotated[str | None, typer.Option(help="One origin at this date instead of rolling through the log.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as one self-contained HTML page.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures here as JSON.")] = None,
    maps: MapOption = [],  # noqa: B006
    sort: SortOption = False,
    sort_memory: SortMemoryOption = DEFAULT_SORT_MEMORY,
    sort_folder: SortFolderOption = None,
) -> None:
    """What would policies and rules of thumb have said at instants of the past, and what then happened?

    Each origin uses only what was known then; the run itself checks that. Shows how well each tells customers apart,
    how far its probabilities can be believed, and what alerts the retention team would have had.
    """
    from models.fitting import backtest as testing
    from streams.workshop.fitting.backtest_report import Report
    from streams.workshop.fitting.history_reader import read_history

    started = time.monotonic()
    try:
        policies = [models.load(name) for name in policy]
        horizon_ms = units.parse_duration(horizon)
        sorting, shown = Sorting.from_options(sort, sort_memory, sort_folder), _shown(False)
        with open_logs(logs, maps, sorting, shown) as opened:
            history, unusable = read_history(opened, policies[0], shown)
            if cut is None:
                at = testing.origins(history, horizon_ms, horizon_ms if every is None else units.parse_duration(every))
            else:
                at = testing.single_origin(history, horizon_ms, units.parse_time(cut))
            found = testing.backtest(
                history,
                lambda history: [
                    *testing.BASELINES,
                    testing.FittedModel(),
                    testing.FittedCard(policies[0].risk),
                    *map(testing.PolicyAsItIs, policies),
                ],
                at,
                horizon_ms,
                warn,
            )
            reports = [_policy_report(history, opened, one, horizon_ms, shown) for one in policies]
        names = [Path(name).name for name in logs]
        report = Report(names, history.events, history.begins_ms, history.ends_ms, unusable, found, reports)
    except ValueError as error:
        raise refuse(str(error)) from None
    except KeyboardInterrupt:
        raise fail("stopped; nothing was written", INTERRUPTED) from None
    report.print(Console())
    say(f"in {time.monotonic() - started:.0f} s")
    if json_file is not None:
        write_report(json_file, orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2) + b"\n")
    if html is not None:
        from streams.workshop.fitting.backtest_page import page

        write_report(html, page(report).encode())


def _policy_report(history: History, logs: Sequence[Log], policy: Policy, horizon_ms: int, shown: bool) -> PolicyReport:
    from models.fitting.alerts import changes_per_customer, team_measures
    from streams.workshop.fitting.announcements import collect_announcements, without_damping
    from streams.workshop.fitting.backtest_report import Flapping, PolicyReport

    announced = collect_announcements(logs, policy, shown)
    customers = len(history.customers)
    with_patience = changes_per_customer(announced.values(), customers)
    without = changes_per_customer(collect_announcements(logs, without_damping(policy), shown).values(), customers)
    team = team_measures(history, announced, history.begins_ms, horizon_ms)
    return PolicyReport(policy.ref, team, Flapping(*with_patience, *without))


def _shown(quiet: bool) -> bool:
    return not quiet and sys.stderr.isatty()


def _steps(quiet: bool) -> Callable[[str], None]:
    return (lambda text: None) if quiet else warn
