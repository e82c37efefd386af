"""`tierstream load` on a real Kafka: a worker that it feeds announces what a replay of the same files announces."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import IO

import confluent_kafka
import pytest
from typer.testing import CliRunner

from models.placement import partition_of
from streams.cli import app
from tests.builders import ROOT, complaint, purchase
from tests.integration.conftest import Broker
from tests.integration.harness import PATIENCE_SECONDS, PATIENT_MS, Site, site, wait_until

UNTIL = "2026-06-01T00:00:00Z"
POLICY = "annual-spend"
MAPPING = """
topic = "complaints"
[columns]
event_id = "no"
complaint_id = "no"
customer_id = "who"
severity = "how bad"
occurred_at = "at"
[constants]
status = "opened"
"""


def write_files(folder: Path) -> list[str]:
    """A year of purchases as JSONL and complaints as packed CSV, with a line of each that can't be used."""
    chance = random.Random(16)
    days = sorted(chance.randrange(365) for _ in range(600))
    lines = []
    for number, day in enumerate(days):
        at = f"2025-{1 + day // 31:02}-{1 + day % 28:02}"
        lines.append(purchase(f"c{chance.randrange(60)}", chance.randrange(1, 90), on=at) | {"event_id": f"p{number}"})
    lines.sort(key=lambda one: one["occurred_at"])
    texts = [json.dumps({name: value for name, value in one.items() if name != "topic"}) for one in lines]
    (folder / "purchases.jsonl").write_text("\n".join([*texts[:300], "{", *texts[300:]]) + "\n", "utf-8")
    rows = [f"k{n},c{n},{chance.choice(('high', 'critical'))},2025-{1 + n % 12:02}-15T00:00:00Z" for n in range(24)]
    rows.sort(key=lambda row: row.rpartition(",")[2])
    table = "\n".join(["no,who,how bad,at", *rows, "k99,c1,awful,2025-12-20T00:00:00Z"])
    (folder / "complaints.csv.gz").write_bytes(gzip.compress(table.encode()))
    (folder / "complaints.toml").write_text(MAPPING, "utf-8")
    return [
        str(folder / "purchases.jsonl"), str(folder / "complaints.csv.gz"), "--map", f"*.csv.gz={folder / 'complaints.toml'}",
    ]  # fmt: skip


def run(here: Site, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*arguments], env=here.settings.environment())
    return result.exit_code, result.stdout


def started(here: Site, *arguments: str, typed: int | IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """`tierstream load` as a process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TIERSTREAM_")}
    return subprocess.Popen(
        [sys.executable, "-m", "streams", "load", *arguments],
        env=inherited | here.settings.environment() | {"PYTHONPATH": str(ROOT)},
        stdin=typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def bodies(here: Site, name: str) -> list[str]:
    return [message.value().decode() for message in here.read(name)]


def ids(here: Site, name: str = "purchases") -> list[str]:
    return [json.loads(body)["event_id"] for body in bodies(here, name)]


def end_of(here: Site) -> int:
    """Where the only partition of the purchases ends; to read them to an end that moves would never be done."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": here.settings.broker, "group.id": "r"})
    try:
        place = confluent_kafka.TopicPartition(here.settings.topic("purchases"), 0)
        return int(consumer.get_watermark_offsets(place, timeout=10)[1])
    finally:
        consumer.close()


