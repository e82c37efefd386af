"""What is restored and when, what transactions hide, and which installations a worker refuses."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka
import confluent_kafka.admin
import orjson
import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

import models
from models.outputs import ANNOUNCEMENTS, TIER_CHANGES
from streams.broker.aiokafka_readers import connection_options
from streams.engine.journal import decode_entry
from streams.sources.kafka_log import KafkaLog
from streams.topics import INPUTS, changelog_topic
from streams.workshop.replay.run import replay_journal
from tests.integration.conftest import Broker
from tests.integration.harness import PATIENCE_SECONDS, InputRecord, Site, site, wait_until
from tests.integration.test_worker import purchase

DELIVERIES = ("exactly-once", "at-least-once")


def shuffled_purchases(count: int, seed: int = 1) -> list[InputRecord]:
    """Purchases of forty customers over two years in random order, so that announcements depend on batches and clock."""
    chance = random.Random(seed)
    days = [chance.randrange(700) for _ in range(count)]
    return [
        ("purchases", purchase(n, f"c{n % 40}", f"{2024 + day // 365}-{day % 365 // 31 + 1:02}-{day % 28 + 1:02}T00:00:00Z",
                               amount=f"{chance.randrange(1, 900)}.00", currency="USD"))
        for n, day in enumerate(days)
    ]  # fmt: skip


def announced(here: Site) -> dict[str, dict[str, list[bytes]]]:
    """The announcements by topic and customer, without repeats (the same bytes)."""
    return {
        topic: {customer: list(dict.fromkeys(bodies)) for customer, bodies in here.by_customer(topic).items()}
        for topic in ANNOUNCEMENTS
    }


def replayed_by_journal(here: Site, out: Path) -> dict[str, dict[str, list[bytes]]]:
    """What the replay of inputs and journal announces."""
    replay_journal(KafkaLog(here.settings), models.load(here.settings.policy), out, progress=False)
    topics = ANNOUNCEMENTS
    found: dict[str, dict[str, list[bytes]]] = {topic: defaultdict(list) for topic in topics}
    for topic, by_customer in found.items():
        for line in (out / f"{topic}.jsonl").read_bytes().splitlines():
            by_customer[orjson.loads(line)["customer_id"]].append(line)
    return {topic: dict(by_customer) for topic, by_customer in found.items()}


@pytest.mark.kafka
@pytest.mark.parametrize("delivery", DELIVERIES)
def test_the_journal_reproduces_a_killed_worker_s_fold_of_unordered_events(
    delivery: str, real_broker: Broker, tmp_path: Path
) -> None:
    inputs = shuffled_purchases(2_000)
    with site(
        real_broker.address,
        tmp_path,
        partitions=2,
        clock="event",
        max_batch=50,
        policy="annual-spend",
        delivery=delivery,
    ) as here:
        for part in range(4):
            here.produce(inputs[part * 500 : part * 500 + 500])
            # A short session: after its end the next worker gets the partitions.
            worker = here.start(session_timeout=3_000)
            wait_until(lambda worker=worker: worker.stats().get("events", 0) > 100, 60, "folding")  # type: ignore[misc]
            worker.process.kill()
            worker.process.wait()
        here.start()
        here.wait_until_drained(0)
        found = announced(here)
        assert sum(len(bodies) for bodies in found[TIER_CHANGES].values()) > 40
        assert replayed_by_journal(here, tmp_path / "replayed") == found
        latest = [orjson.loads(body) for body in here.latest("profiles").values()]
        too_late = {(one.partition(), dict(one.headers())["offset"]) for one in here.read("dead-letters")}
        assert sum(one["lifetime"]["orders"] for one in latest) + len(too_late) == len(inputs)


@pytest.mark.kafka
def test_a_rebalance_restores_only_moved_partitions_and_frees_their_memory(real_broker: Broker, tmp_path: Path) -> None:
    inputs: list[InputRecord] = [("purchases", purchase(n, f"c{n}")) for n in range(400)]
    with site(real_broker.address, tmp_path, partitions=4, clock="event") as here:
        here.produce(inputs)
        first = here.start()
        here.wait_until_drained(400)
        assert first.stats()["customers"] == 400
        second = here.start()
        wait_until(lambda: second.stats().get("customers", 0) > 0, 60, "the second worker to have partitions")
        wait_until(lambda: first.stats().get("drained", False), 60, "the first worker to be drained")
        restored = [worker.log.read_text().count(": restored ") for worker in (first, second)]
        assert restored == [4, 2]
        assert first.stats()["customers"] + second.stats()["customers"] == 400
        assert second.stop() == 0
        wait_until(lambda: first.stats().get("customers") == 400, 60, "the first worker to have all partitions again")
        assert first.log.read_text().count(": restored ") == 4 + 2
        here.produce([("purchases", purchase(1_000 + n, f"c{n}")) for n in range(400)])
        here.wait_until_drained(800)
        latest = [orjson.loads(body) for body in here.latest("profiles").values()]
        assert {one["lifetime"]["orders"] for one in latest} == {2}


@pytest.mark.kafka
def test_a_worker_suspended_past_its_session_writes_nothing_and_joins_again(
    real_broker: Broker, tmp_path: Path
) -> None:
    for delivery in DELIVERIES:
        with site(real_broker.address, tmp_path, partitions=2, clock="event", delivery=delivery) as here:
            first = here.start()
            here.produce([("purchases", purchase(n, f"c{n % 30}")) for n in range(300)])
            wait_until(lambda first=first: first.stats().get("events") == 300, 60, "folded")  # type: ignore[misc]
            first.process.send_signal(signal.SIGSTOP)
            # The suspended worker has read these, but not folded them.
            here.produce([("purchases", purchase(1_000 + n, f"c{n % 30}")) for n in range(300)])
            second = here.start()
            wait_until(lambda second=second: second.stats().get("events") == 300, 60, "the other worker to take over")  # type: ignore[misc]
            first.process.send_signal(signal.SIGCONT)
            wait_until(
                lambda first=first: first.stats().get("customers", 0) > 0 and first.stats()["ready"], 60, "joined"
            )  # type: ignore[misc]
            here.produce([("purchases", purchase(2_000 + n, f"c{n % 30}")) for n in range(300)])
            wait_until(
                lambda: (
                    sum(one.stats().get("events", 0) for one in here.workers) == 900
                    and all(one.stats().get("drained") for one in here.workers)
                ),
                60,
                lambda: str([one.stats() for one in here.workers]),
            )
            latest = [orjson.loads(body) for body in here.latest("profiles").values()]
            assert [one["lifetime"]["orders"] for one in latest] == [30] * 30
            assert [worker.stop() for worker in here.workers] == [0, 0]


def count_records(here: Site, topic: str, isolation: str) -> int:
    """How many records a consumer with an isolation level sees in partition 0 of a topic."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": here.settings.broker, "group.id": f"see-{time.time_ns()}", "enable.partition.eof": True,
            "isolation.level": isolation,
        }
    )  # fmt: skip
    consumer.assign([confluent_kafka.TopicPartition(here.settings.topic(topic), 0, 0)])
    count = 0
    while True:
        message = consumer.poll(PATIENCE_SECONDS)
        assert message is not None, f"{topic} sent nothing for {PATIENCE_SECONDS} s"
        if message.error() is not None:
            break
        count += 1
    assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, message.error()
    consumer.close()
    return count


