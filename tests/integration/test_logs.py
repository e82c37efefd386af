"""A worker's log in JSON: every line is an object, and no line has a customer's id."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path

import pytest

from tests.builders import complaint, policy_text, purchase
from tests.integration.conftest import Broker
from tests.integration.harness import InputRecord, Worker, site

SALT = "the salt of this test"
CUSTOMERS = [f"customer-{number:03d}" for number in range(20)]


def log_lines(worker: Worker) -> list[dict[str, object]]:
    return [json.loads(line) for line in worker.log.read_text("utf-8").splitlines()]


@pytest.mark.kafka
def test_no_log_line_has_a_customer_id_even_when_the_worker_fails(real_broker: Broker, tmp_path: Path) -> None:
    policy = tmp_path / "small.toml"
    policy.write_text(policy_text())
    wires = [purchase(customer_id, 200, on="2026-01-01") for customer_id in CUSTOMERS]
    wires += [complaint(customer_id, on="2026-02-01", severity="critical") for customer_id in CUSTOMERS]
    bad = [purchase(customer_id, "much", on="2026-01-02") for customer_id in CUSTOMERS[:3]]
    inputs: list[InputRecord] = [
        (one["topic"], {k: v for k, v in one.items() if k != "topic"}) for one in [*wires, *bad]
    ]
    with site(
        real_broker.address, tmp_path, partitions=2, policy=str(policy), clock="event", until="2028-01-01T00:00:00Z",
        log_format="json", log_level="DEBUG", log_salt=SALT,
    ) as here:  # fmt: skip
        here.produce(inputs)
        worker = here.start()
        here.wait_until_drained(len(inputs))
        assert worker.stop() == 0
        lines = log_lines(worker)
        assert {line.get("partition") for line in lines} == {None, 0, 1}
        dead_letters = [
            str(line["message"]) for line in lines if str(line["message"]).startswith("dead letter, bad_amount")
        ]
        hashes = [
            blake2b(customer_id.encode(), digest_size=8, key=SALT.encode()).hexdigest() for customer_id in CUSTOMERS[:3]
        ]
        assert sorted(one.rpartition(" ")[2] for one in dead_letters) == sorted(hashes)

        policy.write_text(policy_text(version=2))
        stopped = here.start()
        assert stopped.process.wait(60) == 1
        assert "was made under policy small@1" in str(log_lines(stopped)[-1]["message"])
        for log in (worker.log, stopped.log):
            text = log.read_text("utf-8")
            assert not [customer_id for customer_id in CUSTOMERS if customer_id in text]
