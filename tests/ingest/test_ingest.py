"""Records of other topics, of any form, become events; what can't is refused with a reason. No broker is needed."""

from __future__ import annotations

import io
import json
import re
import struct
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from google.protobuf import descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from models.events import REASONS, Rejected
from streams.cli import app as cli
from streams.ingest import group
from streams.ingest.partition_merge import PartitionMerge, Place
from streams.ingest.protobuf import compile_schema, protobuf_reader
from streams.ingest.record_mapping import KeyedEvent, MappedRecord, Source
from streams.ingest.record_rows import Readers, SourceRecord
from streams.ingest.schema_registry import avro_reader
from streams.settings import IngestSettings, RegistrySettings
from streams.sources.mapping import Mapping
from streams.sources.mapping_file import parse_mapping
from tests.integration.harness import ROOT

MAPPING = """
topic = "purchases"
[columns]
customer_id = "who"
order_id = "no"
amount = "sum"
occurred_at = "at"
[constants]
currency = "USD"
kind = "purchase"
"""
ROW = {"who": "ada", "no": "7", "sum": "12.50", "at": "2026-01-31T12:00:00Z"}


def item_of(record: SourceRecord | bytes | None, text: str = MAPPING, readers: Readers = {}) -> MappedRecord:  # noqa: B006
    if not isinstance(record, SourceRecord):
        record = SourceRecord("shop.orders", 2, 17, b"k", record, 1_769_860_800_000, None)
    [item] = Source("shop.orders", Mapping(parse_mapping(text))).items([record], readers)
    for refused in item.refused:
        assert refused.code in REASONS
    return item


def body_of(item: MappedRecord) -> dict[str, Any]:
    assert not item.refused, item.refused
    [made] = item.events
    assert made.key == json.loads(made.value)["customer_id"].encode()
    body: dict[str, Any] = json.loads(made.value)
    return body


def as_json(**fields: Any) -> bytes:
    return json.dumps(ROW | fields).encode()


def framed(payload: bytes, schema_id: int = 1) -> bytes:
    return struct.pack(">bI", 0, schema_id) + payload


# ------------------------------------------------------------ rows and bodies
def test_the_id_of_an_event_without_one_is_made_from_the_place_of_its_record() -> None:
    assert body_of(item_of(as_json()))["event_id"] == "shop.orders/2:17"
    assert item_of(as_json()) == item_of(as_json())


def test_key_timestamp_headers_and_place_are_columns() -> None:
    text = MAPPING.replace('"who"', '"@key"').replace('"at"', '"@timestamp"').replace(
        "[constants]", 'channel = "@header.x.source"\nevent_id = "@offset"\nregion = "@topic"\n[constants]'
    )  # fmt: skip
    headers: Any = [("x.source", b"web"), ("other", None), ("x.source", b"app")]
    body = body_of(item_of(SourceRecord("shop.orders", 2, 17, b"bob", as_json(), 1_769_860_800_250, headers), text))
    assert (body["customer_id"], body["occurred_at"]) == ("bob", "2026-01-31T12:00:00.250Z")
    assert (body["channel"], body["event_id"], body["region"]) == ("app", "17", "shop.orders")


def test_a_key_that_has_fields_is_read_like_a_value() -> None:
    text = MAPPING.replace('"who"', '"@key.customer"')
    record = SourceRecord("shop.orders", 0, 1, b'{"customer": "eve"}', as_json(), None, None)
    assert body_of(item_of(record, text))["customer_id"] == "eve"
    [refused] = item_of(record._replace(key=b"eve"), text).refused
    assert refused.code == "missing_field"


def test_tombstones_and_records_without_a_matching_when_are_counted_as_such() -> None:
    assert item_of(None).outcome == "tombstone"
    assert item_of(as_json(state="open"), MAPPING + '[when]\nstate = "paid"\n').outcome == "left_out"
    assert item_of(as_json()).outcome == "ingested"