@pytest.mark.kafka
def test_outputs_of_a_batch_cut_off_by_a_crash_are_never_read_as_committed(
    real_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site(real_broker.address, tmp_path, partitions=1, clock="event") as here:
        here.produce([("purchases", purchase(n, f"c{n}", amount="90000.00")) for n in range(100)])
        monkeypatch.setenv("CHAOS_KILL", "state:1")
        killed = here.start(module="tests.chaos.worker")
        assert killed.process.wait(60) == -signal.SIGKILL
        monkeypatch.delenv("CHAOS_KILL")
        assert count_records(here, TIER_CHANGES, "read_committed") == 0
        here.start()
        here.wait_until_drained(100)
        assert count_records(here, TIER_CHANGES, "read_committed") == 100
        assert count_records(here, TIER_CHANGES, "read_uncommitted") >= 100


@pytest.mark.kafka
@pytest.mark.parametrize(("died_after", "is_committed"), [("journal", False), ("state", True)])
def test_a_transaction_left_without_an_end_is_ended_by_the_next_owner(
    died_after: str, is_committed: bool, real_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [("purchases", purchase(n, f"c{n}", amount="90000.00")) for n in range(60)]
    with (
        site(real_broker.address, tmp_path, partitions=1, clock="event", max_batch=20) as here,
        without_verification(here),
    ):
        here.produce(inputs)
        monkeypatch.setenv("FORGET_AFTER", f"{died_after}:2")
        killed = here.start(module="tests.integration.forgetful", profile_interval=60_000)
        assert killed.process.wait(60) == -signal.SIGKILL, killed.log_tail()
        assert count_records(here, TIER_CHANGES, "read_uncommitted") == (40 if is_committed else 20)
        here.start()
        here.wait_until_drained(20 if is_committed else 40)
        log = here.workers[-1].log.read_text("utf-8")
        assert f"a batch without an end; it is {'committed' if is_committed else 'aborted'} now" in log
        assert count_records(here, TIER_CHANGES, "read_committed") == 60
        assert replayed_by_journal(here, tmp_path / "replayed") == announced(here)
        assert here.committed_equals_ends(INPUTS)


@pytest.mark.kafka
def test_no_transaction_begins_before_the_last_one_has_ended_everywhere(
    real_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [("purchases", purchase(n, f"c{n}", amount="90000.00")) for n in range(60)]
    with (
        site(real_broker.address, tmp_path, partitions=1, clock="event", max_batch=20) as here,
        without_verification(here),
    ):
        here.produce(inputs)
        monkeypatch.setenv("FORGET_ONLY", "1")
        killed = here.start(module="tests.integration.forgetful", profile_interval=60_000)
        assert killed.process.wait(60) == -signal.SIGKILL, killed.log_tail()
        assert "the broker left a batch without an end; it is committed now" in killed.log_tail()
        here.start()
        here.wait_until_drained(40)
        assert count_records(here, TIER_CHANGES, "read_committed") == 60
        assert replayed_by_journal(here, tmp_path / "replayed") == announced(here)
        assert here.committed_equals_ends(INPUTS)


@contextmanager
def without_verification(here: Site) -> Iterator[None]:
    """Have the broker accept records of a transaction without verifying that the partition is part of it."""
    admin = KafkaAdminClient(**connection_options(here.settings))
    node = str(admin.describe_cluster()["controller_id"])

    def verify(is_enabled: str) -> None:
        configs = {"transaction.partition.verification.enable": is_enabled}
        admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, node, configs=configs)])

    try:
        verify("false")
        yield
    finally:
        verify("true")
        admin.close()


