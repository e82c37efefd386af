"""`tierstream alerts push` as a process: from a broker to a receiver that misbehaves; the process is stopped and killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from typer.testing import CliRunner

import models
from models import Output
from streams.broker.embedded import EmbeddedBroker, EmbeddedRedis
from streams.cli import app as cli
from streams.notify.webhook import verify
from streams.settings import Settings, load_settings
from streams.view.customers import RedisView
from streams.view.updates import update_of
from tests.builders import DAY, act_on_alert, complaint, ms, purchase
from tests.integration.harness import PATIENCE_SECONDS, ROOT, Site, free_port, wait_until
from tests.receiver import Answer, Receiver, receiving
from tests.running import Fold

SECRET = "sixteen characters"
POLICY = models.load("annual-spend")
START_MS = ms("2024-01-01")


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with EmbeddedBroker() as embedded:
        yield embedded.address


@pytest.fixture
def here(broker: str, tmp_path: Path) -> Site:
    """An installation of its own, without a worker."""
    name = f"t{uuid.uuid4().hex[:10]}"
    made = Site(load_settings(broker=broker, topic_prefix=f"{name}-", app_id=name, create_topics=False), tmp_path)
    for topic in ("alerts", "undelivered"):
        # The embedded broker makes a topic when a producer asks for it.
        confluent_kafka.Producer({"bootstrap.servers": broker}).list_topics(made.settings.topic(topic), timeout=10)
    return made


def announced_alerts(*wires: dict[str, Any], fold: Fold | None = None, until_ms: int = 0) -> list[Output]:
    """The alerts that the fold announces for some events."""
    fold = fold or Fold(POLICY)
    before = len(fold.outputs)
    for wire in wires:
        fold.apply(wire)
    if until_ms:
        fold.advance(until_ms)
    return [one for one in fold.outputs[before:] if one.topic == "alerts"]


def complaining(customer_id: str, spent: str = "250", at_ms: int = START_MS) -> list[dict[str, Any]]:
    return [
        purchase(customer_id, spent, on=at_ms, id=f"{customer_id}-p{at_ms}"),
        complaint(
            customer_id,
            f"{customer_id}-c{at_ms}",
            on=at_ms,
            severity="critical",
            category="delivery",
            id=f"{customer_id}-c{at_ms}",
        ),
    ]


def announce(here: Site, outputs: Iterable[Output]) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": here.settings.broker, "partitioner": "murmur2_random"})
    for one in outputs:
        producer.produce(here.settings.topic("alerts"), one.body, one.customer_id)
    assert producer.flush(PATIENCE_SECONDS) == 0


@dataclass
class Push:
    process: subprocess.Popen[bytes]
    log: Path

    def logged(self) -> str:
        return self.log.read_text()

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


def environment(settings: Settings, url: str, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TIERSTREAM_")}
    chosen = {"TIERSTREAM_PUSH_URL": url, "TIERSTREAM_PUSH_SECRET": SECRET, "PYTHONPATH": str(ROOT)}
    return inherited | settings.environment() | chosen | more


@contextmanager
def pushing(here: Site, url: str, *arguments: str, **more: str) -> Iterator[Push]:
    """A process that pushes, once it has its partitions."""
    log = here.folder / f"push-{uuid.uuid4().hex[:6]}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "streams.cli", "alerts", "push", *arguments],
            env=environment(here.settings, url, **more), stdout=sink, stderr=sink,
        )  # fmt: skip
    push = Push(process, log)
    try:
        wait_until(lambda: process.poll() is not None or " partitions of " in push.logged(), 60, push.logged)
        assert process.poll() is None, push.logged()
        yield push
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def retry(here: Site, url: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", "alerts", "push", "--retry-undelivered"],
        env=environment(here.settings, url), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def changes(bodies: Iterable[bytes]) -> list[tuple[str, str]]:
    return [(body["customer_id"], body["change"]) for body in map(json.loads, bodies)]


def wait_for(receiver: Receiver, count: int, push: Push) -> None:
    wait_until(lambda: len(receiver.taken) >= count, 60, lambda: f"{changes(receiver.taken)}\n{push.logged()}")


def test_chosen_changes_are_delivered_unchanged_and_once_across_restarts(here: Site) -> None:
    fold = Fold(POLICY)
    before = announced_alerts(*complaining("old"))
    first = announced_alerts(
        *complaining("ada"), act_on_alert("ada", "acknowledged", on=START_MS + 1, actor="mia"), fold=fold
    )
    second = announced_alerts(fold=fold, until_ms=START_MS + 3 * DAY)
    assert [one.change for one in first + second] == ["opened", "acknowledged", "breached"]
    announce(here, before)
    with receiving() as receiver:
        with pushing(here, receiver.url) as push:
            announce(here, first)
            wait_for(receiver, 1, push)
            assert push.stop() == 0
            assert "1 delivered, 0 given up" in push.logged()
        announce(here, second)
        with pushing(here, receiver.url) as push:
            wait_for(receiver, 2, push)
            assert push.stop(signal.SIGTERM) == 0
    # Alerts from before the first start are not sent; those from between the two runs are.
    assert receiver.taken == [first[0].body, second[0].body]
    assert [one.headers["tierstream-id"] for one in receiver.requests] == [first[0].id, second[0].id]
    for one in receiver.requests:
        verify(SECRET, one.headers["tierstream-signature"], one.body, 0, tolerance_seconds=1e12)


def test_other_changes_are_sent_if_they_are_chosen(here: Site) -> None:
    outputs = announced_alerts(*complaining("ada"), act_on_alert("ada", "lost", on=START_MS + 1, actor="mia"))
    with receiving() as receiver, pushing(here, receiver.url, "--change", "lost", "--change", "saved") as push:
        announce(here, outputs)
        wait_for(receiver, 1, push)
        assert push.stop() == 0
    assert changes(receiver.taken) == [("ada", "lost")]


def test_a_customers_alerts_keep_their_order_whatever_fails(here: Site) -> None:
    chance = random.Random(7)
    customer_ids = [f"c{number}" for number in range(12)]
    outputs = []
    for one in customer_ids:
        fold = Fold(POLICY)
        outputs.append(announced_alerts(*complaining(one), fold=fold, until_ms=START_MS + 3 * DAY))
        assert [output.change for output in outputs[-1]] == ["opened", "breached"]
    announced = [output for both in zip(*outputs, strict=True) for output in both]

    def unreliable(body: bytes) -> Answer:
        return Answer(chance.choice([200, 200, 200, 503, 429, 408]))

    with receiving(answers=unreliable) as receiver, pushing(here, receiver.url) as push:
        announce(here, announced)
        wait_for(receiver, len(announced), push)
        assert push.stop() == 0
    by_customer = defaultdict(list)
    for customer_id, change in changes(receiver.taken):
        by_customer[customer_id].append(change)
    assert by_customer == {one: ["opened", "breached"] for one in customer_ids}
    assert len(receiver.requests) > len(announced)
    # No alert of a customer is tried before the earlier ones were accepted.
    taken: set[str] = set()
    for request in receiver.requests:
        body = json.loads(request.body)
        assert body["change"] == "opened" or body["customer_id"] in taken
        if request.answered == 200:
            taken.add(body["customer_id"])


def test_a_refused_alert_is_set_aside_holds_up_nothing_and_can_be_sent_again(here: Site) -> None:
    fold = Fold(POLICY)
    bad = announced_alerts(*complaining("bad"), fold=fold)
    good = announced_alerts(*complaining("good"), fold=fold)

    def picky(body: bytes) -> Answer:
        return Answer(400 if b'"bad"' in body else 200)

    with receiving(answers=picky) as receiver:
        url = receiver.url.replace("http://", "http://mia:hush@") + "?token=hush"
        with pushing(here, url) as push:
            announce(here, bad + good)
            wait_for(receiver, 1, push)
            wait_until(lambda: "given up, refused after 1 attempts: answered 400" in push.logged(), 30, push.logged)
            assert push.stop() == 0
            assert "hush" not in push.logged()
        [undelivered] = here.read("undelivered")
        assert (undelivered.key(), undelivered.value()) == (b"bad", bad[0].body)
        assert {name: value.decode() for name, value in undelivered.headers()} == {
            "group": "push", "reason": "refused", "status": "400", "attempts": "1", "url": receiver.url,
            "detail": "answered 400 Bad Request",
        }  # fmt: skip
        # The receiver still refuses it.
        assert retry(here, receiver.url) == "0 delivered, 1 given up, 0 passed over\n"
        assert dict(here.read("undelivered")[1].headers())["attempts"] == b"2"
        receiver.answers = None
        assert retry(here, receiver.url) == "1 delivered, 0 given up, 0 passed over\n"
        assert retry(here, receiver.url) == "0 delivered, 0 given up, 0 passed over\n"
    assert receiver.taken == [good[0].body, bad[0].body]
    assert receiver.requests[-1].headers["tierstream-id"] == bad[0].id


def test_an_alert_that_nobody_accepts_is_set_aside_once_patience_ends(here: Site) -> None:
    with pushing(here, f"http://127.0.0.1:{free_port()}/", TIERSTREAM_PUSH_PATIENCE="3s") as push:
        announce(here, announced_alerts(*complaining("ada")))
        wait_until(lambda: "given up, patience" in push.logged(), 60, push.logged)
        assert push.stop() == 0
    headers = dict(here.read("undelivered")[0].headers())
    assert headers[b"reason".decode()] == b"patience"
    assert "status" not in headers
    assert int(headers["attempts"]) > 1


def test_a_killed_process_leaves_no_alert_out(here: Site) -> None:
    fold = Fold(POLICY)
    outputs = [one for number in range(30) for one in announced_alerts(*complaining(f"c{number}"), fold=fold)]
    with receiving(otherwise=Answer(200, after_seconds=0.2)) as receiver:
        with pushing(here, receiver.url) as push:
            announce(here, outputs)
            wait_for(receiver, 5, push)
            push.stop(signal.SIGKILL)
        with pushing(here, receiver.url) as push:
            wait_until(lambda: set(receiver.taken) == {one.body for one in outputs}, 60, push.logged)
            assert push.stop() == 0


def test_ctrl_c_does_not_wait_for_an_unreachable_receiver_and_loses_nothing(here: Site) -> None:
    outputs = announced_alerts(*complaining("ada"))
    with receiving(otherwise=Answer(503)) as receiver:
        with pushing(here, receiver.url) as push:
            announce(here, outputs)
            wait_until(lambda: len(receiver.requests) >= 2, 60, push.logged)
            assert push.stop() == 0
        assert here.read("undelivered") == []
        receiver.otherwise = Answer(200)
        with pushing(here, receiver.url) as push:
            wait_for(receiver, 1, push)
            assert push.stop() == 0
    assert receiver.taken == [outputs[0].body]


def test_with_a_budget_the_most_urgent_alerts_are_sent_and_then_their_changes(here: Site, tmp_path: Path) -> None:
    policy = tmp_path / "one-a-day.toml"
    text = (Path(models.__file__).parent / "policies" / "annual-spend.toml").read_text()
    assert "budget = 40" in text
    policy.write_text(text.replace("budget = 40", "budget = 1"))
    fold, position = Fold(POLICY), 0

    def fold_and_announce(*wires: dict[str, Any], until_ms: int = 0) -> None:
        nonlocal position
        outputs = announced_alerts(*wires, fold=fold, until_ms=until_ms)

        async def to_view() -> None:
            view = RedisView(redis.url)
            updates = [update for one in outputs if (update := update_of(one.topic, one.body)) is not None]
            assert await view.apply("outputs/0", position, position + 1, updates) is None
            await view.redis.aclose()

        asyncio.run(to_view())
        position += 1
        announce(here, outputs)

    with EmbeddedRedis(tmp_path) as redis, receiving() as receiver:
        options = ["--agents", "2", "--every", "200ms", "--policy", str(policy), "--redis-url", redis.url]
        fold_and_announce(*complaining("small", "20"), *complaining("large", "900"), *complaining("middle", "300"))
        with pushing(here, receiver.url, *options) as push:
            wait_for(receiver, 2, push)
            fold_and_announce(until_ms=START_MS + 5 * DAY)
            wait_for(receiver, 4, push)
            assert push.stop() == 0
        with pushing(here, receiver.url, *options) as push:
            assert push.stop() == 0
    # Which alerts the day's budget goes to is decided by urgency; those of one round are sent at the same time.
    assert sorted(changes(receiver.taken)[:2]) == [("large", "opened"), ("middle", "opened")]
    assert sorted(changes(receiver.taken)[2:]) == [("large", "breached"), ("middle", "breached")]


def test_the_documented_receiver_accepts_only_what_is_pushed(here: Site) -> None:
    [source] = re.findall(r"```python\n(import hashlib.*?)```", (ROOT / "docs" / "integrations.md").read_text(), re.S)
    (here.folder / "receiver.py").write_text(source)
    port = free_port()
    log = here.folder / "receiver.log"
    with log.open("wb") as sink:
        receiver = subprocess.Popen(
            [sys.executable, "receiver.py"], cwd=here.folder, stdout=sink, stderr=sink,
            env=os.environ | {"PORT": str(port), "TIERSTREAM_PUSH_SECRET": SECRET},
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}/"
    try:
        outputs = announced_alerts(*complaining("ada"))
        with pushing(here, url) as push:
            announce(here, outputs + outputs)
            wait_until(lambda: "ada opened" in log.read_text(), 60, push.logged)
            assert push.stop() == 0
        with pushing(here, url, TIERSTREAM_PUSH_SECRET="another secret of ours") as push:
            announce(here, announced_alerts(*complaining("bob")))
            wait_until(lambda: "refused after 1 attempts: answered 401" in push.logged(), 60, push.logged)
            assert push.stop() == 0
    finally:
        receiver.terminate()
        receiver.wait(PATIENCE_SECONDS)
    logged = log.read_text()
    assert logged.count("ada opened") == 1
    assert "bob" not in logged


GIVEN = {"TIERSTREAM_PUSH_URL": "https://example.com/alerts", "TIERSTREAM_PUSH_SECRET": SECRET}


@pytest.mark.parametrize(
    ("arguments", "changed", "why"),
    [
        ((), {"TIERSTREAM_PUSH_URL": None}, "TIERSTREAM_PUSH_URL: is not set; give the address"),
        ((), {"TIERSTREAM_PUSH_SECRET": None}, "TIERSTREAM_PUSH_SECRET: is not set; give the secret"),
        ((), {"TIERSTREAM_PUSH_SECRET": "short"}, "TIERSTREAM_PUSH_SECRET: Value should have at least 16"),
        ((), {"TIERSTREAM_PUSH_URL": "example.com/alerts"}, "TIERSTREAM_PUSH_URL: this is no web address"),
        ((), {"TIERSTREAM_PUSH_URL": "http://exa mple\n"}, "TIERSTREAM_PUSH_URL: "),
        ((), {"TIERSTREAM_PUSH_PATIENCE": "long"}, "TIERSTREAM_PUSH_PATIENCE: 'long' is not a duration"),
        (("--change", "open"), {}, "--change open is no change of an alert; they are opened, held"),
        (("--every", "5"), {}, "'5' is not a duration"),
        (("--agents", "2"), {}, "set TIERSTREAM_REDIS_URL"),
        (("--agents", "2", "--change", "breached"), {}, "add --change opened"),
        (("--retry-undelivered", "--agents", "2"), {}, "leave --change and --agents out"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_with_a_reason(
    arguments: tuple[str, ...], changed: dict[str, str | None], why: str
) -> None:
    result = CliRunner().invoke(cli, ["alerts", "push", *arguments], env=GIVEN | changed)
    assert result.exit_code == 2, result.output
    assert why in result.output
    assert SECRET not in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("creates", ["true", "false"])
def test_an_unreachable_broker_is_reported(tmp_path: Path, creates: str) -> None:
    settings = load_settings(broker=f"127.0.0.1:{free_port()}", create_topics=creates == "true")
    status, errors = ended(settings)
    assert (status, f"no Kafka answers at {settings.broker}" in errors) == (1, True), errors


def test_a_missing_topic_is_reported(broker: str) -> None:
    status, errors = ended(load_settings(broker=broker, create_topics=False, topic_prefix="nowhere-"))
    assert (status, "there is no topic nowhere-alerts" in errors) == (1, True), errors


def ended(settings: Settings) -> tuple[int, str]:
    """The exit status of a process that can't start, and its error output."""
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", "alerts", "push"], env=environment(settings, "http://127.0.0.1/"),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr
