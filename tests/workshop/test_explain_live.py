"""`tierstream customer explain` without a log: by the worker's table on a broker, and by the serving view in a Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from typer.testing import CliRunner, Result

import models
from models.outputs import PROFILES, Output
from streams.broker.embedded import EmbeddedBroker, EmbeddedRedis
from streams.cli import app
from streams.engine.batch import Batch
from streams.engine.table import Marker, changelog_records
from streams.sources.logs import LogFile
from streams.view.customers import RedisView
from streams.view.updates import update_of
from streams.workshop.replay.fold import Replay
from streams.workshop.replay.run import fold_all
from tests.builders import complaint, purchase

POLICY = models.load("annual-spend")
LOG = [
    purchase("ada", "40.00", on="2026-01-05", id="e1"),
    purchase("bob", "10.00", on="2026-01-06", id="e2"),
    purchase("ada", "50.00", on="2026-02-10", id="e4"),
    complaint("ada", on="2026-03-01", severity="critical", category="delivery", id="e5"),
    purchase("eve", "10.00", on="2026-05-20", id="e6"),
]
AT = ("--at", "2026-06-01")


class Folded:
    """The states of the customers and the announcements that a worker would have written for the log."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log.jsonl"
        self.log.write_text("".join(json.dumps(wire) + "\n" for wire in LOG))
        self.outputs: list[Output] = []
        replay = Replay(POLICY)
        fold_all(replay, [LogFile(self.log)], [POLICY.decoder()], self.add, False)
        for batch in replay.finish(replay.partition.clock_ms):
            self.add(batch)
        self.customers, self.clock_ms = replay.partition.customers, replay.partition.clock_ms

    def add(self, batch: Batch) -> None:
        self.outputs += batch.outputs


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Folded:
    return Folded(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def broker(folded: Folded) -> Iterator[str]:
    """A broker with the changelog and the announcements, as a worker leaves them."""
    with EmbeddedBroker() as embedded:
        producer = confluent_kafka.Producer({"bootstrap.servers": embedded.address, "partitioner": "murmur2_random"})
        partitions: dict[bytes, int] = {}

        def landed(error: Any, message: Any) -> None:
            assert error is None
            partitions[message.key()] = message.partition()

        for output in folded.outputs:
            producer.produce(output.topic, output.body, output.customer_id, on_delivery=landed)
        producer.produce("purchases", b"", "eve", on_delivery=landed)
        assert producer.flush(30) == 0
        for topic in ("tier-changes", "churn-risk", "life-cycle", "alerts"):
            producer.produce(topic, b"", b"nobody")
        for number in range(4):
            here = {key: state for key, state in folded.customers.items() if partitions[key] == number}
            marker = Marker(2, {}, folded.clock_ms, POLICY.ref, True, customers=len(here))
            # Written by a worker that had lost the partition, so these states are ignored.
            late = {key: models.encode(models.new_customer(POLICY, 0)) for key in here}
            records = changelog_records(here, marker) + changelog_records(late, Marker(1, {}, 0, POLICY.ref, True))
            for key, value in records:
                producer.produce("tierstream-customers-changelog", value, key, partition=number)
        assert producer.flush(30) == 0
        yield embedded.address


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "100"})


