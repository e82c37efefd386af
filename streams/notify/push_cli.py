"""`tierstream alerts push`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections import Counter
from functools import partial
from typing import Annotated, Final

import typer

import models
from models import units
from models.outputs import ALERTS
from streams.broker.group_reader import PushError, Reader
from streams.broker.keyed_queues import Lanes
from streams.broker.topic_creation import TopicsError, create_topics
from streams.notify.daily_budget import Budget, BudgetError, Ration
from streams.notify.push import CHANGES, Sender, Undelivered, in_words, run
from streams.notify.webhook import Webhook
from streams.settings import PushSettings, Settings, SettingsError, load_push_settings, load_settings
from streams.terminal import BrokerOption, RedisOption, SettingPolicyOption, example, fail, refuse, say, warn
from streams.topics import topics_of
from streams.view.customers import RedisView
from streams.view.queue import AlertQueue
from streams.view.rulebook import Rulebook

CHANGE_NAMES: Final = (
    "opened", "held", "updated", "acknowledged", "contacted", "snoozed", "woke", "released", "breached", "saved", "lost",
    "dismissed", "recovered",
)  # fmt: skip


@example(
    "TIERSTREAM_PUSH_URL=https://example.com/alerts TIERSTREAM_PUSH_SECRET=... tierstream alerts push --change opened"
)
def push(
    change: Annotated[
        list[str] | None,
        typer.Option(
            help="Changes of an alert that are sent; may be given again. Default: opened, updated, woke and breached."
        ),
    ] = None,
    agents: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Send only the most urgent new alerts: a day's budget of the policy for this many agents. Needs Redis.",
        ),
    ] = None,
    every: Annotated[str, typer.Option(help="With --agents: how often the alerts that wait are looked at.")] = "5m",
    retry_undelivered: Annotated[
        bool, typer.Option("--retry-undelivered", help="Send again what was given up since the last time, and stop.")
    ] = False,
    policy: SettingPolicyOption = None,
    broker: BrokerOption = None,
    redis_url: RedisOption = None,
) -> None:
    """Send each alert to a webhook, signed, until stopped.

    Each is sent until it is taken, in order per customer; Ctrl-C stops. TIERSTREAM_PUSH_URL says where to,
    TIERSTREAM_PUSH_SECRET is what receivers check the signature with. What is refused, or not taken within
    TIERSTREAM_PUSH_PATIENCE (15m), goes to the topic `undelivered`. See docs/integrations.md.
    """
    try:
        settings, webhook = load_settings(policy=policy, broker=broker, redis_url=redis_url), load_push_settings()
        unknown = [one for one in change or () if one not in CHANGE_NAMES]
        if unknown:
            raise SettingsError(f"--change {unknown[0]} is no change of an alert; they are {', '.join(CHANGE_NAMES)}")
        if retry_undelivered and (change or agents):
            raise SettingsError("--retry-undelivered sends all that was given up: leave --change and --agents out")
        changes = tuple(change or CHANGES)
        every_ms = units.parse_duration(every)
        own = None if agents is None else _own(settings, changes)
        _set_up_logging(settings.log_level)
        if settings.create_topics:
            create_topics(settings, topics_of(settings))
        counts = asyncio.run(_push(settings, webhook, changes, own, agents or 0, every_ms / 1_000, retry_undelivered))
    except (SettingsError, models.PolicyError, BudgetError, ValueError) as error:
        raise refuse(str(error)) from None
    except (PushError, TopicsError) as error:
        raise fail(str(error)) from None
    (say if retry_undelivered else warn)(in_words(counts))


def _own(settings: Settings, changes: tuple[str, ...]) -> models.Policy:
    """The policy whose budget counts until workers write theirs to Redis. Raises SettingsError or PolicyError."""
    if "opened" not in changes:
        raise SettingsError("--agents limits how many new alerts are sent: add --change opened, or leave --agents out")
    if settings.redis_url is None:
        raise SettingsError(
            "--agents takes the most urgent from the workers' Redis; set TIERSTREAM_REDIS_URL, or give --redis-url"
        )
    return models.load(settings.policy)


def _set_up_logging(level: str) -> None:
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("kafka", "httpx", "httpcore"):
        # The last two would log the whole URL, and any secret in it.
        logging.getLogger(chatty).setLevel(logging.WARNING)


async def _push(
    settings: Settings,
    given: PushSettings,
    changes: tuple[str, ...],
    own: models.Policy | None,
    agents: int,
    every_seconds: float,
    retry_undelivered: bool,
) -> Counter[str]:
    webhook = Webhook(given.url, given.secret.get_secret_value(), given.patience / 1_000, given.timeout / 1_000)
    undelivered = Undelivered(settings, given.group, webhook)
    sender, lanes = Sender(webhook, undelivered), Lanes(given.at_once)
    group = f"{settings.table_app_id}-{given.group}"
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    view = RedisView(settings.redis_url, settings.redis_prefix) if own is not None and settings.redis_url else None
    try:
        if retry_undelivered:
            handle = partial(sender.send_again, given.group)
            reader = Reader(settings, undelivered.topic, f"{group}-undelivered", handle, lanes, to_end=True)
            await run(reader, lanes, sender, stop)
        elif view is None or own is None:
            handle = partial(sender.send_chosen, changes)
            await run(Reader(settings, settings.topic(ALERTS), group, handle, lanes, to_end=False), lanes, sender, stop)
        else:
            budget = Budget(Rulebook(view, own), agents)
            await budget.most_a_day()
            ration = Ration(AlertQueue(view), sender, lanes, given.group, changes, budget.most_a_day)
            reader = Reader(settings, settings.topic(ALERTS), group, ration.handle, lanes, to_end=False)
            await run(reader, lanes, sender, stop, ration.run(every_seconds, lambda: reader.has_all))
    finally:
        await webhook.aclose()
        if view is not None:
            await view.redis.aclose()
    return sender.counts
