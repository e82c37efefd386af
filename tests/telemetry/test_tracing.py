"""Spans of a worker: of its batches, without names of customers; their cost without tracing; an unreachable collector."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from faust.types import TP

from models.events import Rejected
from streams.engine.journal import entry_of
from streams.engine.merge import Record
from streams.engine.plan import Plan
from streams.settings import SettingsError, load_settings
from streams.telemetry import spans as spans_module
from streams.telemetry.spans import MOST_LINKS, Spans
from streams.telemetry.stats import STEPS
from streams.telemetry.tracing import open_tracing
from streams.view.customers import RedisView
from streams.view.updates import Update
from streams.worker.delivery import Interrupted
from streams.worker.fetch import Fetch, ReadPosition
from streams.worker.flow import Flow
from streams.worker.inputs import Inputs
from streams.worker.partition import PartitionWorker
from streams.worker.standalone import Standalone
from streams.worker.view_feed import ViewFeed, _Waiting
from tests.builders import Wire, purchase
from tests.collector import Collector, collecting
from tests.receiver import Answer, receiving
from tests.worker.doubles import MemoryDelivery, ReadRecord, folding, standalone

ROOT = Path(__file__).parents[2]
NOBODY = "http://127.0.0.1:1"
"""An address at which no collector listens."""
CUSTOMER = "somebody-with-a-name"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


# ---------------------------------------------------------------- a partition that folds, without a broker
def partition(spans: Spans | None) -> PartitionWorker:
    """The only partition, without customers and at the end of its inputs."""
    context = standalone(max_batch=10_000, clock="event")
    context.spans = spans
    worker = PartitionWorker(context, 0, MemoryDelivery(context.settings))
    worker.delivery.generation = 1
    return folding(worker)


def fail_at(worker: PartitionWorker, step: str, error: BaseException) -> None:
    """Let the next batch fail at a step."""
    assert isinstance(worker.delivery, MemoryDelivery)
    worker.delivery.fails[step] = error


def read_record(one: Wire, offset: int, headers: Any = ()) -> ReadRecord:
    value = json.dumps({name: value for name, value in one.items() if name != "topic"}).encode()
    return ReadRecord(offset, one["customer_id"].encode(), value, 1_900_000_000_000, tuple(headers))


def purchases(first: int, count: int) -> list[ReadRecord]:
    """Records of purchases of `count` customers, from offset `first`."""
    return [
        read_record(purchase(f"{CUSTOMER}-{number}", "600", on=number * 60_000, id=f"p{number}"), number)
        for number in range(first, first + count)
    ]


def command(offset: int, traceparent: str | None) -> ReadRecord:
    body = {
        "customer_id": CUSTOMER, "event_id": f"c{offset}", "command": "act_on_alert", "action": "contacted",
        "actor": "lin", "occurred_at": 60_000 * offset,
    }  # fmt: skip
    return read_record(body, offset, [] if traceparent is None else [("traceparent", traceparent.encode())])


def offer(worker: PartitionWorker, topic: str, records: list[ReadRecord]) -> None:
    """Offer the records of a fetch; afterwards every input has been read to its end."""
    worker.offer(topic, Fetch(worker.inputs.next_offsets[topic], records))
    assert isinstance(worker.context, Standalone)
    for name, tp in worker.inputs.tps.items():
        end = worker.inputs.next_offsets[name]
        worker.context.consumer.positions[tp] = ReadPosition(end, end, end)


def fold(worker: PartitionWorker) -> None:
    """Fold all offered records in one batch."""
    assert worker.flow is not None
    assert asyncio.run(worker.flow.fold_next_batch())
    assert not any(worker.inputs.merge.sizes().values())


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


def tracing(endpoint: str, **settings: Any) -> Spans:
    found = open_tracing(load_settings(tracing_endpoint=endpoint, **settings), "tierstream-tests")
    assert found is not None
    return found


# ---------------------------------------------------------------- a batch
def test_a_batch_is_a_span_with_its_partition_topics_and_offsets(collector: Collector) -> None:
    spans = tracing(collector.endpoint, app_id="loyalty")
    worker = partition(spans)
    offer(worker, "purchases", [*purchases(40, 5), read_record({"customer_id": CUSTOMER}, 45)])
    fold(worker)
    spans.close()

    [batch] = collector.named("batch")
    assert batch.kind == "CONSUMER"
    assert batch.parent_id == b""
    assert batch.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": "loyalty",
        "messaging.destination.partition.id": "0",
        "messaging.batch.message_count": 6,
        "tierstream.batch": 1,
        "tierstream.repeat": False,
        "tierstream.offsets.purchases.first": 40,
        "tierstream.offsets.purchases.last": 45,
        "tierstream.customers.advanced": 0,
        "tierstream.customers.reviewed": 0,
        "tierstream.customers.changed": 5,
        "tierstream.outputs": 5,
        "tierstream.dead_letters": 1,
    }
    assert not batch.has_failed
    assert batch.resource.items() >= {"service.name": "tierstream-tests", "service.namespace": "loyalty"}.items()


def test_the_steps_follow_one_another_within_the_batch_as_in_the_metrics(collector: Collector) -> None:
    spans = tracing(collector.endpoint)
    worker = partition(spans)
    offer(worker, "purchases", purchases(0, 300))
    fold(worker)
    spans.close()

    [batch] = collector.named("batch")
    steps = collector.children(batch)
    assert [one.name for one in steps] == list(STEPS)
    assert {one.trace_id for one in steps} == {batch.trace_id}
    assert steps[0].began_ns == batch.began_ns
    assert all(one.ended_ns == other.began_ns for one, other in pairwise(steps))
    assert steps[-1].ended_ns <= batch.ended_ns
    # The histogram has the same seconds, to the nanosecond.
    counted = {
        sample.labels["step"]: sample.value
        for metric in worker.context.stats.registry.collect()
        for sample in metric.samples
        if sample.name == "tierstream_batch_seconds_sum"
    }
    assert {one.name: one.ended_ns - one.began_ns for one in steps} == {
        step: int(seconds * 1e9) for step, seconds in counted.items()
    }


@pytest.mark.parametrize(("step", "recorded"), [("append_outputs", STEPS[:3]), ("commit", STEPS), ("begin", STEPS[:1])])
def test_a_batch_that_was_given_up_has_spans_up_to_its_last_step(
    collector: Collector, step: str, recorded: tuple[str, ...]
) -> None:
    spans = tracing(collector.endpoint)
    worker = partition(spans)
    offer(worker, "purchases", purchases(0, 2))
    fail_at(worker, step, Interrupted(f"the broker is away, says {CUSTOMER}"))
    with pytest.raises(Interrupted):
        fold(worker)
    spans.close()

    [batch] = collector.named("batch")
    assert batch.has_failed
    assert batch.attributes["error.type"] == "Interrupted"
    assert "tierstream.outputs" not in batch.attributes
    assert [one.name for one in collector.children(batch)] == list(recorded)


def test_no_span_names_a_customer_even_if_an_error_does(collector: Collector) -> None:
    spans = tracing(collector.endpoint)
    worker = partition(spans)
    offer(worker, "purchases", purchases(0, 50))
    fold(worker)
    offer(worker, "purchases", purchases(50, 1))
    fail_at(worker, "append_state", KeyError(f"{CUSTOMER}-7"))
    with pytest.raises(KeyError):
        fold(worker)
    spans.close()
    assert len(collector.named("batch")) == 2
    assert CUSTOMER.encode() not in collector.everything
    assert all(one.events == 0 for one in collector.spans), "an event would have the text of the exception"


def test_a_restored_partition_is_a_span(collector: Collector) -> None:
    spans = tracing(collector.endpoint)
    spans.of_partition(2).record_restoration(1_000, 2.5)
    spans.close()
    [restore] = collector.named("restore")
    assert restore.attributes == {"messaging.destination.partition.id": "2", "tierstream.customers.restored": 1_000}
    assert restore.ended_ns - restore.began_ns == 2_500_000_000


class ViewDouble(RedisView):
    """A view without a Redis, which takes updates or fails with an error."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__("redis://127.0.0.1:1/0")
        self._error = error

    async def apply(self, field: str, before: int, after: int, updates: Iterable[Update]) -> int | None:
        if self._error is not None:
            raise self._error
        return None


