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
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import cdnow_log
import confluent_kafka
import orjson
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import models
from models import units
from models.outputs import CHURN_RISK, DEAD_LETTERS, TIER_CHANGES
from models.policy import SHIPPED, PolicyError
from streams.broker import embedded
from streams.broker.topic_creation import TopicsError, create_topics
from streams.settings import Settings, load_settings
from streams.topics import topics_of
from streams.view.customers import RedisView
from streams.web.signin.people import set_user

UNTIL = units.format_time(units.ms_from_datetime(cdnow_log.END))
SILENT_LOGGER = logging.getLogger("tierstream.demo.librdkafka")
SILENT_LOGGER.setLevel(logging.CRITICAL)
DRAIN_SECONDS = 300
REFRESH_SECONDS = 0.5
CONSOLE_SECONDS = 60


class DemoError(RuntimeError):
    """The demo can't continue; the message says what to do."""


@dataclass
class Seen:
    """What the demo has read from the output topics."""

    tier_changes: Counter[str] = field(default_factory=Counter)
    risk_changes: Counter[str] = field(default_factory=Counter)
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    levels: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, topic: str, message: confluent_kafka.Message) -> None:
        if topic == DEAD_LETTERS:
            headers = dict(message.headers() or [])
            if "reason" in headers:  # a record without a reason settles a dead letter
                self.dead_letters[headers["reason"].decode()] += 1
            return
        body = orjson.loads(message.value())
        if topic == TIER_CHANGES:
            self.tier_changes[body["change"]] += 1
            if body["before"]["tier"] != body["after"]["tier"]:
                self.moves[body["before"]["tier"], body["after"]["tier"]] += 1
        else:
            self.risk_changes[body["change"]] += 1
            if body["change"] in ("raised", "escalated"):
                self.levels[body["after"]["level"]] += 1
        self.examples.setdefault(self._kind(topic, body), body)

    @staticmethod
    def _kind(topic: str, body: dict[str, Any]) -> str:
        if topic == CHURN_RISK and body["main_cause"] == "complaints":
            return f"{body['change']} by a complaint"
        return body["change"]

    def five_examples(self) -> list[dict[str, Any]]:
        wanted = [
            "upgrade",
            "downgrade",
            "downgrade_scheduled",
            "downgrade_averted",
            "raised by a complaint",
            "escalated",
            "cleared",
            "raised",
        ]
        return [self.examples[kind] for kind in wanted if kind in self.examples][:5]


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


