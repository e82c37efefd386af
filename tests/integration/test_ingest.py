"""Topics of another form on a real Kafka, and the events that `tierstream ingest` makes from them."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka
import orjson
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

import models
from models import units
from models.outputs import ANNOUNCEMENTS
from streams.sources.file_rows import json_rows
from streams.sources.mapped_log import MappedLog
from streams.sources.mapping import Mapping
from streams.workshop.replay.run import replay_logs
from tests.integration.conftest import Broker
from tests.integration.harness import PATIENT_MS, Site, Worker, free_port, site, start_worker, wait_until
from tests.integration.maven import can_run_java
from tests.integration.registry import running_registry
from tests.integration.test_worker_equals_replay import bodies_by_customer

ORDERS = """
topic = "purchases"
time_format = "epoch-ms"
minor_units = true
[columns]
event_id = "no"
order_id = "no"
customer_id = "buyer.id"
amount = "total.cents"
currency = "total.currency"
occurred_at = "at"
[constants]
kind = "purchase"
[when]
state = { not = ["CANCELLED"] }
"""
START_MS = units.parse_time("2024-01-01")
Record = dict[str, Any] | bytes | None


def orders(count: int, customers: int = 50) -> list[Record]:
    """Orders in the order of time, some cancelled."""
    chance = random.Random(3)
    return [
        {
            "no": f"o{number}", "buyer": {"id": f"c{chance.randrange(customers)}"}, "at": START_MS + number * 3_600_000,
            "total": {"cents": chance.randrange(500, 30_000), "currency": "USD"},
            "state": chance.choice(("PAID", "PAID", "SENT", "CANCELLED")),
        }
        for number in range(count)
    ]  # fmt: skip


def create_source(here: Site, name: str = "shop.orders", partitions: int = 3) -> str:
    """Create a source topic, with another number of partitions than the installation's topics."""
    topic = f"{here.settings.app_id}.{name}"
    admin = AdminClient({"bootstrap.servers": here.settings.broker})
    for created in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
        created.result()
    return topic


def send(here: Site, topic: str, records: Iterable[Record | tuple[bytes, bytes]]) -> None:
    """Produce records with keys that are not the customer's."""
    producer = confluent_kafka.Producer({"bootstrap.servers": here.settings.broker})
    for number, record in enumerate(records):
        value = json.dumps(record).encode() if isinstance(record, dict) else record
        producer.produce(topic, value, f"k{number}")  # type: ignore[arg-type]
        producer.poll(0)
    assert producer.flush(30) == 0


@contextmanager
def ingesting(here: Site, log: Path, *arguments: str) -> Iterator[Worker]:
    """Run `tierstream ingest` as a process, which is killed at the end of the block."""
    port = free_port()
    ingest = start_worker(here.settings, log, command=("ingest", *arguments), TIERSTREAM_INGEST_WEB_PORT=str(port))
    ingest.port = port
    try:
        yield ingest
    finally:
        if ingest.process.poll() is None:
            ingest.process.kill()
        ingest.process.wait()


def is_done(ingest: Worker, records: int | None = None) -> bool:
    stats = ingest.stats()
    done = sum(stats.get(name, 0) for name in ("ingested", "left_out", "tombstone", "refused"))
    return bool(stats.get("ready")) and not any(stats["lag"].values()) and (records is None or done == records)


