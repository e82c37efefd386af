"""`tierstream policy`: making, checking, reading and testing policies, and switching the running one's parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import models
from models.policy_file import SHIPPED
from models.policy_problem import PolicyError
from streams.console import WRONG_USE, JsonOption, fail, refuse, say, say_json, warn
from streams.settings import SettingsError, load_settings

policy_app = typer.Typer(help="Check policies and list the shipped ones.", no_args_is_help=True)


@policy_app.command(epilog="Example: tierstream policy check my-policy.toml")
def check(
    file: Annotated[str, typer.Argument(help="A policy file, or a shipped id.")], as_json: JsonOption = False
) -> None:
    """Say what is wrong with a policy, on which line, and how to mend it."""
    try:
        chosen = models.load(file)
    except PolicyError as error:
        if as_json:
            problems = [
                {"line": one.line, "where": one.where, "what": one.what, "mend": one.mend} for one in error.problems
            ]
            say_json({"ok": False, "source": error.source, "problems": problems})
        else:
            for problem in error.problems:
                warn(f"{error.source}, {problem}")
        raise typer.Exit(WRONG_USE) from None
    tiers = [tier.name for tier in chosen.ladder.tiers]
    if as_json:
        say_json({"ok": True, "policy": chosen.ref, "tiers": tiers})
    else:
        say(f"{chosen.ref} is fine: {chosen.title}; tiers {' < '.join(tiers)}; currency {chosen.currency}")


@policy_app.command(
    epilog="Example: TIERSTREAM_BROKER=127.0.0.1:9092 tierstream policy switch --parameters params.toml"
)
def switch(
    parameters: Annotated[Path, typer.Option(help="A file that tierstream fit wrote.")],
    policy: Annotated[str | None, typer.Option("--policy", "-p", help="The policy that the workers run.")] = None,
    broker: Annotated[str | None, typer.Option(help="Kafka, as host:port.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Have running workers score with other fitted parameters from now on: a new edition of their policy.

    Every customer is judged anew, once, as of now; what that changes says `edition-N` for its cause.
    """
    import time

    from models.parameters import read_parameters
    from streams import editions

    try:
        settings = load_settings(policy=policy, broker=broker)
        number = editions.switch(
            settings, models.load(settings.policy), read_parameters(parameters), time.time_ns() // 1_000_000
        )
    except (SettingsError, PolicyError) as error:
        raise refuse(str(error)) from None
    except editions.SwitchError as error:
        raise fail(str(error)) from None
    if as_json:
        say_json({"edition": number})
    else:
        say(f"edition {number} has begun; every customer is judged under it as their turn comes")


@policy_app.command("list", epilog="Example: tierstream policy list")
def list_policies() -> None:
    """The policies that ship with Tierstream."""
    for name in SHIPPED:
        say(f"{name:20} {models.load(name).title}")
