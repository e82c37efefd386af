"""A policy is activated while workers fold: nothing is lost, and nothing is judged under the wrong policy."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient
from typer.testing import CliRunner, Result

from models import units
from streams.broker.embedded import EmbeddedRedis
from streams.cli import app
from streams.web.app import create_app
from streams.web.settings import load_console_settings
from streams.web.signin.people import set_user
from tests.builders import ms, shipped_text
from tests.integration.conftest import Broker
from tests.integration.harness import Site, site, wait_until
from tests.integration.test_recovery import announced, replayed_by_journal
from tests.integration.test_worker import purchase
from tests.web.people import PASSWORD

CUSTOMERS = 120
OWN, NEW = "annual-spend@1", "annual-spend@2"


class Shop:
    """A thread that produces purchases of all customers in turn, until it is closed."""

    def __init__(self, here: Site) -> None:
        self.here = here
        self.sold = 0
        self._is_open = True
        self._thread = threading.Thread(target=self._sell)
        self._thread.start()

    def _sell(self) -> None:
        while self._is_open:
            now = units.format_time(time.time_ns() // 1_000_000)
            numbers = range(self.sold, self.sold + 20)
            self.here.produce(
                ("purchases", purchase(n, f"c{n % CUSTOMERS}", now, amount=f"{10 + n % CUSTOMERS}.00", currency="USD"))
                for n in numbers
            )
            self.sold += len(numbers)
            time.sleep(0.1)

    def close(self) -> int:
        """Stop; returns how many purchases were produced."""
        self._is_open = False
        self._thread.join()
        return self.sold

    def __enter__(self) -> Shop:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def tierstream(here: Site, *arguments: str) -> Result:
    settings = here.settings
    environment = {
        "TIERSTREAM_BROKER": settings.broker, "TIERSTREAM_TOPIC_PREFIX": settings.topic_prefix, "USER": "mia",
        "TIERSTREAM_APP_ID": settings.app_id, "TIERSTREAM_PARTITIONS": str(settings.partitions), "TIERSTREAM_POLICY": "annual-spend",
        "COLUMNS": "160",
    }  # fmt: skip
    return CliRunner().invoke(app, ["policy", *arguments], env=environment)


@contextmanager
def queue_page(here: Site, folder: Path) -> Iterator[Callable[[], str]]:
    """A function that loads the console's page of the queue, as a signed-in agent."""
    set_user(folder / "users.toml", "lin", "agent", PASSWORD)
    own = load_console_settings(users_file=folder / "users.toml", keys_file=folder / "keys.toml")
    with TestClient(create_app(here.settings, own)) as client:
        client.headers["Accept"] = "text/html"
        client.post("/signin", data={"name": "lin", "password": PASSWORD, "after": ""})
        yield lambda: str(client.get("/queue").text)


def policies(here: Site) -> set[str]:
    return {json.loads(one)["policy"] for one in here.latest("profiles").values()}


