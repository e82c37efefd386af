"""`tierstream rebuild --as-of`: a version that continues from a point in time, and the announcements that it repeats."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from models.outputs import ANNOUNCEMENTS
from streams.topics import changelog_topic
from streams.versions.app_versions import AppVersions
from tests.integration.conftest import Broker
from tests.integration.harness import Site, site, wait_until
from tests.integration.test_rebuild import (
    POLICY,
    UNTIL,
    announced_by_replay,
    of_version,
    purchases_in_order,
    run,
    running,
)
from tests.integration.test_recovery import announced, replayed_by_journal


def time_of(here: Site, place: int) -> str:
    """The timestamp of the purchase with this place in the order of timestamps."""
    stamps = sorted(one.timestamp()[1] for one in here.read("purchases"))
    at = stamps[place]
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 1000)) + f".{at % 1000:03}Z"


@pytest.mark.kafka
def test_later_announcements_are_repeated_as_the_same_bytes(real_broker: Broker, tmp_path: Path) -> None:
    inputs = purchases_in_order(1_600)
    with site(real_broker.address, tmp_path, partitions=2, clock="event", policy=POLICY, max_batch=50) as here:
        serving = here.start()
        for end in (500, 1000):
            here.produce(inputs[end - 500 : end])
            here.wait_until_drained(end)
        before = announced(here)
        done = run(here, "rebuild", "--as-of", time_of(here, 500), "--to-version", "2", "--yes", "--json")
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert 0 < found["records"] <= 500
        assert found["records"] + found["left"] == 1000
        new = of_version(here, 2)
        second = new.start(app_version=2)
        wait_until(lambda: second.stats().get("drained", False), 60, lambda: str(second.stats()))
        assert second.stats()["events"] == found["left"]
        again = announced(new)
        counts = {name: sum(map(len, by_customer.values())) for name, by_customer in again.items()}
        assert sum(counts.values()) == found["announced_again"] > 0
        for name in ANNOUNCEMENTS:
            for customer, bodies in again[name].items():
                assert before[name][customer][-len(bodies) :] == bodies
        assert second.stop() == 0
        # From here on both versions announce the same.
        assert serving.stop() == 0
        here.produce(inputs[1000:])
        last = new.start(app_version=2, until=UNTIL)
        here.start(until=UNTIL)
        here.wait_until_drained(1200)
        assert new.latest("profiles") == here.latest("profiles")
        assert replayed_by_journal(new, tmp_path / "replayed") == announced(here)
        assert announced(here) == announced_by_replay(inputs, tmp_path)
        assert last.stop() == 0


@pytest.mark.kafka
def test_a_seek_that_was_killed_is_either_undone_or_done(real_broker: Broker, tmp_path: Path) -> None:
    with site(real_broker.address, tmp_path, partitions=2, clock="event", policy=POLICY, max_batch=50) as here:
        new = of_version(here, 2)
        here.produce(purchases_in_order(600))
        serving = here.start()
        here.wait_until_drained(600)
        arguments = ("rebuild", "--as-of", "2030-01-01T00:00:00Z", "--to-version", "2", "--yes", "--json")
        for death in ("streams.versions.seek:_add_offsets:1", "streams.versions.seek:commit:1"):
            with running(here, *arguments, DIE_AT=death) as (process, log):
                process.communicate(timeout=60)
                assert process.returncode == -signal.SIGKILL, log.read_text()
            assert here.read_topic(changelog_topic(new.settings)) == []
            assert new.read("journal") == []
        with running(here, *arguments, DIE_AT="streams.versions.rebuild_cli:say_json:1") as (process, log):
            process.communicate(timeout=60)
            assert process.returncode == -signal.SIGKILL, log.read_text()
        refused = run(here, *arguments)
        assert refused.exit_code == 1
        assert "version 2 has a table already" in refused.output
        second = new.start(app_version=2)
        wait_until(lambda: second.stats().get("drained", False), 60, lambda: str(second.stats()))
        assert (second.stats()["events"], second.stats()["customers"]) == (0, 40)
        assert all(found == {} for found in announced(new).values()), (
            "announcements of the old version are not repeated"
        )
        wait_until(lambda: new.latest("profiles") == here.latest("profiles"), 60, "profiles")
        busy = run(here, *arguments)
        assert busy.exit_code == 1
        assert f"workers of version 2 run in the group {new.settings.table_app_id}, 1 of them" in busy.output
        assert serving.page("healthz")[0] == 200
        assert second.stop() == 0


@pytest.mark.kafka
def test_a_version_from_the_beginning_is_compared_and_switched_to_by_rebuild(
    real_broker: Broker, tmp_path: Path
) -> None:
    with site(real_broker.address, tmp_path, partitions=1, clock="event", policy=POLICY) as here:
        here.produce(purchases_in_order(200))
        worker = here.start()
        here.wait_until_drained(200)
        assert worker.stop() == 0
        count = sum(len(bodies) for by_customer in announced(here).values() for bodies in by_customer.values())
        done = run(here, "rebuild", "--as-of", "beginning", "--to-version", "2", "--yes", "--json")
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert (found["records"], found["left"], found["announced_again"]) == (0, 200, count)
        rebuilt = run(here, "rebuild", "--to-version", "2", "--yes")
        assert rebuilt.exit_code == 0, rebuilt.output
        assert "All 40 customers are the same in versions 1 and 2" in rebuilt.output
        assert announced(of_version(here, 2)) == announced(here)
        assert AppVersions(here.settings).read_cut(of_version(here, 2).settings)
        wrong = run(here, "rebuild", "--as-of", "yesterday", "--to-version", "3", "--yes")
        assert wrong.exit_code == 2
        assert "yesterday" in wrong.output