@pytest.mark.parametrize("is_redis_away", [False, True], ids=["reachable", "away"])
def test_a_write_to_redis_is_a_span_even_if_redis_can_not_be_reached(collector: Collector, is_redis_away: bool) -> None:
    spans = tracing(collector.endpoint)
    context = standalone()
    context.spans = spans
    feed = ViewFeed(context, ViewDouble(ConnectionError(CUSTOMER) if is_redis_away else None), list)
    tp = TP("tier-changes", 1)
    waiting = _Waiting(updates=[(7, ("tier",)), (8, None), (11, ("risk",))], applied=5)
    if is_redis_away:
        with pytest.raises(ConnectionError):
            asyncio.run(feed._apply(tp, waiting))
    else:
        asyncio.run(feed._apply(tp, waiting))
    spans.close()
    [view] = collector.named("view")
    expected = {
        "db.system.name": "redis",
        "messaging.destination.name": "tier-changes",
        "messaging.destination.partition.id": "1",
        "tierstream.updates": 2,
        "tierstream.offsets.first": 5,
        "tierstream.offsets.last": 11,
    }
    assert view.attributes == (expected | {"error.type": "ConnectionError"} if is_redis_away else expected)
    assert view.has_failed == is_redis_away


# ---------------------------------------------------------------- links
def parent(span: int) -> str:
    return f"00-{TRACE}-{span:016x}-01"


