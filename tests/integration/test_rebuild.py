"""`tierstream rebuild`: a version is built beside the one that serves, compared and switched to, and readers follow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka
import orjson
import pytest
from typer.testing import CliRunner, Result

from models.outputs import ANNOUNCEMENTS
from streams.cli import app as cli
from streams.versions.app_versions import AppVersions
from tests.builders import shipped_text
from tests.integration.conftest import Broker
from tests.integration.harness import ROOT, InputRecord, Site, site, wait_until
from tests.integration.test_recovery import shuffled_purchases
from tests.integration.test_worker import purchase
from tests.integration.test_worker_equals_replay import bodies_by_customer, replayed

UNTIL = "2026-06-01T00:00:00Z"
POLICY = "annual-spend"
READER = "reader"
Announced = dict[str, dict[str, list[bytes]]]
"""Bodies by topic and customer, in order."""


def purchases_in_order(count: int) -> list[InputRecord]:
    return sorted(shuffled_purchases(count), key=lambda line: line[1]["occurred_at"])  # type: ignore[index]


def of_version(here: Site, number: int, **changed: Any) -> Site:
    """The same installation with the settings of another app version."""
    changed |= {"app_version": number}
    return Site(here.settings.model_copy(update=changed), here.folder, here.workers)


def run(here: Site, *arguments: str) -> Result:
    environment = os.environ | here.settings.environment() | {"PYTHONPATH": str(ROOT)}
    return CliRunner().invoke(cli, list(arguments), env=environment)


@contextmanager
def running(here: Site, *arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a command as a process; yields it and the file with its error output."""
    log = here.folder / "command.log"
    inherited = os.environ | here.settings.environment() | {"PYTHONPATH": str(ROOT)}
    with log.open("wb") as sink:
        command = [sys.executable, "-m", "tests.integration.dying", *arguments]
        process = subprocess.Popen(command, env=inherited | environment, stdout=subprocess.PIPE, stderr=sink)
    try:
        yield process, log
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def read_rest(here: Site, group: str = READER) -> Announced:
    """Read, as a consumer group, the announcements from its committed positions to the topics' ends; commit the ends."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": here.settings.broker,
            "group.id": f"{here.settings.app_id}-{group}",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    topics = {here.settings.topic(name): name for name in ANNOUNCEMENTS}
    consumer.subscribe(list(topics))
    seen: Announced = {name: defaultdict(list) for name in ANNOUNCEMENTS}
    ended: set[tuple[str, int]] = set()
    while len(ended) < len(topics) * here.settings.partitions:
        message = consumer.poll(30)
        assert message is not None, "no record for 30 s"
        if message.error() is None:
            seen[topics[message.topic()]][message.key().decode()].append(message.value())
        elif message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
            ended.add((message.topic(), message.partition()))
        else:
            raise AssertionError(message.error().str())
    positions = [tp for tp in consumer.position(consumer.assignment()) if tp.offset >= 0]
    if positions:
        consumer.commit(offsets=positions, asynchronous=False)
    consumer.close()
    return seen


def concatenate(*parts: Announced) -> Announced:
    """The bodies of all parts, one after another."""
    whole: Announced = {name: defaultdict(list) for name in ANNOUNCEMENTS}
    for part in parts:
        for name, by_customer in part.items():
            for customer, bodies in by_customer.items():
                whole[name][customer] += bodies
    return {name: dict(by_customer) for name, by_customer in whole.items()}


def announced_by_replay(inputs: list[InputRecord], folder: Path, policy: str = POLICY) -> Announced:
    out = replayed(inputs, folder, policy, UNTIL)
    return {name: bodies_by_customer(out / f"{name}.jsonl") for name in ANNOUNCEMENTS}


@pytest.mark.kafka
@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
def test_readers_that_move_to_a_rebuilt_version_see_every_announcement_once(
    delivery: str, real_broker: Broker, tmp_path: Path
) -> None:
    inputs = purchases_in_order(2_400)
    with site(
        real_broker.address, tmp_path, partitions=2, clock="event", policy=POLICY, max_batch=50, delivery=delivery
    ) as here:
        new, group = of_version(here, 2), f"{here.settings.app_id}-{READER}"
        here.produce(inputs[:1000])
        serving = here.start()
        here.wait_until_drained(1000)
        seen = [read_rest(here)]
        with running(here, "rebuild", "--to-version", "2", "--yes", "--json", "--group", group) as (rebuilding, log):
            wait_until(lambda: "stop the workers of version 1 now" in log.read_text(), 120, log.read_text)
            # Records that arrive now are folded by the old version only when it stops.
            here.produce(inputs[1000:1500])
            here.wait_until_drained(1500)
            assert serving.stop() == 0
            here.produce(inputs[1500:1800])
            out = rebuilding.communicate(timeout=120)[0]
            assert rebuilding.returncode == 1, log.read_text()
        first = json.loads(out)
        assert first["comparison"]["compared"] == {"equal": 40}
        assert [(one["has_gone_over"], one["group"]) for one in first["readers"]] == [(False, group)]
        assert "still to read" in first["readers"][0]["what"]
        seen.append(read_rest(here))
        again = run(here, "rebuild", "--to-version", "2", "--yes", "--json", "--group", group)
        assert again.exit_code == 0, again.output
        assert json.loads(again.stdout)["positions"] == first["positions"]
        assert json.loads(again.stdout)["readers"][0]["has_gone_over"]
        assert AppVersions(here.settings).readers(new.settings) == [group]
        new.start(until=UNTIL, app_version=2)
        here.produce(inputs[1800:])
        here.wait_until_drained(900)
        seen.append(read_rest(new))
        assert all(sum(map(len, part["tier-changes"].values())) for part in seen)
        assert concatenate(*seen) == announced_by_replay(inputs, tmp_path)


@pytest.mark.kafka
def test_an_activated_policy_is_in_force_in_a_rebuilt_version_and_can_be_undone(
    real_broker: Broker, tmp_path: Path
) -> None:
    inputs, new_policy = purchases_in_order(1_200), tmp_path / "new.toml"
    text = shipped_text(POLICY).replace("version = 1", "version = 2", 1)
    new_policy.write_text(text.replace('min_spend = "200.00"', 'min_spend = "400.00"'), "utf-8")
    middle, late = inputs[600][1]["occurred_at"], inputs[1000][1]["occurred_at"]  # type: ignore[index]
    with site(real_broker.address, tmp_path, partitions=2, clock="event", policy=POLICY, max_batch=50) as here:
        new, group = of_version(here, 2), f"{here.settings.app_id}-{READER}"
        here.produce(inputs[:600])
        serving = here.start()
        here.wait_until_drained(600)
        done = run(
            here, "policy", "activate", str(new_policy), "--at", middle, "--yes", "--no-diff", "--reason", "gold is 400"
        )
        assert done.exit_code == 0, done.output
        here.produce(inputs[600:900])
        here.wait_until_drained(900)
        assert serving.stop() == 0
        seen = [read_rest(here)]
        rebuilt = run(here, "rebuild", "--to-version", "2", "--yes", "--json", "--group", group)
        assert rebuilt.exit_code == 0, rebuilt.output
        assert json.loads(rebuilt.stdout)["comparison"]["compared"] == {"equal": 40}

        new.start(app_version=2)
        here.produce(inputs[900:1000])
        here.wait_until_drained(100)
        # The commands of the new version know the policy in force, too.
        history = json.loads(run(new, "policy", "history", "--json").output)
        assert [(one["edition"], one["policy"]) for one in history] == [(0, "annual-spend@1"), (1, "annual-spend@2")]
        back = run(new, "policy", "rollback", "--at", late, "--yes", "--no-diff")
        assert back.exit_code == 0, back.output
        assert "annual-spend@1 is in force as edition 2" in back.output
        between = purchase(5_000, "new", "2026-01-02T00:00:00Z", amount="250.00", currency="USD")
        here.produce([*inputs[1000:], ("purchases", between)])  # gold under the old policy, and not under the new one

        def profiles() -> set[str]:
            return {json.loads(one)["policy"] for one in new.latest("profiles").values()}

        wait_until(lambda: profiles() == {"annual-spend@1/2"}, 60, "all customers to be judged under the old policy")
        here.wait_until_drained(301)
        seen.append(read_rest(new))
        bodies = [
            [orjson.loads(body) for topic in whole.values() for body in topic.get(customer_id, ())]
            for whole in [concatenate(*seen)]
            for customer_id in {customer_id for topic in whole.values() for customer_id in topic}
        ]
        assert {one["policy"] for of_one in bodies for one in of_one} == {
            "annual-spend@1", "annual-spend@2/1", "annual-spend@1/2",
        }  # fmt: skip
        for of_one in bodies:
            # Every number occurs once, and none is missing.
            assert sorted(one["seq"] for one in of_one) == list(range(1, len(of_one) + 1))


@pytest.mark.kafka
def test_a_rebuild_that_was_killed_continues_and_has_one_complete_cut(real_broker: Broker, tmp_path: Path) -> None:
    inputs = purchases_in_order(1_500)
    with site(real_broker.address, tmp_path, partitions=3, clock="event", policy=POLICY, max_batch=40) as here:
        new, group = of_version(here, 2), f"{here.settings.app_id}-{READER}"
        here.produce(inputs[:700])
        serving = here.start()
        here.wait_until_drained(700)
        here.produce(inputs[700:900])
        here.wait_until_drained(900)
        assert serving.stop() == 0
        seen = [read_rest(here)]
        arguments = ("rebuild", "--to-version", "2", "--yes", "--json", "--group", group)
        deaths = (
            "streams.versions.rebuild:compare:1",
            "streams.versions.offline_partition:OfflinePartition.fold_up_to:4",
            "streams.worker.delivery:Delivery.append_state:2",
            "streams.versions.app_versions:AppVersions.record_cut:1",
        )
        for number, death in enumerate(deaths):
            # Before each kill records are added, so that both versions are behind the inputs, each by others.
            here.produce(inputs[900 + 50 * number : 950 + 50 * number])
            with running(here, *arguments, DIE_AT=death) as (process, log):
                process.communicate(timeout=120)
                assert process.returncode == -signal.SIGKILL, (death, log.read_text())
            assert AppVersions(here.settings).read_cut(new.settings) == {}
        done = run(here, *arguments)
        assert not json.loads(done.stdout)["readers"][0]["has_gone_over"], done.output
        seen.append(read_rest(here))
        assert run(here, *arguments).exit_code == 0
        new.start(until=UNTIL, app_version=2)
        here.produce(inputs[1100:])
        here.wait_until_drained(301)
        seen.append(read_rest(new))
        assert concatenate(*seen) == announced_by_replay(inputs, tmp_path)


@pytest.mark.kafka
def test_another_policy_shows_moved_customers_and_abort_deletes_the_new_version(
    real_broker: Broker, redis: Any, tmp_path: Path
) -> None:
    with site(
        real_broker.address, tmp_path, partitions=1, clock="event", policy="subscription-like", redis_url=redis.url
    ) as here:
        here.produce([("purchases", purchase(n, f"c{n % 5}", amount="90000.00", currency="USD")) for n in range(20)])
        serving = here.start()
        here.wait_until_drained(20)
        before = {name: here.by_customer(name) for name in ANNOUNCEMENTS}
        moves = tmp_path / "moves.jsonl"
        found = run(
            here, "rebuild", "--to-version", "2", "--policy", POLICY, "--yes", "--wait", "0s", "--moves", str(moves)
        )
        assert found.exit_code == 1
        assert f"workers of version 1 run in the group {here.settings.app_id}, 1 of them" in found.output
        assert "5 of them (100.0%) are in another tier under annual-spend@1" in found.output
        listed = [orjson.loads(line) for line in moves.read_bytes().splitlines()]
        assert [one["customer_id"] for one in listed] == [f"c{n}" for n in range(5)]
        other = run(here, "rebuild", "--to-version", "2", "--yes", "--wait", "0s")
        assert other.exit_code == 1
        assert "version 2 is made under annual-spend@1, not subscription-like@1" in other.output
        topics = AppVersions(here.settings).topics()
        aborted = run(here, "rebuild", "--to-version", "2", "--abort", "--yes")
        assert aborted.exit_code == 0, aborted.output
        left = AppVersions(here.settings).topics()
        assert {name for name in topics - left if name.startswith(here.settings.app_id)} == {
            one for one in topics if one.startswith(here.settings.app_id) and "-v2" in one
        }
        assert serving.page("healthz")[0] == 200
        assert {name: here.by_customer(name) for name in ANNOUNCEMENTS} == before
        assert here.latest("profiles").keys() == {f"c{n}" for n in range(5)}


@pytest.mark.kafka
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_rebuild_that_is_stopped_stops_its_worker_and_continues_when_run_again(
    number: signal.Signals, real_broker: Broker, tmp_path: Path
) -> None:
    with site(real_broker.address, tmp_path, partitions=1, clock="event", policy=POLICY) as here:
        here.produce(purchases_in_order(300))
        # While a worker of the old version runs, a rebuild waits for it to stop, however fast it is otherwise.
        serving = here.start()
        here.wait_until_drained(300)
        group = of_version(here, 2).settings.table_app_id
        with running(here, "rebuild", "--to-version", "2", "--yes", "--json") as (rebuilding, log):
            wait_until(lambda: bool(AppVersions(here.settings).members(group)), 60, log.read_text)
            rebuilding.send_signal(number)
            assert rebuilding.wait(60) == 130, log.read_text()
            assert "run this again to continue" in log.read_text()
        assert AppVersions(here.settings).members(group) == []
        assert serving.stop() == 0
        again = run(here, "rebuild", "--to-version", "2", "--yes")
        assert again.exit_code == 0, again.output
        assert "continues version 2" in again.output
        assert "All 0 customers are the same" not in again.output
        assert run(here, "rebuild", "--to-version", "2", "--abort", "--yes").exit_code == 1, (
            "readers were switched to it"
        )


@pytest.mark.kafka
def test_a_version_that_can_not_be_built_is_refused_with_what_to_do(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=1, clock="event", policy=POLICY) as here:
        for arguments, message in (
            (("--to-version", "1"), "version 1 is not a later one: TIERSTREAM_APP_VERSION is 1"),
            (("--to-version", "2", "--policy", "pyramid"), "which both versions read"),
            (("--to-version", "2", "--policy", "nothing.toml"), "nothing.toml"),
            (("--to-version", "2", "--wait", "soon"), "soon"),
        ):
            refused = run(here, "rebuild", "--yes", *arguments)
            assert refused.exit_code in (1, 2), refused.output
            assert message in refused.output
            assert "Traceback" not in refused.output
        assert AppVersions(here.settings).own_topics(of_version(here, 2).settings) == []


@pytest.mark.kafka
def test_versions_are_compared_and_cut_at_one_instant_by_the_wall_clock_too(
    real_broker: Broker, tmp_path: Path
) -> None:
    with site(real_broker.address, tmp_path, partitions=1, policy=POLICY) as here:
        here.produce(purchases_in_order(600))
        serving = here.start()
        here.wait_until_drained(600)
        assert serving.stop() == 0
        before = read_rest(here)
        found = run(here, "rebuild", "--to-version", "2", "--yes", "--json")
        assert found.exit_code == 0, found.output
        assert json.loads(found.stdout)["comparison"]["compared"] == {"equal": 40}
        new = of_version(here, 2)
        assert concatenate(read_rest(new, "another")) == concatenate(before, read_rest(here))
        worker = new.start(app_version=2)
        wait_until(lambda: worker.stats().get("drained", False), 60, lambda: str(worker.stats()))
        assert concatenate(read_rest(new, "another")) == concatenate()
        assert worker.stop() == 0