@contextmanager
def worker(settings: Settings, log_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the real worker in a separate process; it is stopped with SIGINT."""
    environment = os.environ | settings.environment()
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streams.cli", "worker"], env=environment, stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()


@contextmanager
def console_of(settings: Settings, folder: Path) -> Iterator[str]:
    """Run the web console on the same Redis, with a user who has all rights; yields its address and how to sign in."""
    name, password, port = "demo", secrets.token_urlsafe(9), free_port()
    users, keys, log_file = (folder / one for one in ("users.toml", "keys.toml", "console.log"))
    set_user(users, name, "manager", password)
    own = {"PORT": str(port), "USERS_FILE": str(users), "KEYS_FILE": str(keys)}
    environment = os.environ | settings.environment()
    environment |= {f"TIERSTREAM_CONSOLE_{key}": value for key, value in own.items()}
    command = [sys.executable, "-m", "streams.cli", "console"]
    with log_file.open("wb") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
        try:
            deadline = time.monotonic() + CONSOLE_SECONDS
            while not answers(f"http://127.0.0.1:{port}/signin"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise DemoError(
                        f"the console did not start; the end of its log:\n{log_file.read_text('utf-8')[-2000:]}"
                    )
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port} (sign in as {name} with {password})"
        finally:
            process.send_signal(signal.SIGINT)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def stats_of(port: int) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats", timeout=2) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError):
        return None


def output_reader(settings: Settings) -> confluent_kafka.Consumer:
    reader = confluent_kafka.Consumer(
        {"bootstrap.servers": settings.broker, "group.id": "demo-reader"}, logger=SILENT_LOGGER
    )
    names = [settings.topic(name) for name in (TIER_CHANGES, CHURN_RISK, DEAD_LETTERS)]
    reader.assign(
        [
            confluent_kafka.TopicPartition(name, number, confluent_kafka.OFFSET_BEGINNING)
            for name in names
            for number in range(settings.partitions)
        ]
    )
    return reader


def read_outputs(reader: confluent_kafka.Consumer, settings: Settings, seen: Seen, seconds: float = 0.05) -> int:
    messages = [one for one in reader.consume(2_000, seconds) if one.error() is None]
    for message in messages:
        seen.take(message.topic().removeprefix(settings.topic_prefix), message)
    return len(messages)


class Demo:
    """Feeds the log, watches the worker and reads its outputs, with a live display."""

    def __init__(self, settings: Settings, policy: models.Policy, folder: Path, console: Console) -> None:
        self.settings = settings
        self.policy = policy
        self.log_file = folder / "worker.log"
        self.console = console
        self.log = cdnow_log.in_order()
        self.seen = Seen()
        self.fed = Counter[str]()
        self.stats: dict[str, Any] = {"events": 0, "drained": False}
        self.sizes = dict.fromkeys((tier.name for tier in policy.ladder.tiers), 0)
        self._refreshed_at = 0.0
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console)
        self._tasks = {name: self._bar.add_task(name, total=len(self.log)) for name in ("fed", "folded")}

    def run(self, days_a_second: float | None) -> Iterator[subprocess.Popen[bytes]]:
        """Yield the running worker once it has folded the log; it is stopped when the caller continues."""
        feeder = feed(self.settings, self.log, days_a_second, self.fed)
        if days_a_second is None:
            # The topics are filled before the worker starts, so it catches up at full speed.
            for _ in feeder:
                self._bar.update(self._tasks["fed"], completed=self.fed["events"])
        with ExitStack() as stack:
            process = stack.enter_context(worker(self.settings, self.log_file))
            reader = output_reader(self.settings)
            stack.callback(reader.close)
            with Live(self.picture(), console=self.console, refresh_per_second=5, transient=True) as live:
                self.watch(process, feeder, reader, live)
            yield process

    def watch(
        self, process: subprocess.Popen[bytes], feeder: Iterator[None], reader: confluent_kafka.Consumer, live: Live
    ) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        while not (self.stats["drained"] and self.stats["events"] >= len(self.log)):
            if next(feeder, "fed") is None:
                deadline = time.monotonic() + DRAIN_SECONDS
            read_outputs(reader, self.settings, self.seen)
            if time.monotonic() - self._refreshed_at > REFRESH_SECONDS:
                self.refresh()
                live.update(self.picture())
            log_tail = self.log_file.read_text("utf-8")[-2000:]
            if process.poll() is not None:
                raise DemoError(f"the worker stopped; the end of its log:\n{log_tail}")
            if time.monotonic() > deadline:
                raise DemoError(
                    f"the worker did not fold the log in {DRAIN_SECONDS} s; the end of its log:\n{log_tail}"
                )
        while read_outputs(reader, self.settings, self.seen, seconds=1.0):
            continue

    def refresh(self) -> None:
        """Ask the worker for its progress, and Redis for the number of customers in each tier."""
        self._refreshed_at = time.monotonic()
        self.stats = stats_of(self.settings.web_port) or self.stats
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

    def picture(self) -> Group:
        table = Table("tier", "customers", "", box=None)
        most = max(1, *self.sizes.values())
        for tier, size in self.sizes.items():
            table.add_row(tier, f"{size:,}", "█" * round(40 * size / most))
        alerts = ", ".join(f"{level} {count:,}" for level, count in sorted(self.seen.levels.items())) or "none yet"
        changes = sum(self.seen.tier_changes.values())
        return Group(self._bar, table, f"tier changes {changes:,}   alerts raised: {alerts}")

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
        }


def show(console: Console, summary: dict[str, Any], seen: Seen) -> None:
    """Print the summary and some announcements."""
    table = Table(title="Results", show_header=False)
    for name, value in summary.items():
        table.add_row(name.replace("_", " "), as_text(value))
    console.print(table)
    for body in seen.five_examples():
        console.rule(f"{body['change']} of customer {body['customer_id']}")
        console.print_json(json.dumps(body, ensure_ascii=False))


def as_text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {count:,}" for key, count in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def wait(console: Console, settings: Settings, process: subprocess.Popen[bytes], sign_in_hint: str) -> None:
    console.print(
        f"\nThe worker keeps running, and the web console is at {sign_in_hint}.\nIn another terminal, try:\n"
        f"  ./scripts/tierstream customer show 1516 --redis-url {settings.redis_url}\n"
        f"  curl http://127.0.0.1:{settings.web_port}/readyz\n"
        f"  ./scripts/cdnow-log /tmp/cdnow && ./scripts/tierstream replay /tmp/cdnow/*.jsonl --policy subscription-like --out /tmp/replayed\n"
        f"The broker is at {settings.broker}. Ctrl-C ends the demo.",
        soft_wrap=True,
    )
    try:
        process.wait()
    except KeyboardInterrupt:
        console.print("stopping ...")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description=__doc__,
        epilog="Example: scripts/demo --exit --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--exit", action="store_true", help="end when the log is drained, instead of staying up")
    parser.add_argument(
        "--json", action="store_true", help="print the summary as one JSON object on the last line (implies --exit)"
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    arguments = parse_arguments()
    for stop in (signal.SIGINT, signal.SIGTERM):
        # A shell may have started this in the background with SIGINT ignored; the worker and Redis have to be stopped
        # even then.
        signal.signal(stop, signal.default_int_handler)
    console = Console(stderr=arguments.json)
    try:
        policy = models.load(arguments.policy)
    except PolicyError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tierstream-demo-")))
        overrides: dict[str, Any] = {
            "policy": arguments.policy,
            "clock": "event",
            "until": UNTIL,
            "web_port": free_port(),
            "session_timeout": 6_000,
        }
        if broker := os.environ.get("TIERSTREAM_BROKER"):
            broker_name = f"Kafka at {broker}"
            name = f"demo-{int(time.time())}"
            overrides |= {"topic_prefix": f"{name}-", "app_id": name}
        else:
            broker = stack.enter_context(embedded.EmbeddedBroker()).address
            broker_name = embedded.EmbeddedBroker.name
            # The mock cluster does not implement transactions properly.
            overrides |= {"create_topics": False, "partitions": embedded.PARTITIONS, "delivery": "at-least-once"}
        if redis_url := os.environ.get("TIERSTREAM_REDIS_URL"):
            redis_name = "Redis from TIERSTREAM_REDIS_URL"
        else:
            redis_url = stack.enter_context(embedded.EmbeddedRedis(folder)).url
            redis_name = embedded.EmbeddedRedis.name
        try:
            settings = load_settings(broker=broker, redis_url=redis_url, **overrides)
            if settings.create_topics:
                create_topics(settings, topics_of(settings))
            console.print(f"broker: {broker_name}   redis: {redis_name}   policy: {policy.ref}")
            console.print(
                "The purchases are real (CDNOW, 1997-98); complaints, feedback and three bad records are made up."
            )
            sign_in_hint = stack.enter_context(console_of(settings, folder))
            console.print(f"console: {sign_in_hint}", soft_wrap=True)
            demo = Demo(settings, policy, folder, console)
            for process in demo.run(arguments.speed):
                summary = {"broker": broker_name, "redis": redis_name, **demo.summary()}
                show(console, summary, demo.seen)
                if not arguments.exit:
                    wait(console, settings, process, sign_in_hint)
        except (ValueError, TopicsError, DemoError) as error:
            print(f"demo: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("demo: stopped", file=sys.stderr)
            return 130
    if arguments.json:
        print(json.dumps(summary, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