@pytest.mark.kafka
def test_a_worker_fed_by_load_announces_what_a_replay_does_and_a_second_load_changes_nothing(
    real_broker: Broker, tmp_path: Path
) -> None:
    logs = write_files(tmp_path)
    with site(
        real_broker.address, tmp_path, partitions=3, policy=POLICY, clock="event", until=UNTIL, max_idle=PATIENT_MS
    ) as here:
        status, summary = run(here, "load", *logs, "--json")
        assert status == 1
        loaded = json.loads(summary)
        assert loaded["loaded"] == {"complaints": 24, "purchases": 600}
        assert loaded["refused"] == {"not_json": 1, "unknown_value": 1}
        for name in ("purchases", "complaints"):
            for message in here.read(name):
                assert message.partition() == partition_of(message.key(), 3)
                assert message.key().decode() == json.loads(message.value())["customer_id"]
        here.start()
        here.wait_until_drained(624)
        out = tmp_path / "replayed"
        status, _ = run(here, "replay", *logs, "-p", POLICY, "--until", UNTIL, "-o", str(out), "--json")
        assert status == 0
        for name in ("tier-changes", "churn-risk", "alerts"):
            replayed: dict[str, list[bytes]] = defaultdict(list)
            for line in (out / f"{name}.jsonl").read_bytes().splitlines():
                replayed[json.loads(line)["customer_id"]].append(line)
            assert here.by_customer(name) == replayed
            assert replayed
        announced = {name: bodies(here, name) for name in ("tier-changes", "churn-risk", "alerts", "dead-letters")}
        assert run(here, "load", *logs, "--json")[0] == 1
        here.wait_until_drained(2 * 624)
        assert {name: bodies(here, name) for name in announced} == announced
        assert announced["dead-letters"] == []


@pytest.mark.kafka
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_load_that_is_stopped_says_how_to_go_on_and_then_each_event_is_there_once(
    real_broker: Broker, tmp_path: Path, number: signal.Signals
) -> None:
    [log, *_] = write_files(tmp_path)
    with site(real_broker.address, tmp_path, partitions=1, policy=POLICY, clock="event") as here:
        process = started(here, log, "--rate", "30")
        wait_until(lambda: end_of(here) > 20, 60, "some events")
        process.send_signal(number)
        output, said = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 130
        [skip] = re.findall(r"tierstream: stopped; the same command with --skip (\d+) goes on\n", said.decode())
        count = len(ids(here))
        assert 20 < count < 600
        assert f"loaded {count} events: purchases {count}".encode() in output
        assert int(skip) == count + (count > 300)  # the line that can't be used is the 301st
        status, _ = run(here, "load", log, "--skip", skip)
        assert status == (0 if count > 300 else 1)
        assert sorted(ids(here)) == sorted(f"p{n}" for n in range(600))
        times = [json.loads(body)["occurred_at"] for body in bodies(here, "purchases")]
        assert times == sorted(times)


@pytest.mark.kafka
def test_a_file_is_followed_until_ctrl_c(real_broker: Broker, tmp_path: Path) -> None:
    file = tmp_path / "purchases.jsonl"

    def append(customer_id: str, whole: bool = True) -> None:
        body = purchase(customer_id, 20, on="2026-11-01") | {"event_id": customer_id}
        with file.open("a", encoding="utf-8") as growing:
            growing.write(json.dumps({name: value for name, value in body.items() if name != "topic"}) + "\n" * whole)

    append("first")
    with site(real_broker.address, tmp_path, partitions=1, policy=POLICY) as here:
        process = started(here, str(file), "--follow")
        wait_until(lambda: ids(here) == ["first"], 60, "what was there")
        append("second")
        wait_until(lambda: ids(here) == ["first", "second"], 30, "what was appended")
        file.rename(tmp_path / "purchases.1")
        append("third")
        wait_until(lambda: ids(here) == ["first", "second", "third"], 30, "what is in the new file")
        append("fourth", whole=False)
        process.send_signal(signal.SIGINT)
        output, said = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0
        assert b"loaded 3 events: purchases 3" in output
        assert b"the same command with --skip 1 goes on" in said
        assert len(ids(here)) == 3


@pytest.mark.kafka
def test_what_comes_by_standard_input_is_loaded_as_it_comes(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=1, policy=POLICY) as here:
        process = started(here, "-", "--json", typed=subprocess.PIPE)
        assert process.stdin is not None
        for count in (1, 2):
            for one in (purchase("ada", 20, on="2026-11-01"), complaint("ada", on="2026-11-02", severity="low")):
                process.stdin.write(json.dumps(one | {"event_id": f"e{count}"}).encode() + b"\n")
            process.stdin.flush()
            wait_until(lambda: len(ids(here)) + len(ids(here, "complaints")) == 2 * count, 60, "both lines")  # noqa: B023
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0
        assert json.loads(output)["loaded"] == {"complaints": 2, "purchases": 2}
