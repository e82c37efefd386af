"""`tierstream doctor` on a real Kafka: a healthy installation, and topics with wrong partitions or configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic
from typer.testing import CliRunner

from streams.broker.embedded import EmbeddedRedis
from streams.cli import app
from streams.topics import changelog_topic
from tests.builders import purchase
from tests.integration.conftest import Broker
from tests.integration.harness import Site, site, wait_until


def examine(here: Site, *arguments: str, **settings: str) -> tuple[int, list[dict[str, str]]]:
    """Run the doctor; returns its exit status and its findings."""
    environment = here.settings.environment() | {
        f"TIERSTREAM_{name.upper()}": value for name, value in settings.items()
    }
    done = CliRunner().invoke(app, ["doctor", "--json", *arguments], env=environment)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    findings: list[dict[str, str]] = json.loads(done.output)["findings"]
    return done.exit_code, findings


def problems(findings: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(one["about"], one["what"]) for one in findings if one["status"] == "problem"]


def describe_topics(broker: str) -> dict[str, Any]:
    """The partition count and the configuration of every topic."""
    admin = AdminClient({"bootstrap.servers": broker})
    topics = admin.list_topics(timeout=10).topics
    asked = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, name) for name in topics])
    configs = {one.name: {key: entry.value for key, entry in future.result().items()} for one, future in asked.items()}
    return {name: (len(topic.partitions), configs[name]) for name, topic in topics.items()}


@pytest.mark.kafka
def test_a_healthy_installation_has_no_problems(real_broker: Broker, redis: EmbeddedRedis, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=2, policy="annual-spend", redis_url=redis.url) as here:
        here.produce([("purchases", {k: v for k, v in purchase("ada", 5, on="2026-01-01").items() if k != "topic"})])
        worker = here.start()
        here.wait_until_drained(1)
        status, findings = examine(here, "--worker", f"http://127.0.0.1:{worker.port}")
        assert (status, problems(findings)) == (0, [])
        assert {one["about"] for one in findings if one["status"] == "ok"} >= {
            "policy", "broker", "topics", "configs", "transactions", "group", "redis", "memory", "clock", "worker",
        }  # fmt: skip
        assert {one["about"] for one in findings if one["status"] == "warning"} == {"fit", "replicas"}
        assert worker.stop() == 0


@pytest.mark.kafka
def test_wrong_and_missing_topics_are_named_and_not_changed(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=2) as here:
        admin = AdminClient({"bootstrap.servers": real_broker.address})
        names = [here.settings.topic("journal"), here.settings.topic("feedback"), changelog_topic(here.settings)]
        for deleted in admin.delete_topics(names).values():
            deleted.result()
        # A broker before KRaft goes on deleting for a moment, and until then the names are taken.
        wait_until(
            lambda: not set(names) & set(describe_topics(real_broker.address)), 60, "the deleted topics to be gone"
        )
        wrong = [
            NewTopic(names[1], 3, 1, config={"retention.ms": "604800000"}),
            NewTopic(names[2], 2, 1, config={"cleanup.policy": "delete", "max.message.bytes": "100000"}),
        ]
        for created in admin.create_topics(wrong).values():
            created.result()
        # The broker lists a new topic a moment after it has acknowledged its creation.
        wait_until(
            lambda: set(names[1:]) <= set(describe_topics(real_broker.address)), 60, "the new topics to be listed"
        )
        before = describe_topics(real_broker.address)
        status, findings = examine(here)
        assert describe_topics(real_broker.address) == before
        assert status == 1
        found = {
            (one["about"], one["status"], one["what"].partition(":")[0]) for one in findings if one["status"] != "ok"
        }
        assert found == {
            ("fit", "warning", "the risk score of retail-three-tier@1 was not fitted on your customers but on"),
            ("topics", "warning", "these topics are missing"),
            ("topics", "problem", f"{names[1]} has 3 partitions, but TIERSTREAM_PARTITIONS is 2"),
            ("replicas", "warning", "some partitions have no second replica"),
            ("configs", "warning", names[1]),
            ("configs", "problem", names[2]),
            ("configs", "warning", names[2]),
            ("group", "warning", f"no worker is in the group {here.settings.table_app_id}"),
            ("redis", "warning", "no Redis is configured, so no serving view is kept"),
        }
        texts = "\n".join(f"{one['what']} {one['do']}" for one in findings)
        assert names[0] in texts
        assert "deleted after 7 days" in texts
        assert f"--topic {names[2]} --add-config cleanup.policy=compact" in texts
        assert "max.message.bytes is 100000" in texts
        assert "min.cleanable.dirty.ratio is 0.5 instead of 0.1" in texts


@pytest.mark.kafka
def test_missing_topics_and_too_many_replicas_are_problems(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=2) as here:
        elsewhere = {"topic_prefix": "not-created-", "create_topics": "false", "replication": "9"}
        status, findings = examine(here, **elsewhere)
        assert status == 1
        assert [about for about, _ in problems(findings)] == ["topics", "topics"]
