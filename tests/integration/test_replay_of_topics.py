"""Replays of a part of the topics, bounded by times or offsets, and replays that continue from a worker's table."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import confluent_kafka
import orjson
import pytest

import models
from models.events import Event
from models.outputs import ANNOUNCEMENTS
from streams.broker.aiokafka_readers import connection_options
from streams.sources.kafka_log import KafkaLog
from streams.sources.kafka_span import parse_kafka_url
from streams.sources.logs import LogError
from streams.workshop.replay.run import replay_logs
from streams.workshop.replay.seed import read_seed
from tests.builders import ms, purchase
from tests.integration.conftest import Broker
from tests.integration.harness import Site, site
from tests.integration.test_worker_equals_replay import (
    POLICY,
    UNTIL,
    bodies_by_customer,
    cdnow_inputs,
    profiles,
    replayed,
)
from tests.test_cli import run

FIRST_MS = ms("2026-01-01")
DAYS = 40


def produce_a_purchase_a_day(here: Site) -> None:
    """Purchase number n has the record timestamp of day n; its `occurred_at` is the same for all."""
    producer = confluent_kafka.Producer({"bootstrap.servers": here.settings.broker, "partitioner": "murmur2_random"})
    for number in range(DAYS):
        wire = purchase(f"c{number % 7}", "1.00", on="1997-01-01", id=f"e{number}")
        body = json.dumps({name: value for name, value in wire.items() if name != "topic"})
        producer.produce(
            here.settings.topic("purchases"),
            key=wire["customer_id"],
            value=body,
            timestamp=FIRST_MS + number * 86_400_000,
        )
    assert producer.flush(30) == 0


def read(here: Site, query: str) -> list[tuple[int, int, int]]:
    """Partition, offset and number of the purchases in a part of the topics."""
    log = KafkaLog(here.settings, parse_kafka_url(f"kafka://{here.settings.broker}?{query}")[1])
    found = []
    for stream in log.streams(models.load(POLICY).decoder(), lambda count: None):
        for record in stream:
            assert isinstance(record.decoded, Event)
            found.append((record.partition, record.offset, int(record.decoded.event_id[1:])))
    return found


@pytest.mark.kafka
def test_a_part_of_the_topics_is_bounded_by_times_or_offsets(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=2) as here:
        produce_a_purchase_a_day(here)
        everything = read(here, "topics=purchases")
        assert sorted(number for *_, number in everything) == list(range(DAYS))
        assert read(here, "topics=complaints,feedback") == []

        between = read(here, "from=2026-01-11&to=2026-01-21T00:00:00Z")
        assert sorted(number for *_, number in between) == list(range(10, 20))
        assert read(here, "from=2027-01-01") == read(here, "to=2025-01-01") == []

        for query, is_included in (
            ("from-offset=3&to-offset=5", lambda partition, offset: 3 <= offset < 5),
            (
                "from-offset=1:2&to-offset=purchases/0:4",
                lambda partition, offset: offset >= 2 if partition else offset < 4,
            ),
            ("to-offset=1000", lambda partition, offset: True),
        ):
            included = [place for place in everything if is_included(*place[:2])]
            assert read(here, query) == included
            assert included


@pytest.mark.kafka
def test_deleted_offsets_are_reported(real_broker: Broker, tmp_path: Path) -> None:
    from kafka.admin import KafkaAdminClient

    with site(real_broker.address, tmp_path, partitions=1) as here:
        produce_a_purchase_a_day(here)
        topic = here.settings.topic("purchases")
        admin = KafkaAdminClient(**connection_options(here.settings))
        from kafka import TopicPartition

        admin.delete_records({TopicPartition(topic, 0): 10})
        admin.close()
        with pytest.raises(LogError, match=r"offset 3 of .*purchases, partition 0 was deleted; the first there is 10"):
            read(here, "from-offset=3")
        assert len(read(here, "from=2026-01-01")) == DAYS - 10


@pytest.mark.kafka
def test_a_replay_seeded_with_a_worker_s_table_announces_exactly_the_rest(
    real_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = cdnow_inputs()
    expected = replayed(inputs, tmp_path)
    half = len(inputs) // 2
    with site(real_broker.address, tmp_path, partitions=3, policy=POLICY, clock="event") as here:
        address = f"kafka://{here.settings.broker}"
        for name, value in here.settings.environment().items():
            monkeypatch.setenv(name, value)
        result = run("replay", address, "--seed", address, "-p", POLICY, "-o", tmp_path / "none")
        assert result.exit_code == 2, result.output
        assert "nothing was folded there yet" in result.output

        here.produce(inputs[:half])
        worker = here.start()
        here.wait_until_drained(half)
        assert worker.stop() == 0
        here.produce(inputs[half:])
        result = run(
            "replay", address, "--seed", address, "-p", POLICY, "--until", UNTIL, "-o", tmp_path / "rest", "--json"
        )
        assert result.exit_code == 0, result.output
        assert json.loads(result.output)["events"] == len(inputs) - half

        assert profiles(tmp_path / "rest" / "profiles.jsonl") == profiles(expected / "profiles.jsonl")
        for topic in ANNOUNCEMENTS:
            announced = Counter(one for bodies in here.by_customer(topic).values() for one in bodies)
            announced.update((tmp_path / "rest" / f"{topic}.jsonl").read_bytes().splitlines())
            assert announced == Counter((expected / f"{topic}.jsonl").read_bytes().splitlines()), topic

        refused = run("replay", address + "?from=2026-01-01", "--seed", address, "-p", POLICY, "-o", tmp_path / "no")
        assert "--seed says where to begin" in refused.output
        refused = run("replay", address, "--seed", address, "-p", "pyramid", "-o", tmp_path / "no")
        assert f"give --policy {models.load(POLICY).ref}" in refused.output


@pytest.mark.kafka
def test_files_continue_from_a_seed_too(real_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [line for line in cdnow_inputs() if isinstance(line[1], dict)]
    expected = replayed(inputs, tmp_path)
    half = len(inputs) // 2
    with site(real_broker.address, tmp_path, partitions=3, policy=POLICY, clock="event") as here:
        for name, value in here.settings.environment().items():
            monkeypatch.setenv(name, value)
        here.produce(inputs[:half])
        worker = here.start()
        here.wait_until_drained(half)
        assert worker.stop() == 0
        rest: list[Any] = [body | {"topic": topic} for topic, body in inputs[half:] if isinstance(body, dict)]
        path = tmp_path / "rest.jsonl"
        path.write_bytes(b"".join(orjson.dumps(wire) + b"\n" for wire in rest))
        seed = read_seed(f"kafka://{here.settings.broker}", models.load(POLICY))
        from streams.sources.logs import LogFile

        replay_logs([LogFile(path)], models.load(POLICY), tmp_path / "rest", ms(UNTIL), progress=False, seed=seed)
        assert profiles(tmp_path / "rest" / "profiles.jsonl") == profiles(expected / "profiles.jsonl")
        assert bodies_by_customer(tmp_path / "rest" / "tier-changes.jsonl")
