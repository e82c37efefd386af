"""Requests as spans: told by method and route, with what was sent to the broker for them, and without who it was about."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from litestar.testing import AsyncTestClient

from streams.broker.embedded import EmbeddedRedis
from streams.settings import load_settings
from streams.telemetry.spans import Spans
from streams.telemetry.tracing import CONSOLE
from streams.web.api.fast_lookup import Quick
from streams.web.services import outbox
from streams.web.services.outbox import NotTaken
from streams.web.traced import Traced
from tests.collector import Collector, Told, collecting
from tests.integration.harness import free_port, wait_until
from tests.web.conftest import Store
from tests.web.people import cheap_hashes, hire, sign_in, token_of

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
) -> Callable[[Work], list[Told]]:
    """Has a client of a traced console do something, and gives the spans that came of it."""
    cheap_hashes(monkeypatch)
    hire(tmp_path, AGENT, "agent")
    store.customer(CUSTOMER)

    def run(work: Work, **settings: Any) -> list[Told]:
        async def connected() -> None:
            spans = Spans(load_settings(tracing_endpoint=collector.endpoint), CONSOLE)
            app: Any = Traced(Quick(make_app(spans=spans, **settings)), spans)
            async with AsyncTestClient(app) as client:
                await work(client)
            spans.close()

        asyncio.run(connected())
        return collector.spans

    return run


class Producer:
    """Acknowledges every record at once, or says why not."""

    def __init__(self, fails: Any = None) -> None:
        self.fails, self.headers = fails, list[list[tuple[str, bytes]]]()

    def produce(self, topic: str, value: bytes, key: bytes, on_delivery: Any, headers: Any = ()) -> None:
        if topic == "commands":
            self.headers.append(list(headers))
        on_delivery(self.fails, SimpleNamespace(partition=lambda: 2, offset=lambda: 41))

    def flush(self, _: float) -> int:
        return 0


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> Producer:
    """In place of the clients of a broker."""
    made = Producer()
    monkeypatch.setattr(outbox.Outbox, "_started", lambda _: made)
    return made


@pytest.mark.usefixtures("producer")
def test_requests_are_told_by_method_and_route_and_nobody_is_named(
    traced: Callable[[Work], list[Told]], key: str, collector: Collector
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

    told = traced(look)
    assert [(one.name, one.attributes["http.response.status_code"]) for one in told] == [
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
    page = told[2]
    assert page.attributes == {
        "http.request.method": "GET", "http.route": "/customers/{reference}", "http.response.status_code": 200,
    }  # fmt: skip
    assert (page.kind, page.resource["service.name"]) == ("SERVER", "tierstream-console")
    assert not any(one.has_failed for one in told)
    for named in (CUSTOMER, "nobody-at-all", AGENT, "tier=gold"):
        assert named.encode() not in collector.everything


async def act(client: Any, **headers: str) -> Any:
    await sign_in(client, AGENT)
    headers |= {"X-CSRF-Token": await token_of(client)}
    return await client.post(f"/customers/{CUSTOMER}/act", json={"action": "contacted"}, headers=headers)


def test_an_act_has_its_delivery_as_a_child_whose_context_goes_with_the_command(
    traced: Callable[[Work], list[Told]], producer: Producer, collector: Collector
) -> None:
    async def work(client: Any) -> None:
        assert (await act(client, traceparent=f"00-{TRACE}-{SPAN}-01")).status_code == 202

    traced(work)
    [request] = collector.named("POST /customers/{reference}/act")
    assert (request.trace_id.hex(), request.parent_id.hex()) == (TRACE, SPAN), "it goes on in the caller's trace"
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


def test_an_act_that_the_broker_did_not_take_is_told_as_one_that_failed(
    traced: Callable[[Work], list[Told]], producer: Producer, collector: Collector
) -> None:
    producer.fails = SimpleNamespace(str=lambda: f"no luck with {CUSTOMER}")

    async def work(client: Any) -> None:
        assert (await act(client)).status_code == 503

    traced(work)
    [request], [deliver] = collector.named("POST /customers/{reference}/act"), collector.named("deliver")
    assert request.has_failed
    assert deliver.has_failed
    assert deliver.attributes["error.type"] == NotTaken.__name__
    assert "messaging.kafka.offset" not in deliver.attributes
    assert CUSTOMER.encode() not in collector.everything


def test_without_tracing_a_command_has_no_headers(
    talking: Any, producer: Producer, store: Store, tmp_path: Path
) -> None:
    hire(tmp_path, AGENT, "agent")
    store.customer(CUSTOMER)

    async def work() -> None:
        async with talking() as client:
            assert (await act(client, traceparent=f"00-{TRACE}-{SPAN}-01")).status_code == 202

    asyncio.run(work())
    assert producer.headers == [[]]


def test_a_console_that_is_stopped_has_sent_what_it_had(
    collector: Collector, server: EmbeddedRedis, tmp_path: Path
) -> None:
    port = free_port()
    told = {
        "PYTHONPATH": str(ROOT),
        "TIERSTREAM_TRACING_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "600000",  # nothing is sent before the end
    }
    command = [sys.executable, "-m", "streams.cli", "console", "--port", str(port), "--redis-url", server.url]
    process = subprocess.Popen(command, cwd=tmp_path, env=os.environ | told)

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/signin", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_until(answers, 60, "the console answers")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert [one.name for one in collector.spans] == ["GET /signin"]