@pytest.mark.kafka
def test_a_policy_is_activated_under_load_and_rolled_back(
    real_broker: Broker, redis: EmbeddedRedis, tmp_path: Path
) -> None:
    text = shipped_text("annual-spend").replace("version = 1", "version = 2", 1)
    new = tmp_path / "new.toml"
    new.write_text(text.replace('min_spend = "200.00"', 'min_spend = "400.00"').replace('"75.00"', '"30.00"'), "utf-8")
    new.write_text(new.read_text("utf-8").replace("budget = 40", "budget = 7", 1), "utf-8")
    with (
        site(
            real_broker.address,
            tmp_path,
            partitions=2,
            policy="annual-spend",
            profile_interval=100,
            redis_url=redis.url,
        ) as here,
        Shop(here) as shop,
        queue_page(here, tmp_path) as queue,
    ):
        first = here.start()
        wait_until(lambda: first.stats().get("events", 0) > 600, 60, "some events")

        # The command shows what would change and asks; without a terminal nobody can confirm.
        refused = tierstream(here, "activate", str(new))
        assert refused.exit_code == 2
        assert "nobody can confirm; give --yes" in refused.output
        assert "Customers by tier under each" in refused.output
        assert policies(here) == {OWN}

        done = tierstream(here, "activate", str(new), "--yes", "--reason", "gold is 400 now", "--no-diff")
        assert done.exit_code == 0, done.output
        assert f"{NEW} is in force as edition 1" in done.output
        # The worker dies while it judges the customers.
        first.process.kill()
        first.process.wait()
        second = here.start()
        wait_until(lambda: policies(here) == {f"{NEW}/1"}, 60, "all customers to be judged under the new policy")
        # The console uses the new policy too, without a restart.
        wait_until(lambda: "of 7 more today" in queue(), 60, "the console to use the new policy")
        sold = shop.close()
        here.wait_until_drained(0)
        changes = check(here, sold, [(OWN, ""), (f"{NEW}/1", activated_at(here, 1))])
        assert {one["cause"] for one in changes} >= {"edition-1"}
        assert replayed_by_journal(here, tmp_path / "replayed") == announced(here)
        assert second.stats()["policies_in_force"] == [NEW]

        # After all customers are judged, workers may be started with the new file, and with no other.
        second.stop()
        settled = here.start(policy=str(new))
        here.produce([("purchases", purchase(sold, "c0", now(), amount="1.00", currency="USD"))])
        wait_until(lambda: settled.stats().get("events", 0) == 1, 60, "the event to be folded")
        settled.stop()
        other = here.start(policy="subscription-like")
        assert other.process.wait(60) == 1
        assert (
            f"made under policy {OWN}, and {NEW} is in force, but TIERSTREAM_POLICY is subscription-like@1"
            in other.log_tail()
        )
        here.workers.remove(other)

        # The first policy is restored.
        here.start()
        back = tierstream(here, "rollback", "--yes", "--no-diff", "--reason", "a mistake")
        assert back.exit_code == 0, back.output
        wait_until(lambda: policies(here) == {f"{OWN}/2"}, 60, "all customers to be judged under the old policy")
        wait_until(lambda: "of 40 more today" in queue(), 60, "the console to use the old policy again")
        here.wait_until_drained(0)
        check(here, sold + 1, [(OWN, ""), (f"{NEW}/1", activated_at(here, 1)), (f"{OWN}/2", activated_at(here, 2))])
        assert replayed_by_journal(here, tmp_path / "again") == announced(here)
        history = json.loads(tierstream(here, "history", "--json").output)
        assert [(one["edition"], one["policy"], one["by"], one["reason"]) for one in history] == [
            (0, OWN, "", ""), (1, NEW, "mia", "gold is 400 now"), (2, OWN, "mia", "a mistake"),
        ]  # fmt: skip
        assert not here.read("dead-letters")


def now() -> str:
    return units.format_time(time.time_ns() // 1_000_000)


def activated_at(here: Site, number: int) -> str:
    """The time from which an edition is in force; it is the same in every partition."""
    bodies = [json.loads(one.value() or b"") for one in here.read("commands")]
    times = [one["occurred_at"] for one in bodies if one["edition"] == number]
    assert len(times) == 2
    assert len(set(times)) == 1
    return str(times[0])


def check(here: Site, sold: int, in_force: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Every event is counted once. No announcement under a policy happened before the instant from which that policy is in
    force. In each partition, after the first announcement under a policy, those that follow under an older one happened
    by that instant. Returns all announcements.
    """
    profiles = [json.loads(one) for one in here.latest("profiles").values()]
    assert sum(one["lifetime"]["orders"] for one in profiles) == sold
    names, since_ms = [name for name, _ in in_force], [ms(at) if at else 0 for _, at in in_force]
    changes: list[dict[str, Any]] = []
    for topic in ("tier-changes", "churn-risk", "alerts"):
        latest: dict[int, int] = {}
        for record in here.read(topic):
            body = json.loads(record.value() or b"")
            changes.append(body)
            place, at_ms = names.index(body["policy"]), ms(body["occurred_at"])
            seen = latest[record.partition()] = max(latest.get(record.partition(), 0), place)
            assert at_ms >= since_ms[place], body
            assert place == seen or at_ms <= since_ms[place + 1], body
    return changes


def test_a_policy_that_can_not_follow_is_refused_before_anything_is_sent(broker: Broker, tmp_path: Path) -> None:
    with site(broker.address, tmp_path, embedded=not broker.is_real, partitions=2) as here:
        here.start().stop()
        same = tierstream(here, "activate", "annual-spend", "--yes")
        assert same.exit_code == 2
        assert "it is in force" in same.output
        other = tierstream(here, "activate", "subscription-like", "--yes", "--no-diff")
        assert other.exit_code == 2
        assert "it has no tier member, silver, gold, platinum" in other.output
        assert "TIERSTREAM_APP_VERSION" in other.output
        nothing = tierstream(here, "rollback", "--yes")
        assert nothing.exit_code == 2
        assert "no policy was activated" in nothing.output
        assert not here.read("commands")
