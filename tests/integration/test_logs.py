"""A worker's log as machines read it: every line an object, and no customer's id in any of them."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path

import pytest

from tests.builders import complaint, policy_text, purchase
from tests.integration.conftest import Broker
from tests.integration.harness import Line, Worker, site

SALT = "the salt of this test"
CUSTOMERS = [f"customer-{number:03d}" for number in range(20)]


def lines_of(worker: Worker) -> list[dict[str, object]]:
    return [json.loads(line) for line in worker.log.read_text("utf-8").splitlines()]


@pytest.mark.kafka
def test_no_log_line_has_a_customer_id_even_when_the_worker_fails(real_broker: Broker, tmp_path: Path) -> None:
    policy = tmp_path / "small.toml"
    policy.write_text(policy_text())
    wires = [purchase(who, 200, on="2026-01-01") for who in CUSTOMERS]
    wires += [complaint(who, on="2026-02-01", severity="critical") for who in CUSTOMERS]
    bad = [purchase(who, "much", on="2026-01-02") for who in CUSTOMERS[:3]]
    lines: list[Line] = [(one["topic"], {k: v for k, v in one.items() if k != "topic"}) for one in [*wires, *bad]]
    with site(
        real_broker.address, tmp_path, partitions=2, policy=str(policy), clock="event", until="2028-01-01T00:00:00Z",
        log_format="json", log_level="DEBUG", log_salt=SALT,
    ) as here:  # fmt: skip
        here.produce(lines)
        worker = here.start()
        here.wait_until_drained(len(lines))
        assert worker.stop() == 0
        said = lines_of(worker)
        assert {line.get("partition") for line in said} == {None, 0, 1}
        letters = [str(line["message"]) for line in said if str(line["message"]).startswith("dead letter, bad_amount")]
        hashes = [blake2b(who.encode(), digest_size=8, key=SALT.encode()).hexdigest() for who in CUSTOMERS[:3]]
        assert sorted(letter.rpartition(" ")[2] for letter in letters) == sorted(hashes)

        policy.write_text(policy_text(version=2))
        stopped = here.start()
        assert stopped.process.wait(60) == 1
        assert "was made under policy small@1" in str(lines_of(stopped)[-1]["message"])
        for log in (worker.log, stopped.log):
            text = log.read_text("utf-8")
            assert not [who for who in CUSTOMERS if who in text]
