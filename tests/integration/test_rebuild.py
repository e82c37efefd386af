"""`tierstream rebuild`: a version built beside the one that serves, compared, cut, and what readers see of all that."""

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
from tests.integration.harness import ROOT, Line, Site, site, wait_until
from tests.integration.test_recovery import shuffled_purchases
from tests.integration.test_worker import purchase
from tests.integration.test_worker_equals_replay import bodies_by_customer, replayed

UNTIL = "2026-06-01T00:00:00Z"
POLICY = "annual-spend"
READER = "reader"
Announced = dict[str, dict[str, list[bytes]]]
"""Bodies by topic and customer, in order."""


def in_order(count: int) -> list[Line]:
    return sorted(shuffled_purchases(count), key=lambda line: line[1]["occurred_at"])  # type: ignore[index]


def of_version(here: Site, number: int, **changed: Any) -> Site:
    """The installation as another app version sees it."""
    changed |= {"app_version": number}
    return Site(here.settings.model_copy(update=changed), here.folder, here.workers)


def run(here: Site, *arguments: str) -> Result:
    environment = os.environ | here.settings.environment() | {"PYTHONPATH": str(ROOT)}
    return CliRunner().invoke(cli, list(arguments), env=environment)


@contextmanager
def running(here: Site, *arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A command beside the test, and the file of what it says to people."""
    said = here.folder / "said.txt"
    inherited = os.environ | here.settings.environment() | {"PYTHONPATH": str(ROOT)}
    with said.open("wb") as sink:
        command = [sys.executable, "-m", "tests.integration.dying", *arguments]
        process = subprocess.Popen(command, env=inherited | environment, stdout=subprocess.PIPE, stderr=sink)
    try:
        yield process, said
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def read_on(here: Site, group: str = READER) -> Announced:
    """What a consumer of a group sees in the announcements that it has not seen, to their ends; it commits that."""
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
        assert message is not None, "no answer"
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


def together(*parts: Announced) -> Announced:
    """What was seen one part after the other."""
    whole: Announced = {name: defaultdict(list) for name in ANNOUNCEMENTS}
    for part in parts:
        for name, by_customer in part.items():
            for customer, bodies in by_customer.items():
                whole[name][customer] += bodies
    return {name: dict(by_customer) for name, by_customer in whole.items()}


def announced_by_replay(lines: list[Line], folder: Path, policy: str = POLICY) -> Announced:
    out = replayed(lines, folder, policy, UNTIL)
    return {name: bodies_by_customer(out / f"{name}.jsonl") for name in ANNOUNCEMENTS}


@pytest.mark.kafka
@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
def test_readers_that_move_to_a_rebuilt_version_see_every_announcement_once(
    delivery: str, real_broker: Broker, tmp_path: Path
) -> None:
    lines = in_order(2_400)
    with site(
        real_broker.address, tmp_path, partitions=2, clock="event", policy=POLICY, max_batch=50, delivery=delivery
    ) as here:
        new, group = of_version(here, 2), f"{here.settings.app_id}-{READER}"
        here.produce(lines[:1000])
        serving = here.start()
        here.wait_until_drained(1000)
        seen = [read_on(here)]
        with running(here, "rebuild", "--to-version", "2", "--yes", "--json", "--group", group) as (rebuilding, said):
            wait_until(lambda: "stop the workers of version 1 now" in said.read_text(), 120, said.read_text)
            # Records that arrive now are folded by the old version only when it stops.
            here.produce(lines[1000:1500])
            here.wait_until_drained(1500)
            assert serving.stop() == 0
            here.produce(lines[1500:1800])
            out = rebuilding.communicate(timeout=120)[0]
            assert rebuilding.returncode == 1, said.read_text()
        first = json.loads(out)
        assert first["comparison"]["compared"] == {"equal": 40}
        assert [(one["has_gone_over"], one["group"]) for one in first["readers"]] == [(False, group)]
        assert "still to read" in first["readers"][0]["what"]
        seen.append(read_on(here))
        again = run(here, "rebuild", "--to-version", "2", "--yes", "--json", "--group", group)
        assert again.exit_code == 0, again.output
        assert json.loads(again.stdout)["positions"] == first["positions"]
        assert json.loads(again.stdout)["readers"][0]["has_gone_over"]
        assert AppVersions(here.settings).readers(new.settings) == [group]
        new.start(until=UNTIL, app_version=2)
        here.produce(lines[1800:])
        here.wait_until_drained(900)
        seen.append(read_on(new))
        assert all(sum(map(len, part["tier-changes"].values())) for part in seen)
        assert together(*seen) == announced_by_replay(lines, tmp_path)


@pytest.mark.kafka
def test_an_activated_policy_is_in_force_in_a_rebuilt_version_and_can_be_undone(
    real_broker: Broker, tmp_path: Path
) -> None:
    lines, mine = in_order(1_200), tmp_path / "mine.toml"
    text = shipped_text(POLICY).replace("version = 1", "version = 2", 1)
    mine.write_text(text.replace('min_spend = "200.00"', 'min_spend = "400.00"'), "utf-8")
    middle, late = lines[600][1]["occurred_at"], lines[1000][1]["occurred_at"]  # type: ignore[index]
    with site(real_broker.address, tmp_path, partitions=2, clock="event", policy=POLICY, max_batch=50) as here:
        new, group = of_version(here, 2), f"{here.settings.app_id}-{READER}"
        here.produce(lines[:600])
        serving = here.start()
        here.wait_until_drained(600)
        done = run(
            here, "policy", "activate", str(mine), "--at", middle, "--yes", "--no-diff", "--reason", "gold is 400"
        )
        assert done.exit_code == 0, done.output
        here.produce(lines[600:900])
        here.wait_until_drained(900)
        assert serving.stop() == 0
        seen = [read_on(here)]
        rebuilt = run(here, "rebuild", "--to-version", "2", "--yes", "--json", "--group", group)
        assert rebuilt.exit_code == 0, rebuilt.output
        assert json.loads(rebuilt.stdout)["comparison"]["compared"] == {"equal": 40}

        new.start(app_version=2)
        here.produce(lines[900:1000])
        here.wait_until_drained(100)
        # The commands of the new version know the policy in force, too.
        history = json.loads(run(new, "policy", "history", "--json").output)
        assert [(one["edition"], one["policy"]) for one in history] == [(0, "annual-spend@1"), (1, "annual-spend@2")]
        back = run(new, "policy", "rollback", "--at", late, "--yes", "--no-diff")
        assert back.exit_code == 0, back.output
        assert "annual-spend@1 is in force as edition 2" in back.output
        anew = purchase(5_000, "new", "2026-01-02T00:00:00Z", amount="250.00", currency="USD")
        here.produce([*lines[1000:], ("purchases", anew)])  # gold under the old one, and not under the other

        def profiles() -> set[str]:
            return {json.loads(one)["policy"] for one in new.latest("profiles").values()}

        wait_until(lambda: profiles() == {"annual-spend@1/2"}, 60, "everybody is judged under the old one again")
        here.wait_until_drained(301)
        seen.append(read_on(new))
        bodies = [
            [orjson.loads(body) for topic in whole.values() for body in topic.get(who, ())]
            for whole in [together(*seen)]
            for who in {who for topic in whole.values() for who in topic}
        ]
        assert {one["policy"] for of_one in bodies for one in of_one} == {
            "annual-spend@1", "annual-spend@2/1", "annual-spend@1/2",
        }  # fmt: skip
        for of_one in bodies:
            # Every number once, and none is missing.
            assert sorted(one["seq"] for one in of_one) == list(range(1, len(of_one) + 1))


@pytest.mark.kafka
def test_a_rebuild_that_was_killed_continues_and_has_one_complete_cut(real_broker: Broker, tmp_path: Path) -> None:
    lines = in_order(1_500)
    with site(real_broker.address, tmp_path, partitions=3, clock="event", policy=POLICY, max_batch=40) as here:
        new, group = of_version(here, 2), f"{here.settings.app_id}-{READER}"
        here.produce(lines[:700])
        serving = here.start()
        here.wait_until_drained(700)
        here.produce(lines[700:900])
        here.wait_until_drained(900)
        assert serving.stop() == 0
        seen = [read_on(here)]
        arguments = ("rebuild", "--to-version", "2", "--yes", "--json", "--group", group)
        deaths = (
            "streams.versions.rebuild:compare:1",
            "streams.versions.offline_partition:OfflinePartition.fold_up_to:4",
            "streams.worker.delivery:Delivery.append_state:2",
            "streams.versions.app_versions:AppVersions.record_cut:1",
        )
        for number, death in enumerate(deaths):
            # Whenever it is killed, both versions are behind the inputs, each by other records.
            here.produce(lines[900 + 50 * number : 950 + 50 * number])
            with running(here, *arguments, DIE_AT=death) as (process, said):
                process.communicate(timeout=120)
                assert process.returncode == -signal.SIGKILL, (death, said.read_text())
            assert AppVersions(here.settings).read_cut(new.settings) == {}
        done = run(here, *arguments)
        assert not json.loads(done.stdout)["readers"][0]["has_gone_over"], done.output
        seen.append(read_on(here))
        assert run(here, *arguments).exit_code == 0
        new.start(until=UNTIL, app_version=2)
        here.produce(lines[1100:])
        here.wait_until_drained(301)
        seen.append(read_on(new))
        assert together(*seen) == announced_by_replay(lines, tmp_path)


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
        gone = run(here, "rebuild", "--to-version", "2", "--abort", "--yes")
        assert gone.exit_code == 0, gone.output
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
        here.produce(in_order(300))
        group = of_version(here, 2).settings.table_app_id
        with running(here, "rebuild", "--to-version", "2", "--yes", "--json") as (rebuilding, said):
            wait_until(lambda: bool(AppVersions(here.settings).members(group)), 60, said.read_text)
            rebuilding.send_signal(number)
            assert rebuilding.wait(60) == 130, said.read_text()
            assert "run this again to continue" in said.read_text()
        assert AppVersions(here.settings).members(group) == []
        again = run(here, "rebuild", "--to-version", "2", "--yes")
        assert again.exit_code == 0, again.output
        assert "continues version 2" in again.output
        assert "All 0 customers are the same" not in again.output
        assert run(here, "rebuild", "--to-version", "2", "--abort", "--yes").exit_code == 1, "it was switched to"


@pytest.mark.kafka
def test_a_version_that_can_not_be_built_is_refused_with_what_to_do(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=1, clock="event", policy=POLICY) as here:
        for arguments, said in (
            (("--to-version", "1"), "version 1 is not a later one: TIERSTREAM_APP_VERSION is 1"),
            (("--to-version", "2", "--policy", "pyramid"), "which both versions read"),
            (("--to-version", "2", "--policy", "nothing.toml"), "nothing.toml"),
            (("--to-version", "2", "--wait", "soon"), "soon"),
        ):
            refused = run(here, "rebuild", "--yes", *arguments)
            assert refused.exit_code in (1, 2), refused.output
            assert said in refused.output
            assert "Traceback" not in refused.output
        assert AppVersions(here.settings).own_topics(of_version(here, 2).settings) == []


@pytest.mark.kafka
def test_by_the_wall_clock_too_versions_are_compared_and_cut_at_one_instant(
    real_broker: Broker, tmp_path: Path
) -> None:
    with site(real_broker.address, tmp_path, partitions=1, policy=POLICY) as here:
        here.produce(in_order(600))
        serving = here.start()
        here.wait_until_drained(600)
        assert serving.stop() == 0
        before = read_on(here)
        found = run(here, "rebuild", "--to-version", "2", "--yes", "--json")
        assert found.exit_code == 0, found.output
        assert json.loads(found.stdout)["comparison"]["compared"] == {"equal": 40}
        new = of_version(here, 2)
        assert together(read_on(new, "another")) == together(before, read_on(here))
        worker = new.start(app_version=2)
        wait_until(lambda: worker.stats().get("drained", False), 60, lambda: str(worker.stats()))
        assert together(read_on(new, "another")) == together()
        assert worker.stop() == 0