def test_a_record_may_be_several_events_some_of_them_refused() -> None:
    text = """
    [[events]]
    topic = "purchases"
    columns = {customer_id = "who", order_id = "no", amount = "sum", occurred_at = "at"}
    constants = {currency = "USD", kind = "purchase"}
    [[events]]
    topic = "feedback"
    columns = {customer_id = "who", score = "stars", occurred_at = "rated"}
    constants = {kind = "csat"}
    when = {stars = {present = true}}
    """
    item = item_of(as_json(stars=80, rated="2026-02-01T00:00:00Z"), text)
    assert [one.topic for one in item.events] == ["purchases", "feedback"]
    assert [json.loads(one.value)["event_id"] for one in item.events] == ["shop.orders/2:17", "shop.orders/2:17:2"]
    item = item_of(as_json(stars=80, rated="yesterday"), text)
    assert [one.topic for one in item.events] == ["purchases"]
    assert [one.code for one in item.refused] == ["bad_time"]
    assert item.outcome == "refused"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"oops", "not_json"),
        (b"", "not_json"),
        (b"[1]", "not_an_object"),
        (as_json(who=""), "missing_field"),
        (as_json(who={"id": 1}), "wrong_type"),
        (as_json(at="31.1.2026"), "bad_time"),
        (as_json(no="x" * 70_000), "too_large"),
    ],
)
def test_what_can_not_be_mapped_or_keyed_is_refused_with_a_reason(value: bytes, code: str) -> None:
    assert [one.code for one in item_of(value).refused] == [code]


def test_unreadable_values_and_unknown_schemas_are_refused() -> None:
    readers: Readers = {
        1: avro_reader('{"type": "record", "name": "A", "fields": [{"name": "who", "type": "string"}]}', [])
    }
    assert [one.code for one in item_of(framed(b"\xff"), readers=readers).refused] == ["unreadable"]
    unknown = Rejected("unknown_schema", "the registry does not know its schema 1")
    assert item_of(framed(b"?"), readers={1: unknown}).refused == [unknown]


def test_a_record_of_the_future_does_not_hold_its_partition_back() -> None:
    assert item_of(as_json(at="2099-01-31T12:00:00Z")).at_ms == -1
    assert item_of(as_json()).at_ms == 1_769_860_800_000


# ------------------------------------------------------------ formats
def test_avro_records_are_read_with_their_logical_types_and_references() -> None:
    money = {"type": "record", "name": "shop.Money", "fields": [
        {"name": "sum", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}]}  # fmt: skip
    order = {"type": "record", "name": "shop.Order", "fields": [
        {"name": "who", "type": ["null", "string"]}, {"name": "no", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "total", "type": "shop.Money"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
    ]}  # fmt: skip
    named: dict[str, Any] = {}
    fastavro.parse_schema(money, named)
    sink = io.BytesIO()
    number = "0b9e0d9a-5f3b-4c8e-9f5c-1d2f3a4b5c6d"
    fastavro.schemaless_writer(
        sink, fastavro.parse_schema(order, named),
        {"who": "ada", "no": number, "total": {"sum": Decimal("12.50")}, "at": datetime(2026, 1, 31, 12, tzinfo=UTC),
         "day": date(2026, 1, 31)},
    )  # fmt: skip
    read = avro_reader(json.dumps(order), [("shop.Money", json.dumps(money))])
    text = MAPPING.replace('"sum"', '"total.sum"')
    body = body_of(item_of(framed(sink.getvalue()), text, {1: read}))
    assert (body["amount"], body["order_id"], body["occurred_at"]) == ("12.50", number, "2026-01-31T12:00:00Z")


PROTO = """
syntax = "proto3";
import "google/protobuf/timestamp.proto";
message Other { message Order { string who = 1; int64 no = 2; string sum = 3; google.protobuf.Timestamp at = 4; bool paid = 5; } }
message Order { string who = 1; string no = 2; string sum = 3; string at = 4; }
"""


@pytest.mark.parametrize(("name", "head"), [("Other.Order", b"\x04\x00\x00"), ("Order", b"\x02\x02")])
def test_protobuf_records_are_read_by_the_message_that_their_head_names(name: str, head: bytes) -> None:
    pool = descriptor_pool.DescriptorPool()
    for file in compile_schema(PROTO, {}).file:
        pool.Add(file)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))(who="ada", sum="12.50")
    if name == "Order":
        message.no, message.at = "7", "2026-01-31T12:00:00Z"
    else:
        message.no = 7
        message.at.FromDatetime(datetime(2026, 1, 31, 12))  # noqa: DTZ001
    value = framed(head + message.SerializeToString())
    # What is false is not sent, and is there all the same.
    text = MAPPING + ('[when]\npaid = "false"\n' if name == "Other.Order" else "")
    body = body_of(item_of(value, text, {1: protobuf_reader(PROTO, {})}))
    assert (body["customer_id"], body["order_id"], body["occurred_at"]) == ("ada", "7", "2026-01-31T12:00:00Z")


