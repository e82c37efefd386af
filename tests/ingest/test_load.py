"""`tierstream load` as its users meet it, on the embedded broker: what it takes, what it refuses, and what it says."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from typer.testing import CliRunner, Result

from models.events import Event
from models.placement import partition_of
from streams.broker.embedded import EmbeddedBroker
from streams.cli import app
from streams.engine.merge import Record
from streams.ingest.load import DecoderNow, Loader, LoadError
from streams.settings import load_settings
from streams.topics import INPUTS
from tests.builders import DAY, complaint, policy_text, purchase
from tests.running import policy_of

PARTITIONS = 4


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with EmbeddedBroker() as broker:
        yield broker.address


class Installation:
    """Input topics of their own on the embedded broker."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.prefix = f"t{uuid.uuid4().hex[:8]}-"
        producer = Producer({"bootstrap.servers": address})
        for name in INPUTS:
            producer.list_topics(self.prefix + name, timeout=10)  # which creates it

    def load(self, *arguments: str | Path, typed: str | None = None, **settings: Any) -> Result:
        values = {"broker": self.address, "topic_prefix": self.prefix, "policy": "annual-spend"} | settings
        env = {f"TIERSTREAM_{name.upper()}": str(value) for name, value in values.items()}
        return CliRunner().invoke(app, ["load", *map(str, arguments)], env=env, input=typed)

    def read(self, name: str) -> list[tuple[int, bytes, dict[str, Any]]]:
        """Partition, key and body of each record, partition by partition."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "r", "enable.partition.eof": True})
        consumer.assign([TopicPartition(self.prefix + name, number, 0) for number in range(PARTITIONS)])
        found, ended = [], 0
        while ended < PARTITIONS:
            message = consumer.poll(10)
            assert message is not None
            if message.error():
                ended += 1
            else:
                found.append((message.partition(), message.key(), json.loads(message.value())))
        consumer.close()
        return sorted(found, key=lambda one: one[0])


@pytest.fixture
def here(address: str) -> Installation:
    return Installation(address)


def line(customer_id: str, number: int, on: str = "2026-11-01", **changed: Any) -> str:
    body = purchase(customer_id, 10, on=on) | {"event_id": f"{customer_id}-{number}"} | changed
    return json.dumps({name: value for name, value in body.items() if name != "topic"}) + "\n"


def test_events_are_keyed_by_customer_and_keep_each_customer_s_order(here: Installation, tmp_path: Path) -> None:
    log = tmp_path / "purchases.jsonl"
    log.write_text("".join(line(f"c{n % 7}", n) for n in range(200)), "utf-8")
    result = here.load(log)
    assert result.exit_code == 0, result.output
    assert "loaded 200 events: purchases 200; from 2026-11-01T00:00:00Z to 2026-11-01T00:00:00Z" in result.stdout
    read = here.read("purchases")
    for partition, key, body in read:
        assert key == body["customer_id"].encode()
        assert partition == partition_of(key, PARTITIONS)
    for customer in range(7):
        ids = [body["event_id"] for _, key, body in read if key == f"c{customer}".encode()]
        assert ids == [f"c{customer}-{n}" for n in range(customer, 200, 7)]


def test_what_can_t_be_an_event_is_refused_with_file_line_and_status_1_and_the_rest_is_loaded(
    here: Installation, tmp_path: Path
) -> None:
    log = tmp_path / "purchases.jsonl"
    log.write_text(
        line("ada", 1)
        + line("ada", 2, amount="1.234")
        + "not json\n\n"
        + line("ada", 3, currency="DM")
        + line("ada", 4, on="2199-01-01")
        + line("ada", 5, on="2090-01-01")
        + line("ada", 6),
        "utf-8",
    )
    result = here.load(log, "--json")
    assert result.exit_code == 1
    refused = {"too_many_decimals": 1, "not_json": 1, "unknown_currency": 1, "bad_time": 1, "time_in_future": 1}
    summary = json.loads(result.stdout)
    assert (summary["loaded"], summary["refused"], summary["done"]) == ({"purchases": 2}, refused, 7)
    assert re.findall(r"purchases\.jsonl:(\d+): refused, (\w+): \w", result.stderr) == [
        ("2", "too_many_decimals"), ("3", "not_json"), ("5", "unknown_currency"), ("6", "bad_time"), ("7", "time_in_future"),
    ]  # fmt: skip
    assert [body["event_id"] for _, _, body in here.read("purchases")] == ["ada-1", "ada-6"]


def test_of_many_refused_lines_twenty_are_shown_and_all_counted(here: Installation, tmp_path: Path) -> None:
    log = tmp_path / "purchases.jsonl"
    log.write_text("x\n" * 30, "utf-8")
    result = here.load(log)
    assert result.exit_code == 1
    assert result.stderr.count("refused, not_json") == 20
    assert "refused 30 events: not_json 30. They are not in the topics" in result.stdout


def test_an_event_is_filled_in_and_shown(here: Installation) -> None:
    result = here.load(
        "--event", '{"customer_id": "ada", "amount": "25.00"}', "-e", '{"score": 3, "customer_id": "bob"}'
    )
    assert result.exit_code == 0, result.output
    [(_, key, bought)] = here.read("purchases")
    assert (key, bought["amount"], bought["kind"], bought["currency"]) == (b"ada", "25.00", "purchase", "USD")
    [(_, key, answered)] = here.read("feedback")
    assert (key, answered["score"]) == (b"bob", 3)
    assert bought["event_id"] != answered["event_id"]
    assert [json.loads(shown.partition("  ")[2]) for shown in result.stdout.splitlines()[:2]] == [bought, answered]
    assert "Next: tierstream customer show bob" in result.stdout


def test_a_command_to_everybody_is_in_every_partition(here: Installation) -> None:
    command = {
        "topic": "commands", "command": "use_edition", "customer_id": "*", "edition": 1, "reason": "r",
        "breakpoints": {"as_of_ms": 1, "customers": 1},
    }  # fmt: skip
    result = here.load("--event", json.dumps(command))
    assert result.exit_code == 0, result.output
    assert "loaded 1 event: commands 1" in result.stdout
    assert [(partition, key) for partition, key, _ in here.read("commands")] == [(n, b"*") for n in range(PARTITIONS)]


def test_check_shows_what_the_first_events_become_and_needs_no_broker(here: Installation, tmp_path: Path) -> None:
    log = tmp_path / "purchases.jsonl"
    log.write_text(line("ada", 1) + "x\n" + line("ada", 3), "utf-8")
    nowhere = {"broker": "127.0.0.1:1"}
    result = here.load(log, "--check", "2", **nowhere)
    assert result.exit_code == 1
    first, second, third = result.stdout.splitlines()
    place, topic, body = first.split("  ", 2)
    assert (place, topic, json.loads(body)) == ("purchases.jsonl:1", "purchases", json.loads(line("ada", 1)))
    assert second.startswith("purchases.jsonl:2  refused, not_json: ")
    assert third == "    the record: x"
    result = here.load(log, "--check", "1", "--json", **nowhere)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["outcome"] == "loaded"


def test_a_second_part_of_a_log_is_loaded_with_skip(here: Installation, tmp_path: Path) -> None:
    log = tmp_path / "purchases.jsonl"
    log.write_text("".join(line("ada", n) for n in range(10)), "utf-8")
    assert here.load(log, "--skip", "7").exit_code == 0
    assert [body["event_id"] for _, _, body in here.read("purchases")] == ["ada-7", "ada-8", "ada-9"]


def test_files_are_merged_by_time_and_sort_sorts_what_is_not_in_order(here: Installation, tmp_path: Path) -> None:
    (tmp_path / "a-purchases.jsonl").write_text("".join(line("ada", n, on=f"2026-10-0{n}") for n in (1, 3)), "utf-8")
    (tmp_path / "b-purchases.jsonl").write_text("".join(line("ada", n, on=f"2026-10-0{n}") for n in (4, 2)), "utf-8")

    def order(*options: str) -> list[str]:
        before = len(here.read("purchases"))
        assert here.load(tmp_path, *options).exit_code == 0
        return [body["event_id"] for _, _, body in here.read("purchases")][before:]

    assert order() == ["ada-1", "ada-3", "ada-4", "ada-2"]
    assert order("--sort") == ["ada-1", "ada-2", "ada-3", "ada-4"]


def test_what_workers_may_refuse_is_said_before(here: Installation, tmp_path: Path) -> None:
    log = tmp_path / "purchases.jsonl"
    log.write_text(line("ada", 1, on="2001-01-01") + line("ada", 2, on="2026-06-01"), "utf-8")
    old = "Note: the log begins at 2001-01-01T00:00:00Z, longer ago than the policy's lateness."
    mixed = "Note: the log is not in the order of time: after 2026-06-01T00:00:00Z it has an event of 2001-01-01"
    said = here.load(log).stderr
    assert old in said
    assert mixed not in said
    assert old not in here.load(log, clock="event").stderr
    log.write_text(line("ada", 2, on="2026-06-01") + line("ada", 1, on="2001-01-01") * 2, "utf-8")
    said = here.load(log, clock="event").stderr
    assert said.count("Note: ") == said.count(mixed) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "there is nothing to load: name log files, - for standard input, or --event"),
        (["LOG", "--event", "{}"], "give logs, or --event; one of them"),
        (["--event", "{}"], "event 1: for which topic? none of its fields decides; give \"topic\" in it"),
        (["--event", '{"amount": 1}'], "event 1 can't be used (missing_field): Object missing required field `customer_id`"),
        (["--event", "x"], "event 1 is not JSON"),
        (["--event", '{"amount": 1}', "--follow"], "leave them out with --event"),
        (["LOG", "LOG", "--follow"], "--follow is for one file"),
        (["-", "--follow"], "--follow is for one file"),
        (["LOG", "-"], "standard input (-) is loaded alone"),
        (["LOG", "--follow", "--sort"], "a log can't be sorted while it grows"),
        (["LOG", "--rate", "0"], "--rate needs a number above 0"),
        (["kafka://127.0.0.1:1"], "topics of a broker are carried by tierstream ingest"),
        (["nothing.jsonl"], "nothing.jsonl: No such file or directory"),
        (["LOG", "--policy", "none"], "can't read it"),
    ],
)  # fmt: skip
def test_what_can_t_be_loaded_is_refused_with_a_sentence(
    here: Installation, tmp_path: Path, arguments: list[str], says: str
) -> None:
    log = tmp_path / "purchases.jsonl"
    log.write_text(line("ada", 1), "utf-8")
    result = here.load(*[str(log) if one == "LOG" else one for one in arguments])
    assert result.exit_code == 2
    assert says in result.stderr
    assert here.read("purchases") == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"broker": "127.0.0.1:1"}, "no Kafka answers at 127.0.0.1:1"),
        ({"topic_prefix": "other-"}, "there is no topic other-purchases at"),
        ({"partitions": 8}, "purchases has 4 partitions, but TIERSTREAM_PARTITIONS is 8"),
    ],
)
def test_an_installation_that_is_not_there_is_told_in_a_sentence(
    here: Installation, tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    log = tmp_path / "purchases.jsonl"
    log.write_text(line("ada", 1), "utf-8")
    result = here.load(log, **settings)
    assert result.exit_code == 1
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_file_that_breaks_off_is_loaded_up_to_there_and_can_be_gone_on_with(
    here: Installation, tmp_path: Path
) -> None:
    log = tmp_path / "purchases.csv"
    log.write_bytes(b"no,who,sum,at\n1,ada,5,2026-11-01T00:00:00Z\n2,ada,5,2026-11-02T00:00:00Z\n3,\xff\n")
    mapping = tmp_path / "sales.toml"
    mapping.write_text(
        'topic = "purchases"\n[columns]\nevent_id = "no"\norder_id = "no"\ncustomer_id = "who"\namount = "sum"\n'
        'occurred_at = "at"\n[constants]\ncurrency = "USD"\nkind = "purchase"\n',
        "utf-8",
    )
    result = here.load(log, "--map", mapping)
    assert result.exit_code == 2
    done = int(re.search(r"is the encoding utf-8\?; the same command with --skip (\d+) goes on", result.stderr)[1])
    assert f"loaded {done} event" in result.stdout
    assert len(here.read("purchases")) == done


def test_a_broker_that_goes_away_ends_the_load_and_skip_goes_on_where_it_had_all() -> None:
    policy = policy_of(policy_text())
    decoder = DecoderNow(policy.decoder())

    def records() -> Iterator[Record]:
        for number in range(10):
            if number == 6:
                loader.flush()
                broker.__exit__(None, None, None)
            value = line("ada", number).encode()
            yield Record("purchases", -1, number, None, value, None, decoder.decode("purchases", value))

    broker = EmbeddedBroker()
    broker.__enter__()
    settings = load_settings(broker=broker.address, delivery="at-least-once", session_timeout=2_000)
    loader = Loader(settings, DAY, lambda text: None)
    with pytest.raises(LoadError, match=f"the broker at {broker.address} did not take an event"):
        loader.load([records()], lambda record, rejected: None, lambda count: None)
    assert (loader.done, loader.loaded) == (6, {"purchases": 6})


def test_a_topic_gets_no_further_ahead_of_another_one_than_a_day(address: str) -> None:
    """A worker that runs would fold the topic that is ahead, and refuse what comes on the other one (too_late)."""

    class Waiting(Loader):
        def flush(self) -> None:
            super().flush()
            waited_at.append(self.taken)
            assert self.done == self.taken

    waited_at: list[int] = []
    decoder = DecoderNow(policy_of(policy_text()).decoder())
    days = [  # topics by day, purchases and complaints: of one topic alone there is nothing to wait for
        (1, "p"), (1, "c"), (2, "p"), (9, "p"), (30, "p"), (31, "c"), (31, "p"), (33, "c"), (33, "c"), (50, "c"), (50, "p"),
    ]  # fmt: skip
    records = []
    for number, (day, kind) in enumerate(days):
        on = f"2026-{1 + day // 32:02}-{day % 32 + day // 32:02}"
        body = purchase("ada", 10, on=on) if kind == "p" else complaint("ada", on=on, severity="low")
        value = json.dumps(body | {"event_id": f"e{number}"}).encode()
        records.append(Record(body["topic"], -1, number, None, value, None, decoder.decode(body["topic"], value)))
    here = Installation(address)
    settings = load_settings(broker=address, topic_prefix=here.prefix)
    loader = Waiting(settings, 365 * DAY, lambda text: None)
    loader.load([iter(records)], lambda record, rejected: None, lambda count: None)
    behind = {"purchases": "complaints", "complaints": "purchases"}
    for number, record in enumerate(records):
        since = max((at for at in waited_at if at <= number), default=0)
        unsure = [one for one in records[since:number] if one.topic == behind[record.topic]]
        assert all(record.occurred_at_ms - one.occurred_at_ms <= DAY for one in unsure)
    assert waited_at == [3, 5, 7, 10, 11]


def test_the_decoder_refuses_what_is_in_the_future_of_the_load() -> None:
    decoder = DecoderNow(policy_of(policy_text()).decoder())
    assert isinstance(decoder.decode("purchases", line("ada", 1).encode()), Event)
    assert (
        getattr(decoder.decode("purchases", line("ada", 1, on="2090-01-01").encode()), "code", None) == "time_in_future"
    )
