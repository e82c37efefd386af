"""The clients in other languages on a real Kafka: where their records land, and what they make of repeats."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import aiokafka
import confluent_kafka
import kafka
import pytest

from models import load
from models.outputs import TIER_CHANGES
from models.placement import partition_of
from scripts import client_types
from scripts.documents import carried_bodies
from tests.builders import cdnow, erase, purchase, some_customers
from tests.integration.conftest import Broker
from tests.integration.example_clients import LANGUAGES, Commands, build, following, missing
from tests.integration.harness import Site, site
from tests.outputs import all_outputs, bodies, profiles, varied_log
from tests.running import Fold

pytestmark = pytest.mark.kafka

PARTITIONS = 7
"""Not a power of two: then a hash that is cut differently from Java's goes elsewhere."""
CUSTOMERS = [
    *(f"{number:04}" for number in range(90)),
    *(f"customer-{number}@example.org" for number in range(50)),
    *("Zoë", "Ærøskøbing", "李小龍", "مها", "Ελένη", "🦊", "🦊🦊🦊", "né e", "e\u0301"),
    *("x" * length for length in range(1, 20)),
    *(("é" * length)[:64] for length in range(30, 60)),
    *("-", " ", "0", '"', "\\", "a" * 128),
]
Produce = Callable[[str, str, list[bytes]], None]
"""Writes bodies to a broker's topic."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Commands]:
    if lacking := missing():
        assert not os.environ.get("CI"), f"CI needs {', '.join(lacking)}: .ci/run installs them"
        pytest.skip(f"needs {', '.join(lacking)}")
    return {language: build(language, tmp_path_factory.mktemp(language)) for language in LANGUAGES}


@pytest.fixture
def here(real_broker: Broker, tmp_path: Path) -> Iterator[Site]:
    with site(real_broker.address, tmp_path, partitions=PARTITIONS) as created:
        yield created


# ---------------------------------------------------------------- types
@pytest.mark.parametrize("language", ["go", "java"])
def test_bodies_go_through_the_generated_types_without_an_unknown_field_and_without_a_loss(
    language: str, programs: dict[str, Commands]
) -> None:
    policies = [load("annual-spend"), load("pyramid")]
    log = some_customers(varied_log(policies[0]), 60)
    names = {topic: client_types.UNIONS.get(topic) or found[0].__name__ for topic, found in carried_bodies().items()}
    records = [(wire["topic"], {name: value for name, value in wire.items() if name != "topic"}) for wire in log]
    records += [
        (topic, json.loads(value))
        for policy in policies
        for topic, value in all_outputs(policy, log)
        if value != b"null"
    ]
    assert {topic for topic, _ in records} == set(names)
    text = "".join(f"{names[topic]}\t{json.dumps(body)}\n" for topic, body in records)
    done = subprocess.run(
        programs[language]["decode"], input=text, capture_output=True, text=True, timeout=90, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    for (topic, body), again in zip(records, done.stdout.splitlines(), strict=True):
        assert plain(json.loads(again)) == plain(body), topic
    unknown = subprocess.run(
        programs[language]["decode"],
        input='Profile\t{"mood":"fair"}\n',
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert unknown.returncode != 0
    assert "mood" in unknown.stderr


def plain(body: Any) -> Any:
    """A body without what is null or empty, and with times as times: languages write these in ways of their own."""
    if isinstance(body, dict):
        return {name: plain(value) for name, value in body.items() if value not in (None, [])}
    if isinstance(body, list):
        return [plain(value) for value in body]
    if isinstance(body, str) and re.match(r"\d{4}-\d\d-\d\dT", body):
        return datetime.fromisoformat(body)
    return body


# ---------------------------------------------------------------- producers
def by_example(command: list[str]) -> Produce:
    def produce(broker: str, topic: str, values: list[bytes]) -> None:
        done = subprocess.run(
            [*command, broker, topic], input=b"\n".join(values) + b"\n", capture_output=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

    return produce


def by_librdkafka(broker: str, topic: str, values: list[bytes]) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": broker, "partitioner": "murmur2_random"})
    for value in values:
        producer.produce(topic, key=key_of(value), value=value)
    assert producer.flush(30) == 0


def by_kafka_python(broker: str, topic: str, values: list[bytes]) -> None:
    producer = kafka.KafkaProducer(bootstrap_servers=broker)
    for value in values:
        producer.send(topic, key=key_of(value), value=value)
    producer.flush(30)
    producer.close()


def by_aiokafka(broker: str, topic: str, values: list[bytes]) -> None:
    async def produce() -> None:
        async with aiokafka.AIOKafkaProducer(bootstrap_servers=broker) as producer:
            for value in values:
                await producer.send(topic, key=key_of(value), value=value)

    asyncio.run(produce())


def key_of(value: bytes) -> bytes:
    return str(json.loads(value)["customer_id"]).encode()


def test_every_client_places_a_customer_where_java_does_and_the_fold_sees_each_customer_once(
    here: Site, programs: dict[str, Commands]
) -> None:
    assert len(CUSTOMERS) == len(set(CUSTOMERS)) >= 200
    clients = {language: by_example(commands["produce"]) for language, commands in programs.items()}
    clients |= {"librdkafka": by_librdkafka, "kafka-python": by_kafka_python, "aiokafka": by_aiokafka}
    sent = []
    for day, (name, produce) in enumerate(clients.items(), 1):
        wires = [
            purchase(customer, "10.00", on=f"2026-01-0{day}", id=f"{name}-{place}")
            for place, customer in enumerate(CUSTOMERS)
        ]
        values = [
            json.dumps({field: value for field, value in wire.items() if field != "topic"}, ensure_ascii=False).encode()
            for wire in wires
        ]
        produce(here.settings.broker, here.settings.topic("purchases"), values)
        sent += values
    records = here.read("purchases")
    assert sorted(record.value() for record in records) == sorted(sent)
    for record in records:
        assert record.key() == key_of(record.value())
        assert record.partition() == partition_of(record.key(), PARTITIONS), record.key()
    assert len({record.partition() for record in records}) == PARTITIONS
    folds = [Fold(load("annual-spend")) for _ in range(PARTITIONS)]
    for record in records:
        folds[record.partition()].apply({"topic": "purchases", **json.loads(record.value())})
    found = [json.loads(value) for fold in folds for _, value in profiles(fold)]
    assert len(found) == len(CUSTOMERS)
    assert {one["customer_id"]: one["monetary"] for one in found} == dict.fromkeys(CUSTOMERS, f"{len(clients)}0.00")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_line_that_is_no_purchase_ends_a_producer_with_the_reason(
    language: str, programs: dict[str, Commands], here: Site
) -> None:
    command = [*programs[language]["produce"], here.settings.broker, here.settings.topic("purchases")]
    done = subprocess.run(command, input=b"no JSON\n", capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    (said,) = done.stderr.decode().splitlines()
    assert "JSON" in said or "invalid character" in said


# ---------------------------------------------------------------- consumers
@pytest.fixture(scope="module")
def announcements() -> list[bytes]:
    """What a policy announces on tier-changes about a hundred customers, in order of time; one is erased."""
    log = cdnow()
    customers = sorted({wire["customer_id"] for wire in log})[:100]
    fold = Fold(load("annual-spend"))
    for wire in log:
        if wire["customer_id"] in customers:
            fold.apply(wire)
    fold.advance(946_684_800_000)
    fold.apply(erase(customers[0], on="2000-01-02"))
    found = [body for topic, body in bodies(fold.outputs) if topic == TIER_CHANGES]
    assert len(found) > 80
    return sorted(found, key=lambda body: json.loads(body)["occurred_at"])


def announce(here: Site, values: list[bytes], *, is_committed: bool = True) -> None:
    """Write announcements in one transaction."""
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": here.settings.broker,
            "partitioner": "murmur2_random",
            "transactional.id": here.settings.app_id,
        }
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    for value in values:
        producer.produce(here.settings.topic(TIER_CHANGES), key=key_of(value), value=value)
    producer.flush(30)
    if is_committed:
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)


def lines(values: list[bytes]) -> dict[str, list[str]]:
    """What the examples print, by customer: their order is that of a customer only."""
    found = []
    for value in values:
        change: dict[str, Any] = json.loads(value)
        start = f"{change['customer_id']} {change['seq']}"
        if change["after"] is None:
            found.append(f"{start} is to be forgotten")
        else:
            found.append(f"{start} {change['change']} {change['before']['tier']} -> {change['after']['tier']}")
    return by_customer(found)


def by_customer(printed: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for line in printed:
        found[line.partition(" ")[0]].append(line)
    return dict(found)


def with_fields(value: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(value) | fields).encode()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_consumer_prints_each_announcement_once_over_repeats_aborts_and_a_restart(
    language: str, programs: dict[str, Commands], here: Site, announcements: list[bytes], tmp_path: Path
) -> None:
    half = len(announcements) // 2
    first, second = announcements[:half], announcements[half:]
    command = [*programs[language]["follow"], here.settings.broker, "app", here.settings.topic(TIER_CHANGES)]
    command[-2] = f"{here.settings.app_id}-{language}"
    announce(here, first[:30])
    announce(here, first[:30])  # a batch that a crash interrupted, once more
    announce(here, [with_fields(one, change="aborted", seq=900) for one in first], is_committed=False)
    announce(here, [with_fields(one, mood="fair") for one in first[30:]])  # a field of a later version
    with following(command, tmp_path / "first") as program:
        program.wait_for(len(first))
        announce(here, first[-10:])
        announce(here, second[:1])
        program.wait_for(len(first) + 1)
        assert program.interrupt() in (0, 130)
        assert program.complaints == []
        assert by_customer(program.printed) == lines([*first, second[0]])
    announce(here, [*first[10:], second[0]])
    missed = with_fields(first[-1], seq=1_000, previous_seq=999)
    announce(here, [*second[1:], missed])
    with following(command, tmp_path / "second") as program:
        program.wait_for(len(second))
        assert program.interrupt() in (0, 130)
        assert by_customer(program.printed) == lines([*second[1:], missed])
        (complaint,) = program.complaints
        assert "999 are missing" in complaint
    assert json.loads(second[-1])["after"] is None, "an erasure is among them"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_position_that_the_topic_does_not_have_is_told_with_its_numbers(
    language: str, programs: dict[str, Commands], here: Site
) -> None:
    topic, group = here.settings.topic(TIER_CHANGES), f"{here.settings.app_id}-{language}"
    consumer = confluent_kafka.Consumer({"bootstrap.servers": here.settings.broker, "group.id": group})
    offsets = [confluent_kafka.TopicPartition(topic, number, 77) for number in range(PARTITIONS)]
    consumer.commit(offsets=offsets, asynchronous=False)
    consumer.close()
    command = [*programs[language]["follow"], here.settings.broker, group, topic]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    (said,) = done.stderr.splitlines()
    assert topic in said
    assert "is to be read from 77, but has 0 to 0" in said
