"""`tierstream worker`."""

from __future__ import annotations

from typing import Annotated

import typer

import models
from models.policy import PolicyError
from models.policy.editions import EditionError, Editions
from streams.settings import SettingsError, load_ingest_settings, load_registry_settings, load_settings
from streams.sources.logs import LogError
from streams.terminal import (
    BrokerOption,
    RedisOption,
    RegistryOption,
    SettingPolicyOption,
    WebPortOption,
    example,
    refuse,
)
from streams.worker.run import run_worker


@example("TIERSTREAM_BROKER=127.0.0.1:9092 tierstream worker --policy annual-spend")
def worker(
    policy: SettingPolicyOption = None,
    broker: BrokerOption = None,
    redis_url: RedisOption = None,
    shadow: Annotated[
        str | None,
        typer.Option(
            help="A second policy beside the first: its outputs go to topics *-shadow, and nothing else changes."
        ),
    ] = None,
    delivery: Annotated[str | None, typer.Option(help="exactly-once (default) or at-least-once.")] = None,
    clock: Annotated[str | None, typer.Option(help="wall (live) or event (backfill).")] = None,
    until: Annotated[
        str | None, typer.Option(help="With --clock event: advance customers to this time at the end.")
    ] = None,
    web_port: WebPortOption = None,
    maps: Annotated[
        list[str],
        typer.Option("--map", help="TOPIC=FILE: also run tierstream ingest TOPIC=FILE, in a second process."),
    ] = [],  # noqa: B006
    registry: RegistryOption = None,
) -> None:
    """Keep tiers and churn risk current from the input topics.

    It runs until it is stopped; Ctrl-C lets it finish the batch that it is processing.
    Every option is also a setting TIERSTREAM_...; see docs/settings.md for all of them.
    """
    try:
        settings = load_settings(
            policy=policy,
            shadow=shadow,
            broker=broker,
            redis_url=redis_url,
            delivery=delivery,
            clock=clock,
            until=until,
            web_port=web_port,
        )
        chosen = models.load(settings.policy)
        if settings.shadow is not None:
            Editions.of(chosen).with_trial(models.load(settings.shadow), -1)
        ingests = load_ingest_settings(sources=" ".join(maps) or None)
        asked = load_registry_settings(url=registry)
        raise typer.Exit(run_worker(settings, chosen, ingests, asked))
    except (SettingsError, PolicyError, EditionError, LogError) as error:
        raise refuse(str(error)) from None
