"""Dead letters on a real Kafka: written by a worker or by the test; listed, repaired and resent by the commands."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from streams.cli import app as cli
from tests.integration.conftest import Broker
from tests.integration.harness import Site, site
from tests.integration.test_worker import FAST_POLICY, purchase

TOO_MANY_BYTES = 950_000


def run(here: Site, *arguments: str, status: int = 0, answer: str | None = None) -> str:
    """Run a command; returns its output and error output. `answer` is what is typed."""
    environment = here.settings.environment() | {"USER": "ann"}
    done = CliRunner().invoke(cli, ["dead-letters", *arguments], env=environment, input=answer or "")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == status, done.output
    return done.output


def listed(here: Site, *arguments: str) -> list[dict[str, Any]]:
    dead_letters: list[dict[str, Any]] = json.loads(run(here, "list", "--json", *arguments))["letters"]
    return dead_letters


def notes(here: Site) -> list[dict[str, str]]:
    """The notes on the topic, each with its key."""
    found = []
    for message in here.read("dead-letters"):
        headers = {name: value.decode() for name, value in message.headers()}
        if "settles" in headers:
            assert message.value() is None
            assert "reason" not in headers
            found.append(headers | {"key": message.key().decode(), "partition": str(message.partition())})
    return found


def set_aside(here: Site, dead_letters: Iterable[tuple[bytes | None, dict[str, str]]], key: str = "ada") -> None:
    """Write dead letters: value, and headers on top of those of a bad amount in `purchases`, partition 0."""
    producer = confluent_kafka.Producer({"bootstrap.servers": here.settings.broker})
    for number, (value, changed) in enumerate(dead_letters):
        headers = {"topic": "purchases", "partition": "0", "offset": str(number), "reason": "bad_amount", "detail": "d"}
        producer.produce(
            here.settings.topic("dead-letters"), value, key, partition=0,
            headers=[(name, text.encode()) for name, text in (headers | changed).items()],
        )  # fmt: skip
    assert producer.flush(30) == 0


def body(number: int, **changed: Any) -> bytes:
    return json.dumps(purchase(number, **changed)).encode()


def lifetime(here: Site, customer_id: str) -> tuple[int, str]:
    profile = json.loads(here.latest("profiles")[customer_id])
    return profile["lifetime"]["orders"], profile["lifetime"]["net_spend"]


@pytest.mark.kafka
def test_a_rejected_record_is_shown_repaired_folded_and_settled(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=2, clock="event") as here:
        bad = purchase(2, "grace", amount="12.505", channel="shop\x1b[31m")
        here.produce([("purchases", purchase(1, "grace")), ("purchases", bad)])
        worker = here.start()
        here.wait_until_drained(2)

        [dead_letter] = listed(here)
        address = dead_letter["address"]
        assert (dead_letter["topic"], dead_letter["key"], dead_letter["reason"]) == (
            "purchases",
            "grace",
            "too_many_decimals",
        )
        assert address in run(here, "list")
        assert json.loads(run(here, "list", "--counts", "--json")) == [
            {"topic": "purchases", "reason": "too_many_decimals", "letters": 1}
        ]
        shown = run(here, "show", address)
        assert "the amount has more decimals than its currency" in shown
        assert '"amount": "12.505"' in shown
        assert "\x1b" not in shown
        assert run(here, "show", address, "--raw") == json.dumps(bad)

        refused = run(here, "repair", address, "--set", "amount=twelve", "--yes", status=1)
        assert "would be rejected again: bad_amount: amount 'twelve'" in refused
        assert "12.505" in run(here, "repair", address, "--set", "amount=12.5", "--dry-run")
        assert "nothing was sent" in run(here, "repair", address, "--set", "amount=12.5", status=1, answer="n\n")
        assert notes(here) == []
        assert len(here.read("purchases")) == 2

        said = run(here, "repair", address, "--set", "amount=12.5", "--unset", "channel", answer="y\n")
        assert "is repaired and sent" in said
        sent = here.read("purchases")[-1]
        assert json.loads(sent.value()) == purchase(2, "grace", amount=12.5)
        assert dict(sent.headers()) == {"dead_letter": address.encode()}
        here.wait_until_drained(3)
        assert lifetime(here, "grace") == (2, "25.00")
        assert listed(here) == []
        place = f"purchases:{sent.partition()}:{sent.offset()}"
        assert notes(here) == [
            {"settles": address, "how": "repaired", "by": "ann", "to": place, "key": "grace",
             "partition": address.partition(":")[0]}
        ]  # fmt: skip
        [settled] = listed(here, "--all")
        assert (settled["settled"]["how"], settled["settled"]["to"]) == ("repaired", place)
        assert "repaired by ann" in run(here, "list", "--all")
        assert f"{address} is settled: repaired by ann" in run(here, "resend", address, status=1)
        assert worker.stop() == 0


@pytest.mark.kafka
def test_records_that_a_new_policy_accepts_are_resent_and_counted_once(real_broker: Broker, tmp_path: Path) -> None:
    policy = tmp_path / "fast.toml"
    policy.write_text(FAST_POLICY)
    with site(real_broker.address, tmp_path, partitions=1, clock="event", policy=str(policy)) as here:
        here.produce([("purchases", purchase(1)), ("purchases", purchase(2, currency="DEM"))])
        worker = here.start()
        here.wait_until_drained(2)
        assert worker.stop() == 0
        [dead_letter] = listed(here, "--reason", "unknown_currency")
        said = run(here, "resend", dead_letter["address"], "--yes", status=1)
        assert "left 1 (1 unknown_currency)" in said
        assert notes(here) == []

        policy.write_text(FAST_POLICY + '[rates]\nDEM = "4.00"\n')
        assert "1 dead letter can be resent" in run(here, "resend", "--reason", "unknown_currency", "--dry-run")
        assert "resent 1 dead letter, left 0" in run(here, "resend", "--reason", "unknown_currency", answer="y\n")
        assert "resent 1 dead letter, left 0" in run(here, "resend", dead_letter["address"], "--again", "--yes")
        assert [one["how"] for one in notes(here)] == ["resent", "resent"]
        assert [one.value() for one in here.read("purchases")[1:]] == [body(2, currency="DEM")] * 3
        assert listed(here) == []
        here.start()
        here.wait_until_drained(2)
        assert lifetime(here, "ada") == (2, "62.50")


@pytest.mark.kafka
def test_a_cut_dead_letter_is_read_whole_from_its_source_while_that_exists(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=1, clock="event") as here:
        long = purchase(1, channel="x" * TOO_MANY_BYTES)
        here.produce([("purchases", long)])
        here.start()
        here.wait_until_drained(1)
        assert "value_bytes" in run(here, "show", "0:0")
        assert run(here, "show", "0:0", "--raw") == json.dumps(long)
        assert "left 1 (1 too_large)" in run(here, "resend", "0:0", "--yes", status=1)
        run(here, "repair", "0:0", "--set", "channel=shop", "--yes")
        here.wait_until_drained(2)
        assert lifetime(here, "ada") == (1, "12.50")

        here.produce([("purchases", long)])
        here.wait_until_drained(3)
        [dead_letter] = listed(here)
        admin = AdminClient({"bootstrap.servers": here.settings.broker})
        end = confluent_kafka.TopicPartition(here.settings.topic("purchases"), 0, dead_letter["offset"] + 1)
        admin.delete_records([end])[end].result(30)
        assert "is no longer there; repair it with --file" in run(
            here, "repair", dead_letter["address"], "--set", "channel=shop", status=1
        )
        assert "left 1 (1 cut)" in run(here, "resend", "--all-open", "--force", "--yes")
        assert run(here, "show", dead_letter["address"], "--raw", status=1).startswith(json.dumps(long)[:900_000])
        (tmp_path / "whole.json").write_bytes(body(2))
        run(here, "repair", dead_letter["address"], "--file", str(here.folder / "whole.json"), "--yes")
        assert listed(here) == []


@pytest.mark.kafka
def test_a_wrong_key_is_repaired_by_naming_the_right_one(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=2) as here:
        set_aside(here, [(body(1), {"reason": "key_mismatch"})] * 1, key="grace")
        refused = run(here, "repair", "0:0", "--set", "channel=shop", "--yes", status=1)
        assert "key_mismatch" in refused
        assert "give --key, or --set customer_id" in refused
        run(here, "repair", "0:0", "--key", "ada", "--yes")
        here.produce([("purchases", purchase(2))])
        repaired, other = here.read("purchases")
        assert repaired.key() == other.key() == b"ada"
        assert repaired.partition() == other.partition()
        assert notes(here)[0]["key"] == "grace"


@pytest.mark.kafka
def test_a_dead_letter_that_exists_twice_is_one_with_two_addresses(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=1) as here:
        set_aside(here, [(b"nonsense \x1b[2J\xff", {"offset": offset}) for offset in ("7", "8", "7")])
        assert [one["address"] for one in listed(here)] == ["0:0", "0:1"]
        assert "nonsense \\x1b[2J\\xff" in run(here, "show", "0:2")
        assert "there is no dead letter at 0:9" in run(here, "dismiss", "0:1", "0:9", "--note", "test data", status=1)
        run(here, "dismiss", "0:2", "--note", "test data", "--by", "bob")
        [note] = notes(here)
        assert note == {
            "settles": "0:0",
            "how": "dismissed",
            "by": "bob",
            "note": "test data",
            "key": "ada",
            "partition": "0",
        }
        assert [one["address"] for one in listed(here)] == ["0:1"]
        assert "there is no dead letter at 0:3" in run(here, "show", "0:3", status=1)
        run(here, "dismiss", "0:0", "0:1", "--note", "both", "--again")
        assert listed(here) == []


@pytest.mark.kafka
def test_many_dead_letters_are_resent_in_order_except_those_still_rejected(real_broker: Broker, tmp_path: Path) -> None:
    count = 1_200
    with site(real_broker.address, tmp_path, partitions=2) as here:
        values = [b"broken" if number % 100 == 0 else body(number) for number in range(count)]
        reasons = ["too_late" if number % 100 == 1 else "unknown_currency" for number in range(count)]
        set_aside(here, ((value, {"reason": reason}) for value, reason in zip(values, reasons, strict=True)))
        said = run(here, "resend", "--all-open", "--yes")
        assert "resent 1,176 dead letters, left 24 (12 not_json, 12 too_late)" in said
        assert "more are left; the summary counts them" in said
        expected = [value for number, value in enumerate(values) if number % 100 > 1]
        assert [one.value() for one in here.read("purchases")] == expected
        assert {one["reason"] for one in listed(here)} == {"too_late", "unknown_currency"}
        assert json.loads(run(here, "list", "--json", "--limit", "5"))["more"] == 19
        assert "and 19 more" in run(here, "list", "--limit", "5")
        said = run(here, "resend", "--reason", "too_late", "--force", "--yes", "--json")
        assert json.loads(said) == {"resent": 12, "left": {}}
        assert len(listed(here)) == 12


@pytest.mark.kafka
def test_without_the_topic_the_command_says_how_to_create_or_name_it(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, embedded=True) as here:
        assert "TIERSTREAM_TOPIC_PREFIX" in run(here, "list", status=1)
