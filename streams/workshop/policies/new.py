"""`tierstream policy new`: makes a policy file from a log and a few answers."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from models import units
from models.fitting.fit import fit as fit_parameters
from models.policy import Policy, load
from streams.reports.output_files import refuse_to_overwrite, write_new
from streams.sources.named_logs import find_logs
from streams.terminal import INTERRUPTED, fail, refuse, say, say_json, warn
from streams.workshop.fitting.history_reader import read_history
from streams.workshop.policies.interview import Answers, Interview
from streams.workshop.policies.proposal import (
    HORIZON_MS,
    Basis,
    Proposal,
    Wishes,
    basis_of,
    propose,
    reason_not_to_fit,
    render_policy,
)
from streams.workshop.policies.round_thresholds import propose_thresholds
from streams.workshop.policies.spend_history import Spend, read_spend


def make(
    names: Sequence[str],
    maps: Sequence[str],
    out: Path,
    answers: Answers,
    thresholds: str | None,
    fit: bool | None,
    takes_defaults: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Run the command. Raises typer.Exit."""
    parameters = out.with_name(f"{out.stem}-params.toml")
    refuse_to_overwrite([out, *([parameters] if fit else [])], force)
    interview = Interview(takes_defaults)
    try:
        shown = not as_json and sys.stderr.isatty()
        found, unusable = read_spend(find_logs(names, maps), shown)
        if not as_json:
            _say_what_was_read(found, unusable)
        wishes = interview.wishes(answers, found, out)
        basis = basis_of(wishes, found, [Path(name).name for name in names])
        proposal = _agree_on_thresholds(interview, wishes, basis, thresholds, as_json)
        text = proposal.text
        if _wants_fit(interview, basis.spend, fit, as_json):
            refuse_to_overwrite([parameters], force)
            write_new(parameters, _fit_to_log(names, maps, proposal.policy, shown), force)
            text = render_policy(wishes, proposal.thresholds_minor, basis, parameters)
        write_new(out, text, force)
        policy = load(out)
    except ValueError as error:
        raise refuse(str(error)) from None
    except (typer.Abort, KeyboardInterrupt):
        raise fail(f"stopped; {out} was not written; --yes takes every default", INTERRUPTED) from None
    if as_json:
        say_json({"policy": policy.ref, "out": str(out), "fitted": bool(policy.parameters), **as_wire(proposal)})
        return
    _say_what_is_next(out, names, maps, bool(policy.parameters))


def _agree_on_thresholds(
    interview: Interview, wishes: Wishes, basis: Basis, given: str | None, as_json: bool
) -> Proposal:
    """The proposal with the thresholds of --lines, else with those that the user accepts or types."""
    if given is None:
        accepted: Sequence[int] = propose_thresholds(basis.spread, wishes.shares, wishes.sharing, wishes.decimals)
    else:
        accepted = interview.thresholds(given, wishes.shares, wishes.decimals)
    while True:
        proposal = propose(wishes, accepted, basis)
        if not as_json:
            _print(proposal)
        if given is not None:
            return proposal
        typed = interview.thresholds(None, accepted, wishes.decimals)
        if typed == tuple(accepted):
            return proposal
        accepted = typed


def _fit_to_log(names: Sequence[str], maps: Sequence[str], policy: Policy, shown: bool) -> str:
    """The text of the parameter file that is fitted to the log."""
    history, _ = read_history(find_logs(names, maps), policy, shown)
    logs = [Path(name).name for name in names]
    return fit_parameters(history, policy, HORIZON_MS, logs, warn if shown else _nothing).as_toml()


def as_wire(proposal: Proposal) -> dict[str, Any]:
    """A proposal for programs."""
    moves = {name: round(proposal.year.per_month(name), 3) for name in ("upgrade", "downgrade")}
    return {"currency": proposal.wishes.currency, "tiers": proposal.rows(), "moves_a_month": moves}


def _wants_fit(interview: Interview, spend: Spend, fit: bool | None, as_json: bool) -> bool:
    if fit is not None:
        return fit
    reason = reason_not_to_fit(spend)
    if reason is not None:
        if not as_json:
            say(f"The risk can't be fitted to this log: {reason}. The probabilities are those of other customers.")
        return False
    return False if as_json else interview.confirm("Fit the risk to the log too (some seconds)", default=True)


def _nothing(text: str) -> None:
    """Discards the progress of a fit."""


def _say_what_was_read(found: dict[str, Spend], unusable: int) -> None:
    for currency, spend in found.items():
        begins, ends = (units.format_time(at_ms)[:10] for at_ms in (spend.begins_ms, spend.ends_ms))
        say(f"{spend.purchases:,} purchases in {currency} by {len(spend.customers):,} customers, {begins} to {ends}")
    if unusable:
        say(f"{unusable:,} records could not be used; tierstream replay says why")


def _print(proposal: Proposal) -> None:
    """Print the customers and the spend that each tier would have."""
    wishes = proposal.wishes
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("tier")
    for column in ("from", "customers", "share", "of the spend", "over the year"):
        table.add_column(column, justify="right")
    for row in proposal.rows():
        threshold = row["min_spend"]
        table.add_row(
            Text(row["tier"]),
            ""
            if threshold is None
            else units.money_in_words(units.parse_minor(threshold, wishes.decimals), wishes.currency),
            f"{row['customers']:,}",
            f"{row['share']:.1%}",
            f"{row['share_of_spend']:.1%}",
            f"{row['share_over_the_year']:.1%}",
        )
    Console().print(table)
    year = proposal.year
    say(
        f"Over the last {year.months} months, among all customers who had bought, with grace and steps: "
        f"{year.per_month('upgrade'):,.1f} upgrades and {year.per_month('downgrade'):,.1f} downgrades a month"
    )


def _say_what_is_next(out: Path, names: Sequence[str], maps: Sequence[str], fitted: bool) -> None:
    file, log = shlex.quote(str(out)), shlex.join(names)
    mapped = "".join(f" --map {shlex.quote(one)}" for one in maps)
    customers = shlex.quote(str(out.with_name(f"{out.stem}-customers.toml")))
    say(f"written to {out}; next:")
    say(f"  tierstream policy check {file}")
    say(f"  tierstream policy show {file}")
    if not fitted:
        params = shlex.quote(str(out.with_name(f"{out.stem}-params.toml")))
        say(f"  tierstream policy fit {log}{mapped} --policy {file} --out {params}")
    say(f"  tierstream policy diff {log}{mapped} --policy THE-ONE-YOU-HAVE --policy {file} --html diff.html")
    say(f"  tierstream policy test {file} --write-example {customers}")
    say(f"  tierstream policy test {file} {customers}")