@pytest.mark.kafka
def test_a_stop_finishes_and_commits_the_batch_in_progress(real_broker: Broker, tmp_path: Path) -> None:
    inputs = shuffled_purchases(3_000)
    with site(real_broker.address, tmp_path, partitions=2, clock="event", policy="annual-spend", max_batch=500) as here:
        here.produce(inputs)
        worker = here.start()
        wait_until(lambda: worker.stats().get("events", 0) > 0, 60, "folding")
        assert worker.stop() == 0
        second = here.start()
        here.wait_until_drained(0)
        assert second.stats()["skipped"] == 0
        assert replayed_by_journal(here, tmp_path / "replayed") == announced(here)
        assert here.committed_equals_ends(INPUTS)


@pytest.mark.kafka
def test_a_changelog_record_that_does_not_decode_stops_the_worker_and_says_which(
    real_broker: Broker, tmp_path: Path
) -> None:
    with site(real_broker.address, tmp_path, partitions=1, clock="event") as here:
        producer = confluent_kafka.Producer({"bootstrap.servers": here.settings.broker})
        producer.produce(changelog_topic(here.settings), b"what is this?", b"?")
        producer.flush(10)
        worker = here.start()
        assert worker.process.wait(60) == 1
        assert f"can't be restored at {changelog_topic(here.settings)}, partition 0, offset 0" in worker.log_tail()
        assert "TIERSTREAM_APP_VERSION" in worker.log_tail()
        assert "Traceback" not in worker.log_tail()


@pytest.mark.kafka
def test_inputs_deleted_before_they_were_read_stop_the_worker(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=1, clock="event") as here:
        here.produce([("purchases", purchase(n)) for n in range(10)])
        worker = here.start()
        here.wait_until_drained(10)
        assert worker.stop() == 0
        here.produce([("purchases", purchase(10 + n)) for n in range(10)])
        delete_records(here, here.settings.topic("purchases"), before=15)
        worker = here.start()
        assert worker.process.wait(60) == 1
        assert "records 10 to 14 were deleted before they were read" in worker.log_tail()


def delete_records(here: Site, topic: str, before: int) -> None:
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": here.settings.broker})
    for future in admin.delete_records([confluent_kafka.TopicPartition(topic, 0, before)]).values():
        future.result(30)


@pytest.mark.kafka
def test_a_write_that_the_broker_refuses_stops_the_worker_with_nothing_acknowledged(
    real_broker: Broker, tmp_path: Path
) -> None:
    from kafka.admin import ConfigResource, ConfigResourceType

    for delivery in DELIVERIES:
        with site(real_broker.address, tmp_path, partitions=1, clock="event", delivery=delivery) as here:
            admin = KafkaAdminClient(**connection_options(here.settings))
            topic = changelog_topic(here.settings)
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "100"})])
            here.produce([("purchases", purchase(n)) for n in range(10)])
            worker = here.start()
            assert worker.process.wait(60) == 1
            assert "MessageSizeTooLarge" in worker.log_tail()
            assert "Traceback" not in worker.log_tail()
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "1000000"})])
            admin.close()
            here.start()
            here.wait_until_drained(10)
            assert [orjson.loads(body)["lifetime"]["orders"] for body in here.latest("profiles").values()] == [10]


