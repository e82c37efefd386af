"""`tierstream seek`: go on from a point in time."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from models import units
from streams.settings import load_settings
from streams.terminal import JsonOption, confirm, say, say_json
from streams.versions.rebuild_cli import BrokerOption, YesOption

BEGINNING = "beginning"


def seek(
    to: Annotated[str, typer.Option(help=f"A time, as in 2026-01-31T08:00:00Z, or {BEGINNING}.")],
    to_version: Annotated[
        int, typer.Option(help="The TIERSTREAM_APP_VERSION that goes on from there; it must not be begun.")
    ],
    yes: YesOption = False,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new app version whose customers are as the present one's were at a time, and which folds what came since again.

    The present version and its workers go on undisturbed. The new one gets tables, offsets and journal in one transaction, or
    nothing; then start its workers, or let `tierstream rebuild` run one and compare. Announcements since then come again, on
    the new version's topics.
    """
    from streams.versions import seek as steps
    from streams.versions.app_versions import Versions
    from streams.versions.rebuild_run import told, version_of

    with told():
        settings = load_settings(broker=broker)
        to_ms = -1 if to == BEGINNING else units.parse_time(to)
        versions = Versions(settings)
        versions.topics()
        old, new = version_of(settings), version_of(settings.model_copy(update={"app_version": to_version}))
        steps.check(versions, old, new)
        pasts = steps.no_past(old) if to == BEGINNING else steps.past_of(versions, old, to_ms)
        found = asyncio.run(steps.sought(versions, old, pasts))
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
        steps.write(versions, new, pasts)
        environment = f"TIERSTREAM_APP_VERSION={new.number}"
        if as_json:
            say_json(asdict(found) | {"version": new.number, "environment": environment})
            return
        say(f"done; now start workers with {environment}, or run tierstream rebuild --to-version {new.number}")
