"""`tierstream rebuild`: a new app version beside the old, compared, then switched to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from models import units
from models.policy import SHIPPED
from streams.settings import load_settings
from streams.terminal import JsonOption

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
BrokerOption = Annotated[str | None, typer.Option(help="Kafka, as host:port.")]


def rebuild(
    to_version: Annotated[int, typer.Option(help="The new TIERSTREAM_APP_VERSION.")],
    policy: Annotated[
        str | None,
        typer.Option("--policy", "-p", help=f"Another policy for it: a file, or one of {', '.join(SHIPPED)}."),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="A consumer group that reads the old version's outputs and is to go on in the new one's; OLD=NEW if it has another "
            "name there. More than once."
        ),
    ] = None,
    worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Run a worker of the new version here, or wait for yours.")
    ] = True,
    worker_log: Annotated[Path | None, typer.Option(help="Write that worker's log to this file.")] = None,
    moves: Annotated[
        Path | None, typer.Option(help="Write customers who differ to this file, a JSON line each.")
    ] = None,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="Switch although one policy gave different customers.")
    ] = False,
    wait: Annotated[str, typer.Option(help="How long to wait until the old version's workers have stopped.")] = "10m",
    abort: Annotated[
        bool, typer.Option("--abort", help="Delete the new version's topics instead, and what Redis has of it.")
    ] = False,
    yes: YesOption = False,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build a new app version from the beginning while the old one serves, compare their customers, and switch.

    Run again after Ctrl-C or a failure, it goes on. Until the switch nothing changes for anybody; docs/changing.md says what a
    switch is. Status 1 if nothing was switched.
    """
    from streams.versions.rebuild_run import Wishes, abort_rebuild, run_rebuild, told

    with told():
        settings = load_settings(broker=broker)
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