def write_mapping(folder: Path, text: str = ORDERS, name: str = "orders.toml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def replayed(folder: Path, records: list[Record], mapping: str) -> Path:
    """Replay the same records from a file; returns the folder of the outputs."""
    log = folder / "orders.jsonl"
    log.write_bytes(b"\n".join(json.dumps(one).encode() for one in records if isinstance(one, dict)))
    replay_logs(
        [MappedLog(log, Mapping.named(mapping), json_rows)],
        models.load("annual-spend"),
        folder / "replayed",
        None,
        progress=False,
    )
    return folder / "replayed"


def assert_as_replayed(here: Site, outputs: Path) -> None:
    compared = 0
    for name in ANNOUNCEMENTS:
        expected = bodies_by_customer(outputs / f"{name}.jsonl")
        assert here.by_customer(name) == expected, name
        compared += len(expected)
    assert compared > 20


@pytest.mark.kafka
def test_each_record_is_ingested_once_in_order_though_the_ingest_is_killed_twice(
    real_broker: Broker, tmp_path: Path
) -> None:
    records = orders(6_000)
    broken = [b"no JSON", None, {"no": "x1", "total": {"cents": "?"}, "at": START_MS, "state": "PAID"}]
    with site(
        real_broker.address,
        tmp_path,
        partitions=4,
        clock="event",
        policy="annual-spend",
        max_batch=250,
        max_idle=PATIENT_MS,
    ) as here:
        topic, mapping = create_source(here), write_mapping(tmp_path)
        send(here, topic, records[:4_000])
        for number in range(2):
            with ingesting(here, tmp_path / f"killed-{number}.log", f"{topic}={mapping}") as ingest:
                wait_until(lambda: ingest.stats().get("ingested", 0) > 300, 60, ingest.log_tail)
                ingest.process.kill()
        send(here, topic, [*records[4_000:], *broken])
        with ingesting(here, tmp_path / "last.log", f"{topic}={mapping}") as ingest:
            wait_until(lambda: is_done(ingest), 90, ingest.log_tail)
            assert ingest.metrics()["tierstream_ingest_ready",] == 1
            assert ingest.stop() == 0

        wanted = [one for one in records if one["state"] != "CANCELLED"]  # type: ignore[index,call-overload]
        ingested = [json.loads(message.value()) for message in here.read("purchases")]
        assert sorted(one["event_id"] for one in ingested) == sorted(one["no"] for one in wanted)  # type: ignore[index,call-overload]
        assert_each_customer_in_order(here, topic)
        dead_letters = [dict(message.headers()) for message in here.read("dead-letters")]
        assert sorted(one["reason"] for one in dead_letters) == [b"bad_amount", b"not_json"]
        assert {one["topic"] for one in dead_letters} == {topic.encode()}

        here.start()
        here.wait_until_drained(len(wanted))
        assert_as_replayed(here, replayed(tmp_path, records, mapping))


def assert_each_customer_in_order(here: Site, topic: str) -> None:
    """A customer's records of one source partition are in the same order in the input topic."""
    source = {
        json.loads(message.value())["no"]: (message.partition(), message.offset())
        for message in here.read_topic(topic, 3)
        if (message.value() or b"").startswith(b"{")
    }
    latest: dict[tuple[bytes, int], int] = defaultdict(lambda: -1)
    for message in here.read("purchases"):
        partition, offset = source[json.loads(message.value())["event_id"]]
        assert latest[message.key(), partition] < offset
        latest[message.key(), partition] = offset


@pytest.mark.kafka
def test_a_worker_and_the_ingest_beside_it_stop_together(real_broker: Broker, tmp_path: Path) -> None:
    records = orders(400)
    with site(real_broker.address, tmp_path, partitions=2, clock="event", policy="annual-spend") as here:
        topic, mapping = create_source(here), write_mapping(tmp_path)
        send(here, topic, records)
        port = free_port()
        environment = {"TIERSTREAM_INGEST_SOURCES": f"{topic}={mapping}", "TIERSTREAM_INGEST_WEB_PORT": str(port)}
        worker = here.start(environment=environment)
        wanted = sum(one["state"] != "CANCELLED" for one in records)  # type: ignore[index,call-overload]
        wait_until(lambda: worker.stats().get("events", 0) >= wanted, 90, worker.log_tail)
        here.wait_until_drained(wanted)
        assert_as_replayed(here, replayed(tmp_path, records, mapping))
        beside = Worker(worker.process, port, worker.log)
        assert beside.stats()["ingested"] == wanted
        assert worker.stop() == 0
        assert "stopped: " in worker.log_tail()
        assert beside.page("stats") == (0, {})

        killed = here.start(environment=environment)
        beside.process = killed.process
        wait_until(lambda: beside.page("healthz")[0] == 200, 60, killed.log_tail)
        killed.process.kill()
        wait_until(lambda: beside.page("healthz")[0] == 0, 60, "the ingest to end with its worker")
        killed.process.wait()

        orphaned = here.start(environment=environment)
        wait_until(lambda: beside.page("healthz")[0] == 200, 60, orphaned.log_tail)
        os.kill(child_of(orphaned.process.pid), signal.SIGKILL)
        assert orphaned.process.wait(60) == 1
        assert "the ingest beside it ended" in orphaned.log_tail()


def child_of(pid: int) -> int:
    """The process id of the ingest beside a worker."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next(int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes())


AVRO = {
    "type": "record", "name": "Order", "namespace": "shop",
    "fields": [
        {"name": "no", "type": "string"},
        {"name": "buyer", "type": {"type": "record", "name": "Buyer", "fields": [{"name": "id", "type": "string"}]}},
        {"name": "sum", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["PAID", "SENT", "CANCELLED"]}},
    ],
}  # fmt: skip
PROTO_COMMON = 'syntax = "proto3";\npackage shop;\nmessage Buyer { string id = 1; }\n'
PROTO = """syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "shop/common.proto";
message Envelope {
  message Nothing { int32 x = 1; }
  message Order { string no = 1; Buyer buyer = 2; string sum = 3; google.protobuf.Timestamp at = 4; State state = 5; }
}
enum State { PAID = 0; SENT = 1; CANCELLED = 2; }
"""
TYPED = ORDERS.replace('time_format = "epoch-ms"\nminor_units = true\n', "").replace("total.cents", "sum").replace(
    'currency = "total.currency"\n', ""
).replace("[constants]", '[constants]\ncurrency = "USD"')  # fmt: skip


JSON_SCHEMA = (
    '{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {"no": {"type": "string"}}}'
)


def framed(schema_id: int, payload: bytes, head: bytes = b"") -> bytes:
    return struct.pack(">bI", 0, schema_id) + head + payload


def avro_writer(client: Any, topic: str) -> Callable[[dict[str, Any]], bytes]:
    from datetime import UTC, datetime
    from decimal import Decimal

    import fastavro
    from confluent_kafka.schema_registry import Schema

    schema_id = client.register_schema(f"{topic}-value", Schema(json.dumps(AVRO), "AVRO"))

    def write(one: dict[str, Any]) -> bytes:
        sink = io.BytesIO()
        at = datetime.fromtimestamp(one["at"] / 1000, UTC)
        value = one | {"sum": Decimal(one["total"]["cents"]).scaleb(-2), "at": at}
        fastavro.schemaless_writer(sink, AVRO, value)
        return framed(schema_id, sink.getvalue())

    return write


def protobuf_writer(client: Any, topic: str) -> Callable[[dict[str, Any]], bytes]:
    from confluent_kafka.schema_registry import Schema, SchemaReference
    from google.protobuf import descriptor_pool, message_factory

    from streams.ingest.protobuf import NAME, compile_schema

    client.register_schema("shop-common", Schema(PROTO_COMMON, "PROTOBUF"))
    reference = SchemaReference("shop/common.proto", "shop-common", 1)
    schema_id = client.register_schema(f"{topic}-value", Schema(PROTO, "PROTOBUF", [reference]))
    pool = descriptor_pool.DescriptorPool()
    for file in compile_schema(PROTO, {"shop/common.proto": PROTO_COMMON}).file:
        pool.Add(file)
    order = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Envelope.Order"))
    assert pool.FindFileByName(NAME)

    def write(one: dict[str, Any]) -> bytes:
        message = order(no=one["no"], sum=str(one["total"]["cents"] / 100), state=one["state"])
        message.buyer.id = one["buyer"]["id"]
        message.at.FromMilliseconds(one["at"])
        # The path to the second message within the first: a count and two indexes, 0 and 1, in zigzag form.
        return framed(schema_id, message.SerializeToString(), b"\x04\x00\x02")

    return write


def json_schema_writer(client: Any, topic: str) -> Callable[[dict[str, Any]], bytes]:
    from confluent_kafka.schema_registry import Schema

    schema_id = client.register_schema(f"{topic}-value", Schema(JSON_SCHEMA, "JSON"))

    def write(one: dict[str, Any]) -> bytes:
        value = one | {"sum": one["total"]["cents"] / 100, "at": units.format_time(one["at"])}
        return framed(schema_id, orjson.dumps(value))

    return write


@pytest.mark.timeout(900)  # the registry may have to be fetched
@pytest.mark.kafka
def test_avro_protobuf_and_json_schema_give_the_same_tiers_as_a_file(real_broker: Broker, tmp_path: Path) -> None:
    if not can_run_java():
        pytest.skip("needs Java and Maven for a schema registry")
    from confluent_kafka.schema_registry import SchemaRegistryClient

    records = orders(600)
    with (
        running_registry(tmp_path) as url,
        site(
            real_broker.address, tmp_path, partitions=2, clock="event", policy="annual-spend", max_idle=PATIENT_MS
        ) as here,
        SchemaRegistryClient({"url": url}) as client,
    ):
        # A third of the customers in each form: all records of a customer are in one topic, so they keep their order.
        forms = (avro_writer, protobuf_writer, json_schema_writer)
        topics = [create_source(here, form.__name__, 1) for form in forms]
        mapping = write_mapping(tmp_path, TYPED, "typed.toml")
        for number, (form, topic) in enumerate(zip(forms, topics, strict=True)):
            write = form(client, topic)
            mine = [one for one in records if int(one["buyer"]["id"][1:]) % 3 == number]  # type: ignore[index,call-overload]
            send(here, topic, [write(one) for one in mine])  # type: ignore[arg-type]
        send(here, topics[0], [framed(99_999, b"?"), framed(1, b"\xff")])
        with ingesting(
            here, tmp_path / "ingest.log", *(f"{topic}={mapping}" for topic in topics), "--registry", url
        ) as ingest:
            wait_until(lambda: is_done(ingest, len(records) + 2), 90, ingest.log_tail)
            assert ingest.stop() == 0
        reasons = [dict(message.headers())["reason"] for message in here.read("dead-letters")]
        assert sorted(reasons) == [b"unknown_schema", b"unreadable"]
        here.start()
        here.wait_until_drained(sum(one["state"] != "CANCELLED" for one in records))  # type: ignore[index,call-overload]
        assert_as_replayed(here, replayed(tmp_path, records, write_mapping(tmp_path)))


@pytest.mark.kafka
def test_nothing_is_committed_while_the_registry_is_away(real_broker: Broker, tmp_path: Path) -> None:
    port = free_port()
    with site(real_broker.address, tmp_path, partitions=2) as here:
        topic, mapping = create_source(here, partitions=1), write_mapping(tmp_path)
        [order] = orders(1)
        send(here, topic, [framed(7, json.dumps(order).encode())])
        with ingesting(
            here, tmp_path / "ingest.log", f"{topic}={mapping}", "--registry", f"http://127.0.0.1:{port}"
        ) as ingest:
            wait_until(lambda: "does not answer" in ingest.log_tail(), 60, ingest.log_tail)
            assert ingest.page("readyz")[0] == 503
            assert ingest.stats()["ingested"] == 0
            answer = {"schema": '{"type": "object"}', "schemaType": "JSON"}
            server = [sys.executable, "-c", ONE_SCHEMA, str(port), json.dumps(answer)]
            process = subprocess.Popen(server)
            try:
                wait_until(lambda: is_done(ingest, 1), 60, ingest.log_tail)
            finally:
                process.kill()
                process.wait()
            assert ingest.stats()["ingested"] == 1
        assert [json.loads(message.value())["event_id"] for message in here.read("purchases")] == ["o0"]


ONE_SCHEMA = """
import http.server, sys

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.end_headers()
        self.wfile.write(sys.argv[2].encode())

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answers).serve_forever()
"""