def test_a_batch_is_linked_to_exactly_the_requests_whose_commands_it_folds(collector: Collector) -> None:
    spans = tracing(collector.endpoint)
    worker = partition(spans)
    sent_by = [None, parent(1), "garbage", parent(2)]
    offer(worker, "commands", [command(number, by) for number, by in enumerate(sent_by)])
    # The headers of other topics are not read.
    offer(
        worker,
        "purchases",
        [read_record(purchase(CUSTOMER, 1, on=1, id="p"), 0, [("traceparent", parent(9).encode())])],
    )
    fold(worker)
    offer(worker, "commands", [command(4, parent(3))])
    fold(worker)
    spans.close()
    first, second = collector.named("batch")
    assert first.links == [
        ((1).to_bytes(8, "big"), {"messaging.kafka.offset": 1}),
        ((2).to_bytes(8, "big"), {"messaging.kafka.offset": 3}),
    ]
    assert second.links == [((3).to_bytes(8, "big"), {"messaging.kafka.offset": 4})]


def test_a_batch_of_very_many_commands_has_some_links_and_the_next_none(collector: Collector) -> None:
    spans = tracing(collector.endpoint)
    worker = partition(spans)
    offer(worker, "commands", [command(number, parent(number + 1)) for number in range(3 * MOST_LINKS)])
    fold(worker)
    offer(worker, "commands", [command(3 * MOST_LINKS, None)])
    fold(worker)
    spans.close()
    first, second = collector.named("batch")
    assert len(first.links) == MOST_LINKS
    assert second.links == []


def test_links_wait_until_their_commands_are_folded() -> None:
    spans = tracing(NOBODY)
    mine = spans.of_partition(0)
    mine.remember_senders([command(number, parent(number + 1)) for number in range(4)])
    assert [link.attributes for link in mine._links((0, 1))] == [
        {"messaging.kafka.offset": 0},
        {"messaging.kafka.offset": 1},
    ]
    assert list(mine._senders) == [2, 3]
    assert mine._links(None) == []


# ---------------------------------------------------------------- without tracing
CHECKS: list[type] = []
"""The classes that checked whether the worker is traced, once for each check."""


class CheckedInputs(Inputs):
    def __getattribute__(self, name: str) -> Any:
        if name == "_spans":
            CHECKS.append(Inputs)
        return super().__getattribute__(name)


