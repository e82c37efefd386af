"""Producers whose partitioner is not that of Java: their records are carried to where their customers live, or refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import confluent_kafka
import orjson
import pytest

import models
from models.placement import partition_of
from streams.settings import CARRIED
from streams.sources.kafka_log import KafkaLog
from streams.workshop.replay.run import replay_journal
from tests.integration.conftest import Broker
from tests.integration.harness import Site, site, wait_until
from tests.integration.test_rebuild import of_version, run
from tests.integration.test_recovery import announced as announced_by_customer
from tests.integration.test_recovery import replayed_by_journal
from tests.integration.test_worker import purchase

pytestmark = pytest.mark.kafka
CUSTOMERS = [f"customer-{number}" for number in range(40)]


def produce_as(partitioner: str, here: Site, bodies: Iterable[dict[str, Any]]) -> None:
    """Produce with a librdkafka that is told only this; "" leaves it its own default."""
    chosen = {"partitioner": partitioner} if partitioner else {}
    producer = confluent_kafka.Producer({"bootstrap.servers": here.settings.broker} | chosen)
    for body in bodies:
        producer.produce(here.settings.topic("purchases"), json.dumps(body), body["customer_id"])
    assert producer.flush(30) == 0


def purchases(first: int) -> list[dict[str, Any]]:
    return [
        purchase(first + place, customer, f"2026-01-{1 + place % 20:02}T00:00:00Z", amount="120.00", currency="USD")
        for place, customer in enumerate(CUSTOMERS)
    ]


def partitioner_found_by_doctor(here: Site, partitioner: str | None = None) -> dict[str, Any]:
    changed = {} if partitioner is None else {"partitioner": partitioner}
    asked = Site(here.settings.model_copy(update=changed), here.folder)
    found = json.loads(run(asked, "doctor", "--json").stdout)["findings"]
    [of_partitioner] = [one for one in found if one["about"] == "partitioner"]
    return dict(of_partitioner)


def announced(here: Site) -> list[bytes]:
    return sorted(message.value() for message in here.read("tier-changes"))


@pytest.mark.parametrize("partitioner", ["", "fnv1a", "random"], ids=["librdkafka's own", "sarama's", "at random"])
def test_a_customer_of_two_producers_is_one_customer(real_broker: Broker, tmp_path: Path, partitioner: str) -> None:
    with site(real_broker.address, tmp_path, partitions=8, policy="annual-spend", clock="event") as here:
        produce_as("murmur2_random", here, purchases(0))
        worker = here.start()
        here.wait_until_drained(40)
        produce_as(partitioner, here, purchases(1_000))
        here.wait_until_drained(80)
        stats = worker.stats()
        log = worker.log.read_text("utf-8")
        assert worker.stop() == 0

        profiles = {message.key(): message for message in here.read("profiles")}
        assert len(profiles) == stats["customers"] == len(CUSTOMERS)
        for key, message in profiles.items():
            assert message.partition() == partition_of(key, 8)
            assert orjson.loads(message.value())["frequency"] == 2

        strays = [
            message for message in here.read("purchases") if message.partition() != partition_of(message.key(), 8)
        ]
        carried = here.read_topic(here.settings.topic(CARRIED))
        assert len(strays) > 20
        assert stats["carried"] == len(strays)
        assert Counter(message.value() for message in carried) == Counter(message.value() for message in strays)
        assert {message.partition() == partition_of(message.key(), 8) for message in carried} == {True}
        assert "of customers who live in other partitions by murmur2" in log
        assert here.read("dead-letters") == []

        replay_journal(KafkaLog(here.settings), models.load("annual-spend"), tmp_path / "by-journal", False)
        assert sorted((tmp_path / "by-journal" / "tier-changes.jsonl").read_bytes().splitlines()) == announced(here)


def test_strays_that_are_to_be_refused_are_dead_letters(real_broker: Broker, tmp_path: Path) -> None:
    with site(
        real_broker.address, tmp_path, partitions=8, policy="annual-spend", clock="event", strays="refuse"
    ) as here:
        produce_as("", here, purchases(0))
        here.start()
        here.wait_until_drained(40)
        elsewhere = {
            message.offset(): message
            for message in here.read("purchases")
            if message.partition() != partition_of(message.key(), 8)
        }
        letters = here.read("dead-letters")
        assert (
            len(letters)
            == sum(message.partition() != partition_of(message.key(), 8) for message in here.read("purchases"))
            > 20
        )
        assert elsewhere
        headers = dict(letters[0].headers())
        assert headers["reason"] == b"wrong_partition"
        assert b"TIERSTREAM_PARTITIONER" in headers["detail"]
        assert here.read_topic(here.settings.topic(CARRIED)) == []


def test_an_installation_may_follow_another_partitioner(real_broker: Broker, tmp_path: Path) -> None:
    with site(
        real_broker.address, tmp_path, partitions=8, policy="annual-spend", clock="event", partitioner="crc32"
    ) as here:
        produce_as("", here, purchases(0))
        worker = here.start()
        here.wait_until_drained(40)
        assert worker.stats()["carried"] == 0
        assert partitioner_found_by_doctor(here)["status"] == "ok"
        assert worker.stop() == 0
        found = partitioner_found_by_doctor(here, "murmur2")
        assert found["status"] == "warning"
        assert "all are where crc32 puts them. The worker carries them" in found["what"]
        assert "TIERSTREAM_PARTITIONER=crc32" in found["do"]
        other = here.start(partitioner="murmur2")
        assert other.process.wait(60) != 0
        assert "set it to crc32" in other.log_tail().lower()


def test_a_rebuilt_version_has_carried_the_same_strays(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=4, policy="annual-spend", clock="event", max_batch=10) as here:
        produce_as("murmur2_random", here, purchases(0))
        produce_as("", here, purchases(1_000))
        worker = here.start()
        here.wait_until_drained(80)
        assert worker.stop() == 0
        # Some are in the inputs of the old version, and carried by neither.
        produce_as("", here, purchases(2_000))
        done = run(here, "rebuild", "--to-version", "2", "--yes", "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["comparison"]["compared"] == {"equal": 40}
        new = of_version(here, 2)
        assert len(new.read_topic(new.settings.topic(CARRIED))) > 40
        assert len(here.read_topic(here.settings.topic(CARRIED))) == len(new.read_topic(new.settings.topic(CARRIED)))
        assert {orjson.loads(one)["frequency"] for one in new.latest("profiles").values()} == {3}
        assert new.latest("profiles") == here.latest("profiles")


def test_a_version_as_of_an_instant_has_the_strays_that_were_on_their_way(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=4, policy="annual-spend", clock="event", max_batch=5) as here:
        produce_as("", here, purchases(0) + purchases(1_000))
        worker = here.start()
        here.wait_until_drained(80)
        carried = here.read_topic(here.settings.topic(CARRIED))
        stamps = sorted(one.timestamp()[1] for one in carried)
        # The batches with the first half of the strays; some of these were not folded at home by then.
        middle = stamps[len(stamps) // 2]
        instant = datetime.fromtimestamp(middle / 1000, UTC).isoformat(timespec="milliseconds")
        done = run(here, "rebuild", "--as-of", instant, "--to-version", "2", "--yes", "--json")
        assert done.exit_code == 0, done.output
        assert worker.stop() == 0
        new = of_version(here, 2)
        second = new.start(app_version=2)
        wait_until(lambda: second.stats().get("drained", False), 60, lambda: str(second.stats()))
        wait_until(lambda: new.latest("profiles") == here.latest("profiles"), 60, "the same profiles")
        assert {orjson.loads(one)["frequency"] for one in new.latest("profiles").values()} == {2}
        assert second.stop() == 0
        everything = replayed_by_journal(new, tmp_path / "replayed")
        assert {name: {key: set(bodies) for key, bodies in found.items()} for name, found in everything.items()} == {
            name: {key: set(bodies) for key, bodies in found.items()}
            for name, found in announced_by_customer(here).items()
        }
