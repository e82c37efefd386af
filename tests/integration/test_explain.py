"""`tierstream explain` beside a real worker: its table and its topics say of a customer what the log says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from streams.cli import app
from tests.builders import Wire, cdnow, with_made_up_complaints
from tests.integration.conftest import Broker
from tests.integration.harness import Line, Site, site
from tests.integration.test_recovery import announced, shuffled_purchases

UNTIL = "1998-07-01T00:00:00Z"
POLICY = "annual-spend"
CUSTOMERS = ("0499", "1516", "1901", "2149", "0001")


def explained(here: Site, *arguments: str) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--json"], env=here.settings.environment())
    assert result.exit_code == 0, result.output
    return orjson.loads(result.output)


def lines_of(log: list[Wire]) -> list[Line]:
    return [(wire["topic"], {name: value for name, value in wire.items() if name != "topic"}) for wire in log]


@pytest.mark.kafka
def test_what_the_workers_table_says_of_a_customer_is_what_the_log_says(real_broker: Broker, tmp_path: Path) -> None:
    events = with_made_up_complaints(cdnow())
    file = tmp_path / "log.jsonl"
    file.write_bytes(b"".join(orjson.dumps(wire) + b"\n" for wire in events))
    lines = lines_of(events)
    with site(real_broker.address, tmp_path, partitions=3, policy=POLICY, clock="event", until=UNTIL) as here:
        here.produce(lines)
        here.start()
        here.wait_until_drained(len(lines))
        at, event = ("--at", UNTIL), ("--event", '{"amount": "30"}')
        for who in CUSTOMERS:
            by_table, by_log = (
                explained(here, "explain", who, *at),
                explained(here, "explain", who, str(file), "-p", POLICY, *at),
            )
            for name in ("now", "with_one_purchase", "without_a_purchase"):
                assert by_table[name] == by_log[name], (who, name)
            assert by_table["moments"] == []
            assert by_table["announced"] == [body for one in by_log["moments"] for body in one["announcements"]]
            with_it = explained(here, "explain", who, str(file), "-p", POLICY, *at, *event)
            assert explained(here, "explain", who, *at, *event) == with_it
        topics = f"kafka://{here.settings.broker}"
        by_topics = explained(here, "explain", CUSTOMERS[-1], topics, "-p", POLICY, *at)
        for one in (*by_log["moments"], *by_topics["moments"]):
            (one["event"] or {}).pop("body", None)  # a line of a file names its topic
        assert by_topics == by_log


@pytest.mark.kafka
def test_with_the_journal_the_story_is_the_worker_s_and_not_that_of_a_sorted_log(
    real_broker: Broker, tmp_path: Path
) -> None:
    lines = shuffled_purchases(400)
    with site(real_broker.address, tmp_path, partitions=2, policy=POLICY, clock="event", max_batch=20) as here:
        worker = here.start()
        here.produce(lines)
        here.wait_until_drained(len(lines))
        worker.stop()
        on_topics = announced(here)
        sorted_otherwise = set()
        for who in ("c1", "c2", "c17"):
            by_journal = explained(here, "explain", who, "--journal")
            bodies = [one for moment in by_journal["moments"] for one in moment["announcements"]]
            for topic, by_customer in on_topics.items():
                ours = [_as_sent(one) for one in bodies if one["topic"] == topic]
                assert ours == [orjson.loads(one) for one in by_customer.get(who, [])], (who, topic)
            assert by_journal["events"] == 10
            assert any(moment["late"] for moment in by_journal["moments"])
            topics = f"kafka://{here.settings.broker}"
            assert explained(here, "explain", who, topics, "-p", POLICY, "--journal") == by_journal
            by_time = explained(here, "explain", who, topics, "-p", POLICY)
            sorted_otherwise.add(
                [one["cause"] for one in by_time["moments"]] != [one["cause"] for one in by_journal["moments"]]
            )
            # As far as the worker had come at an instant, of a customer whom it knew by then.
            at = by_journal["moments"][2]["at"]
            until = explained(here, "explain", who, "--journal", "--at", at)
            assert until["moments"] == by_journal["moments"][: len(until["moments"])]
            assert until["at"] == at
        assert True in sorted_otherwise
        nobody = CliRunner().invoke(app, ["explain", "nobody", "--journal"], env=here.settings.environment())
        assert nobody.exit_code == 2
        assert "has no customer 'nobody'; it has 40 others" in nobody.output


def _as_sent(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in ("topic", "text")}
