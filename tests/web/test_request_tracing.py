"""Requests as spans: named by method and route, with the records sent to the broker for them, and without any customer."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import AsyncTestClient

from streams.broker.embedded import EmbeddedRedis
from streams.settings import load_settings
from streams.telemetry.spans import Spans
from streams.telemetry.tracing import CONSOLE
from streams.web.api.fast_lookup import FastLookup
from streams.web.request_tracing import RequestTracing
from streams.web.services import record_sender
from streams.web.services.record_sender import NotAcknowledged
from tests.collector import Collector, ReceivedSpan, collecting
from tests.integration.harness import PATIENCE_SECONDS, free_port, wait_until
from tests.web.conftest import Store
from tests.web.doubles import ErrorDouble, ProducerDouble
from tests.web.people import hash_cheaply, hire, sign_in, token_of

ROOT = Path(__file__).parents[2]
CUSTOMER, AGENT = "somebody-with-a-name", "an-agent-of-ours"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
Work = Callable[[Any], Awaitable[Any]]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture
def traced(
    make_app: Any, collector: Collector, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Work], list[ReceivedSpan]]:
    """Runs something with a client of a traced console, and returns the collected spans."""
    hash_cheaply(monkeypatch)
    hire(tmp_path, AGENT, "agent")
    store.customer(CUSTOMER)

    def run(work: Work, **settings: Any) -> list[ReceivedSpan]:
        async def connected() -> None:
            spans = Spans(load_settings(tracing_endpoint=collector.endpoint), CONSOLE)
            app: Any = RequestTracing(FastLookup(make_app(spans=spans, **settings)), spans)
            async with AsyncTestClient(app) as client:
                await work(client)
            spans.close()

        asyncio.run(connected())
        return collector.spans

    return run


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> ProducerDouble:
    """Takes the place of the senders' producers."""
    made = ProducerDouble()
    monkeypatch.setattr(record_sender.RecordSender, "_running_producer", lambda _: made)
    return made


@pytest.mark.usefixtures("producer")
def test_requests_are_named_by_method_and_route_and_no_span_names_anybody(
    traced: Callable[[Work], list[ReceivedSpan]], key: str, collector: Collector
) -> None:
    async def look(client: Any) -> None:
        client.headers["Accept"] = "text/html"
        await sign_in(client, AGENT)
        reading = {"X-API-Key": key}
        for path in (
            "/queue?tier=gold", f"/customers/{CUSTOMER}", "/static/console.css", f"/nowhere/{CUSTOMER}", f"/v1/customers/{CUSTOMER}",
            f"/v1/customers/{CUSTOMER}/nothing", "/v1/customers/nobody-at-all", f"/v1/customers:batch?id={CUSTOMER}",
        ):  # fmt: skip
            await client.get(path, headers=reading)
        await client.request("TICKLE", f"/customers/{CUSTOMER}")

    found = traced(look)
    assert [(one.name, one.attributes["http.response.status_code"]) for one in found] == [
        ("POST /signin", 303),
        ("GET /queue", 200),
        ("GET /customers/{reference}", 200),
        ("GET /static/{file_path}", 200),
        ("GET", 404),
        ("GET /v1/customers/{customer_id}", 200),
        ("GET", 404),
        ("GET /v1/customers/{customer_id}", 404),
        ("GET /v1/customers:batch", 200),
        ("_OTHER", 405),
    ]
    page = found[2]
    assert page.attributes == {
        "http.request.method": "GET", "http.route": "/customers/{reference}", "http.response.status_code": 200,
    }  # fmt: skip
    assert (page.kind, page.resource["service.name"]) == ("SERVER", "tierstream-console")
    assert not any(one.has_failed for one in found)
    for named in (CUSTOMER, "nobody-at-all", AGENT, "tier=gold"):
        assert named.encode() not in collector.everything


async def contact(client: Any, **headers: str) -> Any:
    await sign_in(client, AGENT)
    headers |= {"X-CSRF-Token": await token_of(client)}
    return await client.post(f"/customers/{CUSTOMER}/act", json={"action": "contacted"}, headers=headers)


def test_an_action_has_its_delivery_as_a_child_whose_context_is_sent_along(
    traced: Callable[[Work], list[ReceivedSpan]], producer: ProducerDouble, collector: Collector
) -> None:
    async def work(client: Any) -> None:
        assert (await contact(client, traceparent=f"00-{TRACE}-{SPAN}-01")).status_code == 202

    traced(work)
    [request] = collector.named("POST /customers/{reference}/act")
    assert (request.trace_id.hex(), request.parent_id.hex()) == (TRACE, SPAN), "it continues the caller's trace"
    [deliver] = collector.named("deliver")
    assert deliver.parent_id == request.span_id
    assert deliver.kind == "PRODUCER"
    assert deliver.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.type": "send",
        "messaging.destination.name": "commands",
        "messaging.destination.partition.id": "2",
        "messaging.kafka.offset": 41,
    }
    assert producer.headers == [[("traceparent", f"00-{TRACE}-{deliver.span_id.hex()}-01".encode())]]
    assert CUSTOMER.encode() not in collector.everything


def test_an_action_that_the_broker_did_not_acknowledge_has_failed(
    traced: Callable[[Work], list[ReceivedSpan]], producer: ProducerDouble, collector: Collector
) -> None:
    producer.error = ErrorDouble(f"no luck with {CUSTOMER}")

    async def work(client: Any) -> None:
        assert (await contact(client)).status_code == 503

    traced(work)
    [request], [deliver] = collector.named("POST /customers/{reference}/act"), collector.named("deliver")
    assert request.has_failed
    assert deliver.has_failed
    assert deliver.attributes["error.type"] == NotAcknowledged.__name__
    assert "messaging.kafka.offset" not in deliver.attributes
    assert CUSTOMER.encode() not in collector.everything


def test_without_tracing_a_command_has_no_headers(
    talking: Any, producer: ProducerDouble, store: Store, tmp_path: Path
) -> None:
    hire(tmp_path, AGENT, "agent")
    store.customer(CUSTOMER)

    async def work() -> None:
        async with talking() as client:
            assert (await contact(client, traceparent=f"00-{TRACE}-{SPAN}-01")).status_code == 202

    asyncio.run(work())
    assert producer.headers == [[]]


def test_a_stopped_console_has_sent_its_spans(collector: Collector, server: EmbeddedRedis, tmp_path: Path) -> None:
    port = free_port()
    chosen = {
        "PYTHONPATH": str(ROOT),
        "TIERSTREAM_TRACING_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "600000",  # nothing is sent before the end
    }
    command = [sys.executable, "-m", "streams.cli", "console", "--port", str(port), "--redis-url", server.url]
    process = subprocess.Popen(command, cwd=tmp_path, env=os.environ | chosen)

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/signin", timeout=PATIENCE_SECONDS) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_until(answers, 60, "the console answers")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
    assert [one.name for one in collector.spans] == ["GET /signin"]
