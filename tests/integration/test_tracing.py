"""Tracing of a worker and a console on a real Kafka: from a click in the console to the batch that folded the command,
and to Redis.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import AsyncTestClient

from streams.broker.embedded import EmbeddedRedis
from streams.telemetry.stats import STEPS
from streams.telemetry.tracing import CONSOLE, open_tracing
from streams.web.app import create_app
from streams.web.request_tracing import RequestTracing
from streams.web.settings import load_console_settings
from streams.web.signin.people import set_user
from tests.builders import complaint, policy_text, purchase
from tests.collector import ReceivedSpan, collecting
from tests.integration.conftest import Broker
from tests.integration.harness import InputRecord, Site, site, wait_until
from tests.web.people import PASSWORD, sign_in, token_of

CUSTOMERS = [f"somebody-{number:03d}" for number in range(30)]


def inputs() -> list[InputRecord]:
    """All customers buy twice, and the first one complains."""
    wires = [
        purchase(customer_id, 30 + number, on=f"2026-0{month}-01", id=f"{customer_id}-{month}")
        for month in (1, 2)
        for number, customer_id in enumerate(CUSTOMERS)
    ]
    wires.append(complaint(CUSTOMERS[0], on="2026-02-02", severity="critical"))
    return [(one["topic"], {name: value for name, value in one.items() if name != "topic"}) for one in wires]


async def act(here: Site, endpoint: str, folder: Path) -> None:
    """Acknowledge the first customer's alert in a traced console."""
    settings = here.settings.model_copy(update={"tracing_endpoint": endpoint})
    spans = open_tracing(settings, CONSOLE)
    assert spans is not None
    files = load_console_settings(users_file=folder / "users.toml", keys_file=folder / "keys.toml")
    app: Any = RequestTracing(create_app(settings, files, spans=spans), spans)
    async with AsyncTestClient(app) as client:
        client.headers["Accept"] = "text/html"
        await sign_in(client, "lin")
        headers = {"X-CSRF-Token": await token_of(client)}
        answer = await client.post(f"/customers/{CUSTOMERS[0]}/act", json={"action": "acknowledged"}, headers=headers)
        assert answer.status_code == 202, answer.text
    spans.close()


@pytest.mark.kafka
def test_batches_are_found_by_offset_and_linked_to_the_request_that_caused_them(
    real_broker: Broker, redis: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")  # nothing is sent before the end
    set_user(tmp_path / "users.toml", "lin", "agent", PASSWORD)
    policy = tmp_path / "small.toml"
    policy.write_text(policy_text())
    sent = inputs()
    with (
        collecting() as collector,
        site(
            real_broker.address, tmp_path, partitions=1, policy=str(policy), redis_url=redis.url, clock="event"
        ) as here,
    ):  # fmt: skip
        here.produce(sent)
        worker = here.start(tracing_endpoint=collector.endpoint)
        here.wait_until_drained(len(sent))
        asyncio.run(act(here, collector.endpoint, tmp_path))
        here.wait_until_drained(len(sent) + 1)
        assert collector.named("batch") == []
        assert worker.stop() == 0

        batches = collector.named("batch")
        assert sum(one.attributes["messaging.batch.message_count"] for one in batches) == len(sent) + 1
        assert [one.attributes["tierstream.batch"] for one in batches] == list(range(1, len(batches) + 1))
        assert all([step.name for step in collector.children(one)] == list(STEPS) for one in batches)
        assert not any(one.has_failed for one in collector.spans)
        for topic in ("purchases", "complaints", "commands"):
            for message in here.read(topic):
                assert len(found_by(batches, topic, message.offset())) == 1

        [request] = collector.named("POST /customers/{reference}/act")
        [deliver] = collector.children(request)
        offset = deliver.attributes["messaging.kafka.offset"]
        [folded] = found_by(batches, "commands", offset)
        assert folded.links == [(deliver.span_id, {"messaging.kafka.offset": offset})]
        assert {one.resource["service.name"] for one in batches} == {"tierstream-worker"}

        [restore] = collector.named("restore")
        assert restore.ended_ns <= batches[0].began_ns
        announced = len(here.read("tier-changes"))
        updates = [
            one for one in collector.named("view") if "tier-changes" in one.attributes["messaging.destination.name"]
        ]
        assert announced and sum(one.attributes["tierstream.updates"] for one in updates) == announced
        assert b"somebody" not in collector.everything
        assert "tracing:" not in worker.log_tail()


def found_by(batches: list[ReceivedSpan], topic: str, offset: int) -> list[ReceivedSpan]:
    """The batches that have an offset of a topic, found by their attributes."""
    first, last = f"tierstream.offsets.{topic}.first", f"tierstream.offsets.{topic}.last"
    return [one for one in batches if one.attributes.get(first, offset + 1) <= offset <= one.attributes[last]]


@pytest.mark.kafka
def test_a_collector_that_is_away_changes_nothing_but_one_line_in_the_log(
    real_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    policy = tmp_path / "small.toml"
    policy.write_text(policy_text())
    sent = inputs()
    with site(real_broker.address, tmp_path, partitions=1, policy=str(policy), clock="event") as here:
        here.produce(sent)
        worker = here.start(tracing_endpoint="http://127.0.0.1:1")
        here.wait_until_drained(len(sent))
        wait_until(lambda: "tracing:" in worker.log_tail(), 30, "the worker to log that the collector is away")
        assert worker.stop() == 0
        log = worker.log.read_text("utf-8").lower()
        assert log.count("tracing:") == 1
        assert log.count("refused") == 1 and "traceback" not in log
        assert len(here.by_customer("profiles")) == len(CUSTOMERS)
