"""What a running worker does besides folding: dead letters, readiness, clocks, an outage of Redis, topics that do not
fit the settings.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import confluent_kafka
import orjson
import pytest

from models import units
from models.events import REASONS
from streams.broker.aiokafka_readers import connection_options
from streams.broker.embedded import EmbeddedRedis
from streams.broker.topic_creation import TopicsError, create_topics
from streams.settings import load_settings
from streams.topics import INPUTS, changelog_topic, topics_of
from streams.view.customers import RedisView
from tests.builders import FROM_LIVE_SOURCES
from tests.chaos.proxy import Proxy
from tests.integration.conftest import Broker
from tests.integration.harness import Site, free_port, site, start_worker, wait_until

FAST_POLICY = """
id = "fast"
version = 1
title = "A tier that is lost two seconds after the last purchase"
currency = "CNY"
[window]
length = "30d"
[[tiers]]
name = "fresh"
min_orders = 1
max_recency = "2s"
[downgrade]
grace = "1s"
[risk]
fitted_on = "nothing"
r = 0.5
alpha_weeks = 6.0
a = 0.9
b = 1.6
[[risk.levels]]
name = "high"
raise_at = 0.999
ease_below = 0.99
[risk.complaints]
severity = { low = 0.2, medium = 0.5, high = 0.9, critical = 1.4 }
status = { opened = 1.0, escalated = 1.4, resolved = 0.35, reopened = 1.4 }
"""


def purchase(number: int, customer_id: str = "ada", at: str = "2026-01-01T00:00:00Z", **changed: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}", "customer_id": customer_id, "kind": "purchase", "order_id": f"o{number}",
        "amount": "12.50", "currency": "CNY", "occurred_at": at,
    } | changed  # fmt: skip


def unusable_records() -> dict[str, tuple[str, bytes, str | None]]:
    """By reason code: topic, value and key of a record that is rejected for it."""
    good = purchase(1)
    command = {"event_id": "c", "customer_id": "ada", "occurred_at": "2026-01-01T00:00:00Z"}
    bad: dict[str, tuple[str, Any, str | None]] = {
        "not_json": ("purchases", b'{"event_id"', None),
        "not_an_object": ("purchases", b"[1, 2]", None),
        "too_large": ("purchases", good | {"channel": "x" * 70_000}, None),
        "missing_field": ("purchases", {name: value for name, value in good.items() if name != "order_id"}, None),
        "wrong_type": ("purchases", good | {"order_id": 7}, None),
        "unknown_value": ("purchases", good | {"kind": "gift"}, None),
        "bad_id": ("purchases", good | {"order_id": "x" * 129}, None),
        "key_mismatch": ("purchases", good, "grace"),
        "bad_amount": ("purchases", good | {"amount": "twelve"}, None),
        "amount_out_of_range": ("purchases", good | {"amount": "-1"}, None),
        "too_many_decimals": ("purchases", good | {"amount": "1.005"}, None),
        "unknown_currency": ("purchases", good | {"currency": "DEM"}, None),
        "score_out_of_range": ("feedback", {"event_id": "f", "customer_id": "ada", "score": 101, "kind": "csat", "occurred_at": 1}, None),
        "bad_time": ("purchases", good | {"occurred_at": "2026-01-01"}, None),
        "time_in_future": ("purchases", good | {"occurred_at": "2099-01-01T00:00:00Z"}, None),
        "unknown_tier": ("commands", command | {"command": "lock_tier", "tier": "diamond", "reason": "because"}, None),
        "reason_required": ("commands", command | {"command": "lock_tier", "tier": "mass"}, None),
        "bad_edition": (
            "commands",
            command | {"customer_id": "*", "command": "use_edition", "edition": 7, "breakpoints": {"as_of_ms": 1, "customers": 1}},
            "*",
        ),
        "too_late": ("purchases", good | {"event_id": "late", "occurred_at": "2024-01-01T00:00:00Z"}, None),
    }  # fmt: skip
    return {
        code: (topic, body if isinstance(body, bytes) else json.dumps(body).encode(), key)
        for code, (topic, body, key) in bad.items()
    }


@pytest.mark.kafka
def test_every_reason_code_gives_a_dead_letter_with_original_bytes_and_source(
    real_broker: Broker, tmp_path: Path
) -> None:
    records = unusable_records()
    # With one partition nothing is elsewhere: tests/integration/test_strays.py has that reason.
    assert set(records) == set(REASONS) - FROM_LIVE_SOURCES - {"wrong_partition"}
    with site(real_broker.address, tmp_path, partitions=1, policy="retail-three-tier", clock="event") as here:
        here.produce([("purchases", purchase(0, at="2026-02-01T00:00:00Z"))])
        here.produce(
            [(topic, value) for topic, value, _ in records.values()], [key or "ada" for *_, key in records.values()]
        )
        worker = here.start()
        here.wait_until_drained(1 + len(records))
        dead_letters = here.read("dead-letters")
        by_reason = {dict(one.headers())["reason"].decode(): one for one in dead_letters}
        assert set(by_reason) == set(records)
        assert len(dead_letters) == len(records)
        offsets = dict.fromkeys(INPUTS, 0) | {"purchases": 1}
        for code, (topic, value, key) in records.items():
            headers = {name: header.decode() for name, header in by_reason[code].headers()}
            assert by_reason[code].value() == value
            assert by_reason[code].key().decode() == (key or "ada")
            assert (headers["topic"], headers["partition"], headers["offset"]) == (topic, "0", str(offsets[topic]))
            assert headers["detail"]
            offsets[topic] += 1
        assert worker.stats()["dead_letters"] == dict.fromkeys(sorted(records), 1)
        assert set(here.latest("profiles")) == {"ada"}


@pytest.mark.kafka
def test_redis_being_down_does_not_stop_the_stream_and_the_view_catches_up(real_broker: Broker, tmp_path: Path) -> None:
    socket = tmp_path / "later.sock"
    with site(real_broker.address, tmp_path, partitions=2, clock="event", redis_url=f"unix://{socket}") as here:
        here.produce([("purchases", purchase(number, f"c{number % 7}")) for number in range(100)])
        worker = here.start()
        wait_until(
            lambda: worker.stats().get("events") == 100 and worker.stats()["profiles"] >= 7,
            60,
            "all records to be folded without Redis",
        )
        assert not worker.stats()["drained"]
        with EmbeddedRedis(tmp_path) as server:
            socket.symlink_to(server.url.removeprefix("unix://"))
            here.wait_until_drained(100)

            async def look() -> list[Any]:
                view = RedisView(server.url)
                found = [await view.customer(f"c{number}") for number in range(7)]
                await view.redis.aclose()
                return found

            found = asyncio.run(look())
            assert {one["customer_id"]: orjson.dumps(one["profile"]) for one in found} == here.latest("profiles")
            assert worker.stop() == 0


@pytest.mark.kafka
def test_a_redis_that_lost_its_data_is_filled_again_from_the_topics(
    real_broker: Broker, redis: EmbeddedRedis, tmp_path: Path
) -> None:
    async def flush_and_count(flush: bool) -> int:
        view = RedisView(redis.url)
        if flush:
            await view.redis.flushall()
        count = len(await view.members("none"))
        await view.redis.aclose()
        return count

    with site(real_broker.address, tmp_path, partitions=2, clock="event", redis_url=redis.url) as here:
        here.produce([("purchases", purchase(number, f"c{number % 7}")) for number in range(50)])
        worker = here.start()
        here.wait_until_drained(50)
        assert asyncio.run(flush_and_count(True)) == 0
        here.produce([("purchases", purchase(1_000 + number, f"c{number % 7}")) for number in range(50)])
        wait_until(lambda: asyncio.run(flush_and_count(False)) == 7, 30, "Redis to be filled while the worker runs")
        assert worker.stop() == 0
        assert asyncio.run(flush_and_count(True)) == 0
        here.start()
        wait_until(lambda: asyncio.run(flush_and_count(False)) == 7, 60, "Redis to be filled after a restart")


@pytest.mark.kafka
def test_a_crossing_by_time_alone_is_announced_at_its_instant_by_the_wall_clock(
    real_broker: Broker, tmp_path: Path
) -> None:
    policy = tmp_path / "fast.toml"
    policy.write_text(FAST_POLICY)
    with site(real_broker.address, tmp_path, partitions=1, policy=str(policy), clock="wall") as here:
        worker = here.start()
        wait_until(lambda: worker.page("readyz")[0] == 200, 60, "ready")
        bought_ms = time.time_ns() // 1_000_000
        here.produce([("purchases", purchase(1, at=units.format_time(bought_ms)))])
        wait_until(lambda: len(here.read("tier-changes")) >= 3, 30, "upgrade, notice and downgrade")
        changes = [orjson.loads(one.value()) for one in here.read("tier-changes")]
        assert [one["change"] for one in changes] == ["upgrade", "downgrade_scheduled", "downgrade"]
        instants = [units.parse_time(one["occurred_at"]) - bought_ms for one in changes]
        assert instants == [0, 2_001, 3_001]
        assert [one["cause"] for one in changes] == ["e1", "clock", "clock"]
        for message, change in zip(here.read("tier-changes"), changes, strict=True):
            headers = {name: header.decode() for name, header in message.headers()}
            assert headers == {
                "ce_specversion": "1.0",
                "ce_id": change["id"],
                "ce_source": "tierstream",
                "ce_type": f"io.tierstream.tier-changes.{change['change']}",
                "ce_subject": "ada",
                "ce_time": change["occurred_at"],
                "content-type": "application/json",
            }


@pytest.mark.kafka
def test_after_downtime_no_alert_is_announced_that_an_unread_purchase_disproves(
    real_broker: Broker, tmp_path: Path
) -> None:
    policy = tmp_path / "fast.toml"
    policy.write_text(FAST_POLICY)
    with site(real_broker.address, tmp_path, partitions=1, policy=str(policy), clock="wall") as here:
        first = here.start()
        wait_until(lambda: first.page("readyz")[0] == 200, 60, "ready")
        bought_ms = time.time_ns() // 1_000_000
        here.produce([("purchases", purchase(0, at=units.format_time(bought_ms)))])
        wait_until(lambda: first.stats()["events"] == 1, 30, "the purchase is folded")
        assert first.stop() == 0
        # While no worker runs, ada buys once a second; every crossing is in the past by the wall clock before a worker
        # reads on.
        until_ms = bought_ms + 6_000
        here.produce([("purchases", purchase(n, at=units.format_time(bought_ms + n * 1_000))) for n in range(1, 7)])
        wait_until(lambda: time.time_ns() // 1_000_000 > until_ms, 30, "the last purchase's time")
        here.start()
        wait_until(lambda: len(here.read("tier-changes")) >= 3, 60, "the crossings after the last purchase")
        changes = [orjson.loads(one.value()) for one in here.read("tier-changes")]
        instants = [(one["change"], units.parse_time(one["occurred_at"]) - bought_ms) for one in changes]
        assert instants == [("upgrade", 0), ("downgrade_scheduled", 8_001), ("downgrade", 9_001)]


@pytest.mark.kafka
def test_a_worker_is_alive_before_it_is_ready_and_ready_once_it_has_caught_up(
    real_broker: Broker, tmp_path: Path
) -> None:
    with site(real_broker.address, tmp_path, partitions=1, clock="event") as here:
        here.produce([("purchases", purchase(number, f"c{number % 50}")) for number in range(3_000)])
        worker = here.start()
        wait_until(lambda: worker.page("healthz")[0] == 200, 60, "alive")
        seen = []

        def ready() -> bool:
            status, _ = worker.page("readyz")
            seen.append((status, worker.stats().get("events")))
            return status == 200

        wait_until(ready, 60, "ready")
        assert seen[0][0] == 503
        assert seen[-1][1] == 3_000


@pytest.mark.kafka
def test_topics_are_created_with_one_partition_count_and_right_compaction(
    real_broker: Broker,
) -> None:
    from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

    name = f"topics-{time.time_ns()}"
    settings = load_settings(broker=real_broker.address, topic_prefix=f"{name}-", app_id=name, partitions=3)
    assert len(create_topics(settings, topics_of(settings))) == len(topics_of(settings))
    assert create_topics(settings, topics_of(settings)) == []
    admin = KafkaAdminClient(**connection_options(settings))
    try:
        described = admin.describe_topics([topic.name for topic in topics_of(settings)])
        assert {len(one["partitions"]) for one in described} == {3}
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in topics_of(settings)]
        configs = str(admin.describe_configs(resources))
        assert configs.count("compact") >= 2
    finally:
        admin.close()
    other = load_settings(broker=real_broker.address, topic_prefix=f"{name}-", app_id=name, partitions=4)
    with pytest.raises(TopicsError, match="has 3 partitions, but TIERSTREAM_PARTITIONS is 4"):
        create_topics(other, topics_of(other))


@pytest.mark.kafka
def test_topics_are_created_once_the_broker_is_up_and_until_then_somebody_is_told(
    real_broker: Broker, tmp_path: Path
) -> None:
    name = f"patience-{time.time_ns()}"
    with Proxy(free_port()) as not_yet:
        settings = load_settings(broker=not_yet.address, topic_prefix=f"{name}-", app_id=name)
        creating = start_worker(settings, tmp_path / "log", command=("topics", "create"))
        waiting = f"waiting for Kafka at {not_yet.address}, 60 s at the most\n"
        wait_until(lambda: creating.log_tail() == waiting, 30, "the line that says so")
        not_yet.target_port = int(real_broker.address.rpartition(":")[2])
        assert creating.process.wait(60) == 0, creating.log_tail()
    assert [line.split() for line in creating.log_tail().removeprefix(waiting).splitlines()] == [
        ["created", topic.name] for topic in topics_of(settings)
    ]


def test_without_a_broker_creating_topics_ends_after_its_patience() -> None:
    settings, told = load_settings(broker=f"127.0.0.1:{free_port()}"), list[str]()
    with pytest.raises(TopicsError, match=f"no Kafka answers at {settings.broker}"):
        create_topics(settings, topics_of(settings), patience_seconds=3, on_wait=told.append)
    assert told == [f"waiting for Kafka at {settings.broker}, 3 s at the most"]


@pytest.mark.kafka
def test_a_table_made_under_another_policy_is_refused_with_what_to_do(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=1, clock="event", policy="retail-three-tier") as here:
        here.produce([("purchases", purchase(1))])
        assert_stops_well(here)
        second = here.start(policy="annual-spend")
        assert second.process.wait(60) == 1
        assert "made under policy retail-three-tier@1" in second.log_tail()
        assert "TIERSTREAM_APP_VERSION" in second.log_tail()


@pytest.mark.kafka
def test_a_table_whose_changelog_was_deleted_is_refused_instead_of_losing_its_events(
    real_broker: Broker, tmp_path: Path
) -> None:
    from kafka.admin import KafkaAdminClient

    with site(real_broker.address, tmp_path, partitions=1, clock="event") as here:
        here.produce([("purchases", purchase(1))])
        assert_stops_well(here)
        admin = KafkaAdminClient(**connection_options(here.settings))
        admin.delete_topics([changelog_topic(here.settings)])
        wait_until(lambda: changelog_topic(here.settings) not in admin.list_topics(), 30, "the changelog to be deleted")
        admin.close()
        here.produce([("purchases", purchase(2))])
        worker = here.start()
        assert worker.process.wait(60) == 1
        assert "offsets are committed up to 1, but the table's changelog goes only up to 0" in worker.log_tail()
        assert "TIERSTREAM_APP_VERSION" in worker.log_tail()


@pytest.mark.kafka
def test_a_stop_publishes_the_remaining_profiles(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=1, clock="event", profile_interval="1h") as here:
        here.produce([("purchases", purchase(number, f"c{number}")) for number in range(5)])
        worker = here.start()
        wait_until(lambda: worker.stats().get("events") == 5, 60, "folded")
        assert here.latest("profiles") == {}
        assert worker.stop() == 0
        assert len(here.latest("profiles")) == 5


def assert_stops_well(here: Site) -> None:
    """Run a worker until it is drained, and stop it; it has to exit with status 0."""
    worker = here.start()
    here.wait_until_drained(1)
    assert worker.stop() == 0


def test_without_a_broker_the_worker_says_what_to_do(tmp_path: Path) -> None:
    here = Site(load_settings(broker=f"127.0.0.1:{free_port()}"), tmp_path)
    worker = here.start()
    assert worker.process.wait(60) == 1
    assert "no Kafka answers" in worker.log_tail()
    assert "scripts/kafka up" in worker.log_tail()
    assert "Traceback" not in worker.log_tail()


@pytest.mark.kafka
def test_records_are_read_whatever_compression_their_producer_used(real_broker: Broker, tmp_path: Path) -> None:
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")
    with site(real_broker.address, tmp_path, partitions=1, clock="event") as here:
        for number, codec in enumerate(codecs):
            producer = confluent_kafka.Producer({"bootstrap.servers": here.settings.broker, "compression.type": codec})
            for one in range(50):
                body = purchase(100 * number + one, codec)
                producer.produce(here.settings.topic("purchases"), json.dumps(body).encode(), codec)
            assert producer.flush(30) == 0
        here.start()
        here.wait_until_drained(50 * len(codecs))
        orders = {key: json.loads(value)["lifetime"]["orders"] for key, value in here.latest("profiles").items()}
        assert orders == dict.fromkeys(codecs, 50)
