"""`tierstream customer explain` beside a real worker: its table and its topics give the same story of a customer as the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from streams.cli import app
from tests.builders import Wire, cdnow, with_made_up_complaints
from tests.integration.conftest import Broker
from tests.integration.harness import InputRecord, Site, site
from tests.integration.test_recovery import announced, shuffled_purchases

UNTIL = "1998-07-01T00:00:00Z"
POLICY = "annual-spend"
CUSTOMERS = ("0499", "1516", "1901", "2149", "0001")


def explain(here: Site, *arguments: str) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--json"], env=here.settings.environment())
    assert result.exit_code == 0, result.output
    return orjson.loads(result.output)


def inputs_of(log: list[Wire]) -> list[InputRecord]:
    return [(wire["topic"], {name: value for name, value in wire.items() if name != "topic"}) for wire in log]


@pytest.mark.kafka
def test_a_story_from_the_worker_s_table_is_that_from_the_log(real_broker: Broker, tmp_path: Path) -> None:
    events = with_made_up_complaints(cdnow())
    file = tmp_path / "log.jsonl"
    file.write_bytes(b"".join(orjson.dumps(wire) + b"\n" for wire in events))
    inputs = inputs_of(events)
    with site(real_broker.address, tmp_path, partitions=3, policy=POLICY, clock="event", until=UNTIL) as here:
        here.produce(inputs)
        here.start()
        here.wait_until_drained(len(inputs))
        at, event = ("--at", UNTIL), ("--event", '{"amount": "30"}')
        for customer_id in CUSTOMERS:
            by_table, by_log = (
                explain(here, "customer", "explain", customer_id, *at),
                explain(here, "customer", "explain", customer_id, str(file), "-p", POLICY, *at),
            )
            for name in ("now", "with_one_purchase", "without_a_purchase"):
                assert by_table[name] == by_log[name], (customer_id, name)
            assert by_table["moments"] == []
            assert by_table["announced"] == [body for one in by_log["moments"] for body in one["announcements"]]
            with_event = explain(here, "customer", "explain", customer_id, str(file), "-p", POLICY, *at, *event)
            assert explain(here, "customer", "explain", customer_id, *at, *event) == with_event
        topics = f"kafka://{here.settings.broker}"
        by_topics = explain(here, "customer", "explain", CUSTOMERS[-1], topics, "-p", POLICY, *at)
        for one in (*by_log["moments"], *by_topics["moments"]):
            (one["event"] or {}).pop("body", None)  # a record in a file names its topic
        assert by_topics == by_log


@pytest.mark.kafka
def test_a_story_from_the_journal_is_the_worker_s_not_that_of_a_sorted_log(real_broker: Broker, tmp_path: Path) -> None:
    inputs = shuffled_purchases(400)
    with site(real_broker.address, tmp_path, partitions=2, policy=POLICY, clock="event", max_batch=20) as here:
        worker = here.start()
        here.produce(inputs)
        here.wait_until_drained(len(inputs))
        worker.stop()
        on_topics = announced(here)
        differs_from_sorted = set()
        for customer_id in ("c1", "c2", "c17"):
            by_journal = explain(here, "customer", "explain", customer_id, "--journal")
            bodies = [one for moment in by_journal["moments"] for one in moment["announcements"]]
            for topic, by_customer in on_topics.items():
                ours = [_as_sent(one) for one in bodies if one["topic"] == topic]
                assert ours == [orjson.loads(one) for one in by_customer.get(customer_id, [])], (customer_id, topic)
            assert by_journal["events"] == 10
            assert any(moment["late"] for moment in by_journal["moments"])
            topics = f"kafka://{here.settings.broker}"
            assert explain(here, "customer", "explain", customer_id, topics, "-p", POLICY, "--journal") == by_journal
            by_time = explain(here, "customer", "explain", customer_id, topics, "-p", POLICY)
            differs_from_sorted.add(
                [one["cause"] for one in by_time["moments"]] != [one["cause"] for one in by_journal["moments"]]
            )
            # --at ends the story at what the worker had folded by that instant.
            at = by_journal["moments"][2]["at"]
            until = explain(here, "customer", "explain", customer_id, "--journal", "--at", at)
            assert until["moments"] == by_journal["moments"][: len(until["moments"])]
            assert until["at"] == at
        assert True in differs_from_sorted
        unknown = CliRunner().invoke(
            app, ["customer", "explain", "nobody", "--journal"], env=here.settings.environment()
        )
        assert unknown.exit_code == 2
        assert "has no customer 'nobody'; it has 40 others" in unknown.output


def _as_sent(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in ("topic", "text")}