def test_the_first_message_of_a_protobuf_schema_is_named_by_a_single_zero() -> None:
    read = protobuf_reader('syntax = "proto3"; message A { string who = 1; }', {})
    assert read(framed(b"\x00\x0a\x03ada")) == {"who": "ada"}


def test_a_protobuf_schema_that_does_not_compile_says_where() -> None:
    with pytest.raises(ValueError, match=r"record\.proto:1"):
        protobuf_reader("message {", {})
    with pytest.raises(ValueError, match="no name of a file"):
        protobuf_reader("", {"../../evil.proto": ""})


# ------------------------------------------------------------ the order
A, B = ("a", 0), ("b", 0)


def items(place: Place, *times: int) -> list[MappedRecord]:
    return [
        MappedRecord(
            SourceRecord(*place, number, None, b"{}", None, None), at_ms, [KeyedEvent("purchases", b"c", b"{}")], []
        )
        for number, at_ms in enumerate(times)
    ]


def times(found: list[MappedRecord]) -> list[int]:
    return [item.at_ms for item in found]


def merge_of(*places: Place) -> PartitionMerge:
    merge = PartitionMerge(5.0)
    merge.restart(list(places))
    return merge


def test_no_event_is_taken_before_an_earlier_one_of_a_partition_that_has_more() -> None:
    merge = merge_of(A, B)
    merge.add(A, items(A, 1, 5, 9))
    assert merge.take(0.0, 100) == []  # b has more records, whose times are not known
    merge.add(B, items(B, 2, 6))
    assert times(merge.take(0.0, 100)) == [1, 2, 5, 6]
    merge.set_at_end(B, True)
    assert times(merge.take(0.0, 100)) == [9]


def test_a_partition_that_delivers_nothing_is_waited_for_for_a_limited_time() -> None:
    merge = merge_of(A, B)
    merge.add(A, items(A, 1, 5))
    assert merge.take(0.0, 100) == []
    assert merge.take(4.9, 100) == []
    assert times(merge.take(5.0, 100)) == [1, 5]


def test_a_partition_that_is_far_ahead_is_paused_until_half_of_it_is_taken() -> None:
    merge = merge_of(A, B)
    merge.add(A, items(A, *range(60_000)))
    assert merge.partitions_to_pause(set()) == {A}
    merge.set_at_end(B, True)
    merge.set_at_end(A, True)
    merge.take(0.0, 20_000)
    assert merge.partitions_to_pause({A}) == {A}
    assert merge.partitions_to_pause(set()) == set()
    merge.take(0.0, 20_000)
    assert merge.partitions_to_pause({A}) == set()


@given(st.dictionaries(st.integers(0, 3), st.lists(st.integers(0, 20)), max_size=4), st.integers(1, 7))
def test_all_records_are_taken_in_the_end_each_partition_in_its_own_order(
    given: dict[int, list[int]], most: int
) -> None:
    sent = {("t", number): items(("t", number), *sorted(times)) for number, times in given.items()}
    merge = merge_of(*sent)
    for place, some in sent.items():
        merge.add(place, some)
        merge.set_at_end(place, True)
    taken: list[MappedRecord] = []
    while found := merge.take(0.0, most):
        assert len(found) <= most
        taken += found
    assert times(taken) == sorted(times(taken))
    for place, some in sent.items():
        assert [item for item in taken if (item.record.topic, item.record.partition) == place] == some
    assert all(merge.is_drained(place) for place in sent)


