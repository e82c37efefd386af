"""`tierstream up`: a whole installation by one command, and nothing of it left behind, in whatever phase it ends."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import httpx
import orjson
import pytest
from kafka import KafkaProducer

from tests.builders import ROOT
from tests.integration.harness import wait_until
from tests.local.program import SECONDS, Program, as_in_a_background_job

NEEDS_JAVA = pytest.mark.skipif(
    not (shutil.which("java") and shutil.which("mvn")) and not os.environ.get("CI"), reason="needs Java 17 and Maven"
)
Start = Callable[..., Program]
PURCHASE = {
    "event_id": "e1", "customer_id": "ada", "kind": "purchase", "order_id": "o1", "amount": "5000.00", "currency": "USD",
}  # fmt: skip


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `tierstream up`; whatever a failed test leaves is ended."""
    started: list[Program] = []

    def one(*options: str, **more: Any) -> Program:
        started.append(Program(tmp_path, ["-P", "-m", "streams", "up", *options], **more))
        return started[-1]

    yield one
    for up in started:
        if up.process.poll() is None:
            up.end(signal.SIGTERM)


def next_change(broker: str) -> dict[str, Any]:
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": broker, "group.id": "reader", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["tier-changes"])
    deadline = time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(1)
            if message is not None and message.error() is None:
                found: dict[str, Any] = orjson.loads(message.value())
                return found
    finally:
        consumer.close()
    raise AssertionError("no tier change came")


@pytest.mark.kafka
@NEEDS_JAVA
def test_a_purchase_becomes_a_tier_change_and_the_next_run_goes_on_from_there(start: Start, tmp_path: Path) -> None:
    options = ("--policy", "annual-spend", "--data", str(tmp_path / "kept"))
    up = start(*options, prepare=as_in_a_background_job)
    sign_in = up.wait_for(r"^(http://127\.0\.0\.1:\d+)\nSign in as (\w+) with (\S+)$")
    broker = up.wait_for(r"^Kafka +(127\.0\.0\.1:\d+)$")[1]
    up.wait_for("Ctrl-C ends it all")

    producer = KafkaProducer(bootstrap_servers=broker)
    body = PURCHASE | {"occurred_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    producer.send("purchases", key=b"ada", value=orjson.dumps(body)).get(30)
    producer.close()
    change = next_change(broker)
    assert (change["customer_id"], change["change"]) == ("ada", "upgrade")

    with httpx.Client(base_url=sign_in[1]) as browser:
        origin = {"Origin": sign_in[1]}
        assert (
            browser.post("/signin", data={"name": sign_in[2], "password": "guessed"}, headers=origin).status_code == 401
        )
        answer = browser.post("/signin", data={"name": sign_in[2], "password": sign_in[3]}, headers=origin)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/queue")
        assert change["after"]["tier"] in browser.get("/customers/ada").text

    exported = dict(one.split("=", 1) for one in up.wait_for(r"^  export (.+)$")[1].split())
    digest = subprocess.run(
        [sys.executable, "-m", "streams", "alerts", "digest"], env=os.environ | exported, cwd=ROOT, check=True,
        capture_output=True, timeout=SECONDS,
    )  # fmt: skip
    assert b"Customers at risk" in digest.stdout
    assert len(up.below()) == 4
    assert up.end(signal.SIGINT) == 0

    up = start(*options)
    sign_in = up.wait_for(r"^(http://127\.0\.0\.1:\d+)\nSign in as (\w+) with (\S+)$")
    up.wait_for("Ctrl-C ends it all")
    with httpx.Client(base_url=sign_in[1]) as browser:
        browser.post("/signin", data={"name": sign_in[2], "password": sign_in[3]}, headers={"Origin": sign_in[1]})
        assert change["after"]["tier"] in browser.get("/customers/ada").text
    below = up.below()
    (worker,) = (pid for pid in below if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))
    os.kill(worker, signal.SIGKILL)
    assert up.ended(below) == 1
    assert "tierstream: the worker was ended by SIGKILL; the end of its log:\n" in up.said()


@pytest.mark.kafka
@NEEDS_JAVA
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ended_while_kafka_starts_it_leaves_nothing(start: Start, number: signal.Signals) -> None:
    up = start()
    up.wait_for(r"^Kafka .* starts \.\.\.$")
    wait_until(lambda: bool(up.below()), SECONDS, "Kafka's process")
    assert up.end(number) == 130


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The packages as pip installs them: not in a checkout, which has Kafka in its cache."""
    for package in ("models", "streams"):
        shutil.copytree(ROOT / package, tmp_path / "installed" / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "installed"


def test_ended_while_kafka_is_fetched_it_leaves_nothing(start: Start, tmp_path: Path, installed: Path) -> None:
    fake(tmp_path / "java", """echo 'openjdk version "21.0.1"'""")
    fake(tmp_path / "mvn", "sleep 600")
    up = start(root=installed, PATH=f"{tmp_path}:{os.environ['PATH']}", XDG_CACHE_HOME=str(tmp_path / "cache"))
    up.wait_for("fetching Kafka")
    wait_until(lambda: len(up.below()) == 2, SECONDS, "Maven's processes")
    assert up.end(signal.SIGTERM) == 130
    assert list((tmp_path / "cache").rglob("partial-*")) == []


def test_java_without_maven_is_not_enough_for_the_first_time(start: Start, tmp_path: Path, installed: Path) -> None:
    fake(tmp_path / "java", """echo 'openjdk version "21.0.1"'""")
    up = start(root=installed, PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert up.ended(set()) == 1
    assert re.search(r"tierstream: no mvn found: Kafka [\d.]+ is fetched by Maven, once: apt-get install", up.said())


def test_an_old_java_is_named(start: Start, tmp_path: Path) -> None:
    fake(tmp_path / "java", """echo 'openjdk version "11.0.2"'""")
    up = start(PATH=str(tmp_path))
    assert up.ended(set()) == 1
    assert f"tierstream: {tmp_path}/java is Java 11: too old. Kafka needs Java 17 or newer, and Maven" in up.said()


def fake(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("options", "settings", "says"),
    [
        (["--broker", "127.0.0.1:1"], {}, "no Kafka answers at 127.0.0.1:1; start it, or name none"),
        (["--policy", "none.toml"], {}, "none.toml"),
        (["--data", "/dev/null/x"], {}, "--data /dev/null/x: Not a directory; give a folder that can be written"),
        ([], {"KAFKA_HOME": "/usr"}, "/usr is no Kafka with KRaft: set KAFKA_HOME to an unpacked Apache Kafka"),
        ([], {"PATH": "/nowhere"}, "no java found. Kafka needs Java 17 or newer, and Maven: apt-get install"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(
    start: Start, options: list[str], settings: dict[str, str], says: str
) -> None:
    up = start(*options, **settings)
    assert up.ended(set()) in (1, 2)
    assert says in up.said()
    assert "Traceback" not in up.said()


def test_a_folder_in_use_is_refused(start: Start, tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        up = start("--data", str(tmp_path))
        assert up.ended(set()) == 2
    assert f"--data {tmp_path} is in use by another tierstream up; give another folder" in up.said()