@pytest.mark.kafka
def test_a_new_app_version_builds_its_own_table_outputs_and_journal_beside_the_old(
    real_broker: Broker, tmp_path: Path
) -> None:
    with site(real_broker.address, tmp_path, partitions=1, clock="event", policy="subscription-like") as here:
        here.produce([("purchases", purchase(n, f"c{n % 5}", amount="90000.00", currency="USD")) for n in range(20)])
        worker = here.start()
        here.wait_until_drained(20)
        before = announced(here)
        assert worker.stop() == 0
        second = here.start(app_version=2, policy="annual-spend")
        wait_until(lambda: second.stats().get("drained", False), 60, lambda: str(second.stats()))
        assert second.stats()["events"] == 20
        assert announced(here) == before, "consumers of the old outputs see nothing twice"
        assert {json.loads(one.value())["policy"] for one in here.read("tier-changes-v2")} == {"annual-spend@1"}
        journal = [decode_entry(one.value(), "journal") for one in here.read("journal-v2")]
        assert {entry.policy for entry in journal} == {"annual-spend@1"}


@pytest.mark.kafka
def test_inputs_move_to_another_partition_count_and_nothing_else_changes(
    real_broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from typer.testing import CliRunner

    from streams.cli import app as cli

    inputs: list[InputRecord] = [
        ("purchases", purchase(n, f"c{n % 60}", f"2026-01-{n // 20 + 1:02}T00:00:00Z", currency="USD"))
        for n in range(500)
    ]
    with site(real_broker.address, tmp_path, partitions=2, clock="event", policy="annual-spend") as here:
        here.produce(inputs)
        worker = here.start()
        here.wait_until_drained(500)
        assert worker.stop() == 0
        prefix = f"wide{time.time_ns()}-"
        environment = os.environ | here.settings.environment()
        run = CliRunner().invoke(
            cli, ["topics", "migrate", "--to-prefix", prefix, "--partitions", "5", "--json"], env=environment
        )
        assert run.exit_code == 0, run.output
        answer = json.loads(run.stdout)
        assert answer["copied"] == dict.fromkeys(INPUTS, 0) | {"purchases": 500}
        again = CliRunner().invoke(
            cli, ["topics", "migrate", "--to-prefix", prefix, "--partitions", "5"], env=environment
        )
        assert again.exit_code == 1
        assert "has records already" in again.output
        moved = Site(
            here.settings.model_copy(update={"topic_prefix": prefix, "partitions": 5, "app_id": answer["app_id"]}),
            tmp_path,
        )
        moved.workers = here.workers
        worker = moved.start(topic_prefix=prefix, partitions=5, app_id=answer["app_id"])
        wait_until(lambda: worker.stats().get("drained", False), 60, lambda: str(worker.stats()))
        assert announced(moved) == announced(here)
        assert worker.stop() == 0


@pytest.mark.kafka
def test_a_spare_worker_without_partitions_is_ready(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=1, clock="event") as here:
        here.produce([("purchases", purchase(1))])
        workers = [here.start(), here.start()]
        for worker in workers:
            wait_until(lambda worker=worker: worker.page("readyz")[0] == 200, 60, "ready")  # type: ignore[misc]
        here.wait_until_drained(1)
        assert sorted(len(worker.page("readyz")[1]["partitions"]) for worker in workers) == [0, 1]


@pytest.mark.kafka
def test_a_worker_leaves_nothing_on_disk(real_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    with site(real_broker.address, tmp_path, partitions=1, clock="event") as here:
        here.produce([("purchases", purchase(1))])
        worker = here.start()
        here.wait_until_drained(1)
        worker.process.kill()
        worker.process.wait()
    assert {path.name for path in tmp_path.iterdir()} == {worker.log.name, "scratch"}
    assert not any(scratch.iterdir())


@pytest.mark.kafka
def test_gaps_in_the_offsets_of_an_output_topic_are_no_loss(real_broker: Broker, redis: Any, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=1, clock="event", max_batch=10, redis_url=redis.url) as here:
        worker = here.start()
        # Each batch is a transaction. Its end takes an offset in every topic that it wrote to.
        for part in range(3):
            here.produce(
                [("purchases", purchase(n, f"c{n}", amount="90000.00")) for n in range(part * 20, part * 20 + 20)]
            )
            here.wait_until_drained(part * 20 + 20)
        offsets = [one.offset() for one in here.read(TIER_CHANGES)]
        assert offsets[-1] - offsets[0] >= len(offsets), "there are gaps"
        assert "has lost" not in worker.log.read_text()