# ------------------------------------------------------------ the command
def refused(*arguments: str, status: int = 2, **environment: str) -> str:
    answer = CliRunner().invoke(cli, ["ingest", *arguments], env=environment)
    assert answer.exit_code == status, answer.output
    assert "Traceback" not in answer.output
    return answer.output


def test_a_mistake_in_the_sources_is_reported_with_what_to_do(tmp_path: Path) -> None:
    mapping = tmp_path / "orders.toml"
    mapping.write_text(MAPPING)
    assert "no source is given" in refused()
    assert "write TOPIC=FILE" in refused(str(mapping))
    assert "shop.orders is given twice" in refused(f"shop.orders={mapping}", f"shop.orders={mapping}")
    assert "the ingest would read what it writes" in refused(f"purchases={mapping}")
    assert "No such file" in refused("shop.orders=nowhere.toml")
    assert "join_rows is for files" in refused("shop.orders=online-retail")
    assert "TIERSTREAM_INGEST_SINCE" in refused(f"shop.orders={mapping}", "--from", "yesterday")
    assert "TIERSTREAM_REGISTRY_URL" in refused(f"shop.orders={mapping}", "--registry", "registry:8081")
    both = refused(f"shop.orders={mapping}", TIERSTREAM_REGISTRY_USERNAME="ada")
    assert "username and password belong together" in both
    nobody = refused(f"shop.orders={mapping}", "--broker", "127.0.0.1:1", "--check", "1", status=1)
    assert "no Kafka answers at 127.0.0.1:1" in nobody


def test_without_the_registry_s_libraries_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fastavro", None)
    (tmp_path / "orders.toml").write_text(MAPPING)
    said = refused(f"shop.orders={tmp_path / 'orders.toml'}", "--registry", "http://127.0.0.1:1", "--check", "1")
    assert "pip install 'tierstream[registry]'" in said


def test_a_worker_s_map_is_refused_like_the_command_s(tmp_path: Path) -> None:
    answer = CliRunner().invoke(cli, ["worker", "--map", "orders.toml"], env={"TIERSTREAM_CREATE_TOPICS": "false"})
    assert answer.exit_code == 2
    assert "write TOPIC=FILE" in answer.output


def test_the_example_of_the_documentation_works() -> None:
    page = (ROOT / "docs" / "live-sources.md").read_text()
    record = re.search(r"```json\n(.+?)```", page, re.DOTALL)
    mapping = re.search(r"```toml\n(.+?)```", page, re.DOTALL)
    assert record and mapping
    body = body_of(item_of(record[1].encode(), mapping[1]))
    assert body == {
        "event_id": "A-1001", "order_id": "A-1001", "customer_id": "ada", "amount": "312.50", "currency": "USD", "kind": "purchase",
        "occurred_at": "2026-01-31T12:00:00Z",
    }  # fmt: skip
    for name in {*IngestSettings.model_fields, *(f"registry_{one}" for one in RegistrySettings.model_fields)}:
        assert f"_{name.removeprefix('registry_').upper()}`" in page, name


def test_commits_are_repeated_until_the_broker_has_loaded_its_groups() -> None:
    class JustStarted:
        def __init__(self) -> None:
            self.refusals = [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS]
            self.asked = 0

        def committed(self, places: list[Any], timeout: float) -> list[Any]:
            self.asked += 1
            if self.refusals:
                raise KafkaException(KafkaError(self.refusals.pop()))
            return [TopicPartition("shop.orders", 0, 5)]

    consumer = JustStarted()
    group._commit_start_offsets(consumer, [], "beginning")
    assert consumer.asked == 3
