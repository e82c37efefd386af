"""`tierstream doctor`."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer

from streams.doctor.checks import examine
from streams.doctor.finding import Finding, problem, with_count
from streams.settings import SettingsError, load_settings
from streams.terminal import FAILED, BrokerOption, JsonOption, RedisOption, SettingPolicyOption, example, say, say_json


@example("tierstream doctor --policy annual-spend --redis-url redis://127.0.0.1:6379/0")
def doctor(
    policy: SettingPolicyOption = None,
    broker: BrokerOption = None,
    redis_url: RedisOption = None,
    worker: Annotated[str | None, typer.Option(help="A worker's pages, as http://127.0.0.1:6066.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check everything that a worker needs, and say what to do.

    It changes nothing. Settings are those of the worker, TIERSTREAM_...; status 0 if there is no problem, else 1.
    Warnings are no problems.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the findings have what it would log
    findings: list[Finding] = []
    try:
        for found in examine(load_settings(policy=policy, broker=broker, redis_url=redis_url), worker):
            findings.append(found)
            if not as_json:
                _show(found)
    except SettingsError as error:
        for line in str(error).splitlines():
            findings.append(problem("settings", line, "Correct it; docs/settings.md has all settings"))
            if not as_json:
                _show(findings[-1])
    counts = Counter(found.status for found in findings)
    if as_json:
        say_json({"ok": not counts["problem"], "findings": [asdict(found) for found in findings]})
    else:
        say(f"{with_count(counts['problem'], 'problem')}, {with_count(counts['warning'], 'warning')}")
    raise typer.Exit(FAILED if counts["problem"] else 0)


def _show(found: Finding) -> None:
    say(f"{found.status:8} {found.about:13} {found.what}")
    if found.do:
        say(f"{'':22} -> {found.do}")