class CheckedFlow(Flow):
    def __getattribute__(self, name: str) -> Any:
        if name == "_spans":
            CHECKS.append(Flow)
        return super().__getattribute__(name)


def checks(records: int) -> list[type]:
    """The checks during one fetch and one batch of so many records."""
    worker = partition(None)
    worker.inputs.__class__, worker.flow.__class__ = CheckedInputs, CheckedFlow
    CHECKS.clear()
    offer(worker, "purchases", purchases(0, records))
    fold(worker)
    assert worker.context.stats.as_dict()["events"] == records
    return list(CHECKS)


def test_without_tracing_a_worker_checks_once_a_fetch_and_once_a_batch() -> None:
    assert checks(1) == checks(1_000) == [Inputs, Flow]


IMPORTS = """
import sys

class HiddenFromLibraries:
    "Hides OpenTelemetry from Redis' client and Litestar, which import it wherever they find it."
    def find_spec(self, name, path=None, target=None):
        frame = sys._getframe(1)
        while "importlib" in frame.f_globals["__name__"]:
            frame = frame.f_back
        if name.startswith("opentelemetry") and frame.f_globals["__name__"].startswith(("redis.", "litestar.")):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, HiddenFromLibraries())
"""


def python(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("TIERSTREAM_", "OTEL_"))}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=env | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("endpoint", "is_on"), [("", False), (NOBODY, True)], ids=["off", "on"])
def test_without_an_endpoint_nothing_of_opentelemetry_is_imported(endpoint: str, is_on: bool, tmp_path: Path) -> None:
    program = f"""{IMPORTS}
import models
from streams import cli
from streams.worker import app
from streams.worker import run
from streams.settings import load_settings
from streams.telemetry.tracing import open_tracing
from streams.web import app as web, serve
from streams.web.settings import load_console_settings

settings = load_settings(redis_url="redis://127.0.0.1:1/0")
spans = open_tracing(settings, "tierstream-worker")
app.create_app(settings, models.load("annual-spend"), spans)
files = {{name: {str(tmp_path)!r} + "/" + name for name in ("keys_file", "users_file")}}
web.create_app(settings, load_console_settings(**files), spans=spans)
print("opentelemetry" in sys.modules, "streams.telemetry.spans" in sys.modules)
"""
    done = python(program, TIERSTREAM_TRACING_ENDPOINT=endpoint)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(is_on)] * 2


@pytest.mark.parametrize(
    "command", [["worker"], ["console", "--redis-url", "redis://127.0.0.1:1/0"]], ids=lambda c: c[0]
)
def test_without_the_packages_the_error_says_what_to_install(command: list[str]) -> None:
    program = f"""
import sys
sys.modules["opentelemetry"] = None  # as if it was not installed
from streams.cli import main
sys.argv = ["tierstream", *{command!r}]
main()
"""
    done = python(program, TIERSTREAM_TRACING_ENDPOINT=NOBODY)
    assert done.returncode == 2, done.stderr
    assert "pip install 'tierstream[tracing]'" in done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------- settings
@pytest.mark.parametrize("written", ["127.0.0.1:4318", "ftp://collector", "http://"])
def test_an_endpoint_that_is_no_web_address_is_refused_with_an_example(written: str) -> None:
    with pytest.raises(SettingsError, match=r"TIERSTREAM_TRACING_ENDPOINT: .*http://127\.0\.0\.1:4318"):
        load_settings(tracing_endpoint=written)


@pytest.mark.parametrize("ending", ["", "/", "/v1/traces"])
def test_spans_are_sent_to_the_path_of_collectors_with_or_without_it_in_the_setting(
    collector: Collector, ending: str
) -> None:
    spans = tracing(collector.endpoint + ending)
    spans.of_partition(0).record_restoration(1, 1.0)
    spans.close()
    assert [request.path for request in collector.receiver.requests] == ["/v1/traces"]