def as_json(*arguments: str | Path) -> dict[str, Any]:
    result = run(*arguments, "--policy", "annual-spend", "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def of(log: list[Any], customer_id: str) -> list[Any]:
    return [output for output in log if output.customer_id == customer_id]


def test_the_table_gives_the_same_present_and_future_as_the_log(folded: Folded, broker: str) -> None:
    for customer_id in ("ada", "bob", "eve"):
        by_log, by_table = (
            as_json("customer", "explain", customer_id, folded.log, *AT),
            as_json("customer", "explain", customer_id, "--broker", broker, *AT),
        )
        for name in ("customer_id", "policy", "at", "now", "with_one_purchase", "without_a_purchase"):
            assert by_table[name] == by_log[name], name
        announced = [{name: value for name, value in one.items() if name not in ("topic", "text")} for one in by_table["announced"]]  # fmt: skip
        assert announced == [json.loads(output.body) for output in of(folded.outputs, customer_id)]
        # Announcements that the worker has not made yet are computed.
        later = [body for one in by_table["moments"] for body in one["announcements"]]
        assert later == [
            body for one in by_log["moments"] for body in one["announcements"] if body["seq"] > len(announced)
        ]


def test_whatif_is_the_same_by_the_table_and_by_the_log(folded: Folded, broker: str) -> None:
    event = ("--event", '{"amount": "115"}')
    assert as_json("customer", "explain", "ada", "--broker", broker, *AT, *event) == as_json(
        "customer", "explain", "ada", folded.log, *AT, *event
    )


def test_the_story_by_the_table_is_printed(broker: str) -> None:
    result = run("customer", "explain", "ada", "--broker", broker, *AT, "--policy", "annual-spend")
    assert result.exit_code == 0, result.output
    assert "Announced until now; the events are in a log" in result.output
    assert "upgrade: member → silver" in result.output


def test_the_table_has_nothing_older_than_the_last_change(broker: str) -> None:
    result = run("customer", "explain", "ada", "--broker", broker, "--policy", "annual-spend", "--at", "2026-02-01")
    assert result.exit_code == 2
    assert "the table has nothing older: give a log, or a later --at" in result.output


def test_another_policy_than_the_tables_is_refused(broker: str) -> None:
    result = run("customer", "explain", "ada", "--broker", broker, "--policy", "subscription-like", *AT)
    assert result.exit_code == 2
    assert "the table was made under policy annual-spend@1" in result.output


def test_a_customer_who_is_not_in_the_table_is_an_error(broker: str) -> None:
    result = run("customer", "explain", "zoe", "--broker", broker, "--policy", "annual-spend")
    assert result.exit_code == 2
    assert "the table has no customer 'zoe'; it has 3 others" in result.output


@pytest.fixture(scope="module")
def redis(folded: Folded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis with the view of what was announced, and the profiles."""

    async def fill(url: str) -> None:
        view = RedisView(url)
        announced = [(output.topic, output.body) for output in folded.outputs]
        announced += [
            (PROFILES, models.profile(models.decode(state), key.decode(), POLICY) or b"")
            for key, state in folded.customers.items()
        ]
        updates = [update_of(topic, body) for topic, body in announced]
        await view.apply("a topic/0", 0, 1, [one for one in updates if one is not None])
        await view.redis.aclose()

    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        asyncio.run(fill(server.url))
        yield server.url


def test_the_view_shows_the_profile_and_the_announcements(folded: Folded, redis: str) -> None:
    found = as_json("customer", "explain", "ada", "--redis-url", redis)
    profile = models.profile(models.decode(folded.customers[b"ada"]), "ada", POLICY)
    assert found["now"] == json.loads(profile or b"")
    announced = [(output.topic, output.seq, output.change) for output in of(folded.outputs, "ada")]
    assert [(one["topic"], one["seq"], one["change"]) for one in found["announced"]] == announced
    by_log = as_json("customer", "explain", "ada", folded.log)
    said = {body["seq"]: body["text"] for one in by_log["moments"] for body in one["announcements"]}
    assert [one["text"] for one in found["announced"]] == [said[one["seq"]] for one in found["announced"]]
    page = run("customer", "explain", "ada", "--redis-url", redis)
    assert page.exit_code == 0, page.output
    assert "The view can't tell what a purchase would do: give --broker, for the table, or a log." in page.output


def test_the_view_has_only_the_present_and_reports_unknown_customers(redis: str) -> None:
    result = run("customer", "explain", "ada", "--redis-url", redis, *AT)
    assert result.exit_code == 2
    assert "the view knows only how the customer is now" in result.output
    result = run("customer", "explain", "zoe", "--redis-url", redis)
    assert result.exit_code == 2
    assert "the view has no customer 'zoe'" in result.output


def test_without_a_log_a_broker_or_a_redis_it_says_what_to_give() -> None:
    for command in (["customer", "explain", "ada"], ["customer", "explain", "ada", "--event", '{"amount": 1}']):
        result = run(*command)
        assert result.exit_code == 2
        assert "name log files or kafka://HOST:PORT" in result.output
