"""`tierstream rebuild`: a new app version, built from the beginning or as of a time."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from models import units
from streams.settings import Settings, load_settings
from streams.terminal import (
    BrokerOption,
    JsonOption,
    SettingPolicyOption,
    YesOption,
    confirm,
    example,
    refuse,
    say,
    say_json,
)
from streams.versions import seek
from streams.versions.app_versions import Versions
from streams.versions.rebuild_run import Wishes, abort_rebuild, run_rebuild, told, version_of

BEGINNING: Final = "beginning"


@example("tierstream rebuild --to-version 2 --policy mine.toml --group my-app")
def rebuild(
    to_version: Annotated[int, typer.Option(help="The new TIERSTREAM_APP_VERSION.")],
    policy: SettingPolicyOption = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="A consumer group that reads the outputs of the old version and continues in those of the new one; OLD=NEW if it "
            "has another name there. May be given again."
        ),
    ] = None,
    worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Run a worker of the new version here, or wait for yours.")
    ] = True,
    worker_log: Annotated[Path | None, typer.Option(help="Write that worker's log to this file.")] = None,
    moves: Annotated[
        Path | None, typer.Option(help="Write the customers that differ to this file, one JSON line each.")
    ] = None,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="Switch although the same policy gave different customers.")
    ] = False,
    wait: Annotated[str, typer.Option(help="How long to wait until the old version's workers have stopped.")] = "10m",
    as_of: Annotated[
        str | None,
        typer.Option(
            help="Only write the new version's tables, with the customers as they were at this time (2026-01-31T08:00:00Z, "
            f"or {BEGINNING}); its workers fold what came since again."
        ),
    ] = None,
    abort: Annotated[
        bool, typer.Option("--abort", help="Instead delete the new version: its topics, and its data in Redis.")
    ] = False,
    yes: YesOption = False,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build a new app version beside the old one, and switch.

    It is built from the beginning of the topics while the old version serves; then their customers are compared, and
    after a question the new version takes over. Until then nothing changes. Run it again after Ctrl-C or a failure: it
    continues where it stopped. Status 1 if nothing was switched. docs/changing.md says what a switch is.

    With --as-of, tables, offsets and journal of the new version are written in one transaction, or not at all, and the
    old version goes on. Then start workers of the new version, or run this again without --as-of. What was announced
    since that time is announced again, on the new version's topics.
    """
    with told():
        settings = load_settings(broker=broker)
        if as_of is not None:
            _refuse_with_as_of(policy, group, worker, worker_log, moves, accept_differences, abort)
            _write_as_of(settings, as_of, to_version, yes, as_json)
            return
        wishes = Wishes(
            groups=group or [],
            own_worker=worker,
            worker_log=worker_log,
            moves=moves,
            accept_differences=accept_differences,
            wait_seconds=units.parse_duration(wait) / 1000,
            yes=yes,
            as_json=as_json,
        )
        changed: dict[str, Any] = {"app_version": to_version}
        new_settings = settings.model_copy(update=changed | ({} if policy is None else {"policy": policy}))
        (abort_rebuild if abort else run_rebuild)(settings, new_settings, wishes)


def _refuse_with_as_of(
    policy: str | None,
    group: list[str] | None,
    worker: bool,
    worker_log: Path | None,
    moves: Path | None,
    accept_differences: bool,
    abort: bool,
) -> None:
    """Raises typer.Exit for an option that is of a rebuild from the beginning."""
    given = {
        "--policy": policy is not None, "--group": bool(group), "--no-worker": not worker, "--worker-log": worker_log is not None,
        "--moves": moves is not None, "--accept-differences": accept_differences, "--abort": abort,
    }  # fmt: skip
    for name in (name for name, is_given in given.items() if is_given):
        raise refuse(f"--as-of only writes tables, under the policy of now: leave {name} out")


def _write_as_of(settings: Settings, as_of: str, to_version: int, yes: bool, as_json: bool) -> None:
    """Write the new version's tables, with the customers as they were at a time. Raises what `told` says."""
    as_of_ms = -1 if as_of == BEGINNING else units.parse_time(as_of)
    versions = Versions(settings)
    versions.topics()
    old, new = version_of(settings), version_of(settings.model_copy(update={"app_version": to_version}))
    seek.check(versions, old, new)
    pasts = seek.no_past(old) if as_of == BEGINNING else seek.past_of(versions, old, as_of_ms)
    found = asyncio.run(seek.sought(versions, old, pasts))
    if not as_json:
        say(
            f"version {new.number} begins with {found.customers:,} customers, after {found.records:,} records; "
            f"about {found.left:,} are left to fold"
        )
        say(
            f"of what version {old.number} announced since, {found.announced_again:,} announcements to {found.customers_told_again:,} "
            f"customers come again, on topics of version {new.number}"
        )
    confirm(f"Write the tables of version {new.number}?", yes)
    seek.write(versions, new, pasts)
    environment = f"TIERSTREAM_APP_VERSION={new.number}"
    if as_json:
        say_json(asdict(found) | {"version": new.number, "environment": environment})
        return
    say(f"done; now start workers with {environment}, or run tierstream rebuild --to-version {new.number}")
