"""`tierstream policy fit` and `tierstream policy backtest`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import orjson
import typer
from rich.console import Console
from rich.table import Table

import models
from models import units
from models.fitting import backtest as testing
from models.fitting.alerts import changes_per_customer, team_measures
from models.fitting.fit import fit as fit_parameters
from models.fitting.history import History
from models.policy import Policy
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
from streams.terminal import (
    INTERRUPTED,
    HtmlFileOption,
    JsonFileOption,
    JsonOption,
    PoliciesOption,
    PolicyOption,
    example,
    fail,
    refuse,
    say,
    say_json,
    warn,
)
from streams.workshop.fitting.announcements import collect_announcements, without_damping
from streams.workshop.fitting.backtest_page import page
from streams.workshop.fitting.backtest_report import Flapping, PolicyReport, Report
from streams.workshop.fitting.history_reader import read_history

DEFAULT_HORIZON: Final = "90d"

HorizonOption = Annotated[str, typer.Option(help="A customer who buys nothing for this long has churned.")]


@example("tierstream policy fit purchases.jsonl complaints.jsonl --horizon 90d --out params.toml")
def fit(
    logs: LogsArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The parameter file to write.")] = Path("params.toml"),
    horizon: HorizonOption = DEFAULT_HORIZON,
    policy: PolicyOption = "annual-spend",
    until: Annotated[
        str | None, typer.Option(help="What occurred later is left out, so that a backtest can test on it.")
    ] = None,
    maps: MapOption = [],  # noqa: B006
    sort: SortOption = False,
    sort_memory: SortMemoryOption = DEFAULT_SORT_MEMORY,
    sort_folder: SortFolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the risk score and the expected spend to a log.

    The fit is by maximum likelihood and on outcomes, calibrated out of time. It writes a parameter file; a policy uses
    it by [risk] parameters = "FILE" in place of its own numbers. --policy has the currency and the rules for
    complaints.
    """
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


@example("tierstream policy backtest purchases.jsonl --policy annual-spend --policy mine.toml --html report.html")
def backtest(
    logs: LogsArgument,
    policy: PoliciesOption = ["annual-spend"],  # noqa: B006
    horizon: HorizonOption = DEFAULT_HORIZON,
    every: Annotated[str | None, typer.Option(help="Time between two origins; default: the horizon.")] = None,
    cut: Annotated[
        str | None, typer.Option(help="Only one origin, at this time, instead of one after the other through the log.")
    ] = None,
    html: HtmlFileOption = None,
    json_file: JsonFileOption = None,
    maps: MapOption = [],  # noqa: B006
    sort: SortOption = False,
    sort_memory: SortMemoryOption = DEFAULT_SORT_MEMORY,
    sort_folder: SortFolderOption = None,
) -> None:
    """Test on the past whether policies were right about churn.

    Policies, fitted models and rules of thumb predict at instants of the past (origins), each by what was known then,
    which the run checks; the report compares that with what then happened: how well each separates customers, how far
    its probabilities can be believed, and what alerts the retention team would have had.
    """
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
        write_report(html, page(report).encode())


def _policy_report(history: History, logs: Sequence[Log], policy: Policy, horizon_ms: int, shown: bool) -> PolicyReport:
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
