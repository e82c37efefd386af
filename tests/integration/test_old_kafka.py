"""The oldest Kafka that the documentation promises: what a worker and the commands do on it, and what users without rights
are told. All other tests with a broker run on the newest. TIERSTREAM_OLD_KAFKA names another version, as in 3.9.2.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli import app
from tests.builders import purchase
from tests.integration.harness import InputRecord, site, start_worker, wait_until
from tests.integration.maven import can_run_java
from tests.integration.old_kafka import OLDEST, PASSWORDS, Addresses, running_old_kafka
from tests.integration.test_doctor import examine, problems
from tests.integration.test_ingest import create_source, ingesting, is_done, orders, send, write_mapping

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]  # it may have to be fetched
CUSTOMERS = 40


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    if not can_run_java():
        assert not os.environ.get("CI"), "CI needs Java and Maven for an old Kafka"
        pytest.skip("needs Java and Maven")
    with running_old_kafka(
        os.environ.get("TIERSTREAM_OLD_KAFKA", OLDEST), tmp_path_factory.mktemp("old-kafka")
    ) as found:
        yield found


def bought(amount: int, on: str) -> list[InputRecord]:
    """A purchase of every customer."""
    wires = [purchase(f"c{number}", amount, on=on) for number in range(CUSTOMERS)]
    return [(wire.pop("topic"), wire) for wire in wires]


def test_purchases_become_tier_changes_once_each_though_a_worker_is_killed(kafka: Addresses, tmp_path: Path) -> None:
    # Of annual-spend: silver from 75, gold from 200.
    with site(kafka.address, tmp_path, partitions=2, policy="annual-spend", clock="event") as here:
        here.produce(bought(80, "2026-01-01"))
        first = here.start()
        here.wait_until_drained(CUSTOMERS)
        first.process.kill()
        first.process.wait()
        here.produce(bought(120, "2026-02-01"))
        second = here.start()
        here.wait_until_drained(CUSTOMERS)
        status, findings = examine(here, "--worker", f"http://127.0.0.1:{second.port}")
        assert (status, problems(findings)) == (0, [])
        assert {one["about"] for one in findings if one["status"] == "ok"} >= {
            "broker", "topics", "configs", "transactions", "group", "worker",
        }  # fmt: skip
        assert second.stop() == 0
        found = {
            customer_id: [
                (change["change"], change["before"]["tier"], change["after"]["tier"])
                for change in map(json.loads, bodies)
            ]
            for customer_id, bodies in here.by_customer("tier-changes").items()
        }
        upgrades = [("upgrade", "member", "silver"), ("upgrade", "silver", "gold")]
        assert found == {f"c{number}": upgrades for number in range(CUSTOMERS)}


def test_an_ingest_carries_records_of_another_topic_and_lists_those_it_refuses(
    kafka: Addresses, tmp_path: Path
) -> None:
    with site(kafka.address, tmp_path, partitions=2, policy="annual-spend") as here:
        topic, mapping = create_source(here), write_mapping(tmp_path)
        records = orders(100)
        send(here, topic, [*records, b"no JSON"])
        with ingesting(here, tmp_path / "ingest.log", f"{topic}={mapping}") as ingest:
            wait_until(lambda: is_done(ingest, len(records) + 1), 60, ingest.log_tail)
            assert ingest.stop() == 0
        sold = [one["no"] for one in records if isinstance(one, dict) and one["state"] != "CANCELLED"]
        carried = [json.loads(message.value())["order_id"] for message in here.read("purchases")]
        assert sorted(carried) == sorted(sold)
        listed = CliRunner().invoke(app, ["dead-letters", "list", "--json"], env=here.settings.environment())
        assert listed.exit_code == 0, listed.output
        assert "not_json" in listed.output


def test_a_user_without_rights_is_told_so_by_every_command(kafka: Addresses, tmp_path: Path) -> None:
    with site(kafka.address, tmp_path, partitions=2) as here:
        shy = {
            "TIERSTREAM_BROKER": kafka.for_users, "TIERSTREAM_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "TIERSTREAM_SASL_MECHANISM": "PLAIN", "TIERSTREAM_SASL_USERNAME": "shy",
            "TIERSTREAM_SASL_PASSWORD": PASSWORDS["shy"], "TIERSTREAM_CREATE_TOPICS": "false",
        }  # fmt: skip
        commands = {
            ("topics", "create"): "refused: Authorization failed",
            ("worker",): "does not let this user see",
            ("doctor",): "this user may not see what a worker needs",
            ("ingest", f"shop.orders={write_mapping(tmp_path)}", "--check", "1"): "this user may not read it",
            ("dead-letters", "list"): "there is no topic",
        }
        started = [
            start_worker(here.settings, tmp_path / f"{number}.log", command=command, **shy)
            for number, command in enumerate(commands)
        ]
        for command, said in zip(started, commands.values(), strict=True):
            assert command.process.wait(60) == 1
            assert said in command.log_tail()
            assert "Traceback" not in command.log_tail()