def test_variables_of_opentelemetry_override_the_defaults(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.namespace=shops")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret")
    spans = tracing(collector.endpoint)
    spans.of_partition(0).record_restoration(1, 1.0)
    spans.close()
    [span] = collector.spans
    assert span.resource.items() >= {
        ("service.name", "ours"), ("service.namespace", "shops"), ("deployment.environment.name", "test"),
    }  # fmt: skip
    assert collector.receiver.requests[0].headers["authorization"] == "Bearer secret"


def test_a_batch_that_is_not_sampled_leaves_nothing_behind(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    spans = tracing(collector.endpoint)
    worker = partition(spans)
    offer(worker, "purchases", purchases(0, 3))
    fold(worker)
    spans.close()
    assert collector.spans == []
    assert worker.context.stats.as_dict()["events"] == 3


def test_a_variable_that_opentelemetry_can_t_use_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with pytest.raises(SettingsError, match=r"max_queue_size must be .*OTEL_"):
        tracing(NOBODY)


# ---------------------------------------------------------------- an unreachable collector
def test_an_unreachable_collector_is_logged_in_one_line_and_delays_nothing(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
    monkeypatch.setattr(spans_module, "CLOSE_SECONDS", 0.5)
    spans = tracing(NOBODY)
    worker = partition(spans)
    for number in range(100):  # of six spans each: many times the size of the queue
        offer(worker, "purchases", purchases(10 * number, 10))
        fold(worker)
    spans.close()
    assert worker.context.stats.as_dict()["events"] == 1_000
    [line] = [one for one in caplog.records if one.name.startswith(("streams.telemetry.spans", "opentelemetry"))]
    assert line.levelno == logging.WARNING
    assert line.getMessage().startswith("tracing: spans that can't be sent are dropped, everything else goes on (")
    assert "\n" not in line.getMessage()
    assert "opentelemetry" not in "".join(capfd.readouterr())


def test_after_a_while_an_unreachable_collector_is_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    complaints = spans_module._Complaints(lambda: now)
    for seconds in (0, 1, 58, 2, 30):
        now += seconds
        complaints.handle(logging.makeLogRecord({"msg": "no luck at %s", "args": (now,)}))
    assert [one.getMessage().partition("(")[2] for one in caplog.records if one.name == "streams.telemetry.spans"] == [
        "no luck at 1000.0)",
        "no luck at 1061.0)",
    ]


def test_a_collector_that_never_answers_does_not_keep_a_process_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans_module, "CLOSE_SECONDS", 0.2)
    with receiving(otherwise=Answer(200, after_seconds=3600)) as receiver:
        spans = tracing(receiver.url)
        spans.of_partition(0).record_restoration(1, 1.0)
        spans.close()
        assert "tracing" in {thread.name for thread in threading.enumerate()}, "it is still being sent"


# ---------------------------------------------------------------- documentation
def test_the_page_on_monitoring_names_every_span_and_attribute() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    section = page.partition("\n## Tracing\n")[2].partition("\n## ")[0]
    source = (ROOT / "streams" / "telemetry" / "spans.py").read_text("utf-8")
    named = set(re.findall(r'"((?:messaging|http|db|tierstream|error)\.[a-z_.]+)"', source))
    assert len(named) > 15
    assert {name for name in named if f"`{name}`" not in section} == set()
    for name in ("batch", *STEPS, "restore", "view", "deliver"):
        assert f"`{name}`" in section
    assert "`tierstream.offsets.<topic>.first`" in section


def test_interleaved_inputs_have_their_first_and_last_offsets() -> None:
    rejected = Rejected("not_json", "")
    records = [
        Record(topic, 0, offset, None, b"", 0, rejected)
        for topic, offset in (
            ("purchases", 5),
            ("purchases", 6),
            ("complaints", 1),
            ("purchases", 9),
            ("complaints", 4),
        )
    ]
    plan = Plan(0, [], [], records)
    assert spans_module._offsets(entry_of(plan, 1, 1, "x@1")) == {"purchases": (5, 9), "complaints": (1, 4)}
