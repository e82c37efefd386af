"""The worker on a real Kafka writes the same bytes as a replay of the same log."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson
import pytest

import models
from models import units
from models.outputs import ANNOUNCEMENTS
from streams.sources.kafka_log import KafkaLog
from streams.sources.logs import LogFile
from streams.topics import INPUTS
from streams.view.customers import RedisView
from streams.view.queue import AlertQueue
from streams.workshop.replay.run import replay_logs
from tests.integration.conftest import Broker
from tests.integration.harness import PATIENT_MS, ROOT, InputRecord, Site, site, wait_until

sys.path.insert(0, str(ROOT / "scripts"))
import cdnow_log

UNTIL = "1998-07-01T00:00:00Z"
POLICY = "annual-spend"


def cdnow_inputs() -> list[InputRecord]:
    """CDNOW with made-up complaints, feedback and commands, some events twice, in the order of time; invalid ones last."""
    bought = cdnow_log.purchases()
    complaints, feedback = cdnow_log.made_up(bought)
    inputs: list[InputRecord] = [("purchases", one) for one in bought]
    inputs += [("complaints", one) for one in complaints] + [("feedback", one) for one in feedback]
    inputs += [("commands", one) for one in made_up_commands(bought)]
    chance = random.Random(7)
    inputs += [one for one in inputs if chance.random() < 0.02]
    rank = {topic: number for number, topic in enumerate(INPUTS)}
    inputs.sort(key=lambda one: (one[1]["occurred_at"], rank[one[0]]))  # type: ignore[index]
    return inputs + [("purchases", text.encode()) for text in cdnow_log.unusable()]


def made_up_commands(bought: list[dict[str, Any]]) -> list[dict[str, Any]]:
    customers = sorted({one["customer_id"] for one in bought})
    commands = []
    for number, customer_id in enumerate(customers[::97]):
        common = {"customer_id": customer_id, "actor": "tests"}
        commands.append(
            common
            | {"event_id": f"lock-{number}", "command": "lock_tier", "tier": "gold", "reason": "a friend of the house",
               "occurred_at": "1997-08-05T12:00:00Z"}
        )  # fmt: skip
        if number % 2:
            commands.append(
                common
                | {
                    "event_id": f"unlock-{number}",
                    "command": "unlock_tier",
                    "reason": "no longer",
                    "occurred_at": "1998-02-01T08:00:00Z",
                }
            )
        if number % 5 == 4:
            commands.append(
                common | {"event_id": f"erase-{number}", "command": "erase", "occurred_at": "1998-03-01T08:00:00Z"}
            )
    return commands


def replayed(inputs: list[InputRecord], folder: Path, policy: str = POLICY, until: str = UNTIL) -> Path:
    """Replay the log; returns the folder with the output files."""
    texts: dict[str, list[bytes]] = defaultdict(list)
    for topic, body in inputs:
        texts[topic].append(body if isinstance(body, bytes) else json.dumps(body).encode())
    paths = []
    for topic, of_topic in texts.items():
        path = folder / f"{topic}.jsonl"
        path.write_bytes(b"\n".join(of_topic) + b"\n")
        paths.append(path)
    replay_logs(
        [LogFile(path, number) for number, path in enumerate(paths)],
        models.load(policy),
        folder / "replayed",
        units.parse_time(until),
        progress=False,
    )
    return folder / "replayed"


def bodies_by_customer(path: Path) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = defaultdict(list)
    for line in path.read_bytes().splitlines():
        found[orjson.loads(line)["customer_id"]].append(line)
    return dict(found)


def profiles(path: Path) -> dict[str, bytes]:
    return {orjson.loads(line)["customer_id"]: line for line in path.read_bytes().splitlines()}


def assert_redis_equals(url: str, expected: dict[str, bytes], tiers: list[str]) -> None:
    """Redis has what the profiles have: customer by customer, tier by tier, and in the ranking."""

    async def compare() -> None:
        view = RedisView(url)
        try:
            wanted_members: dict[str, set[str]] = {tier: set() for tier in tiers}
            wanted_at_risk = {}
            for customer_id, body in expected.items():
                found = await view.customer(customer_id)
                profile = orjson.loads(body)
                assert found is not None, customer_id
                assert orjson.dumps(found["profile"]) == body
                assert found["tier"] == profile["tier"]
                assert found["risk_level"] == profile["risk"]["level"]
                assert found["seq"] == profile["seq"]
                wanted_members[profile["tier"]].add(customer_id)
                if profile["risk"]["level"] != "none":
                    wanted_at_risk[customer_id] = float(profile["risk"]["value_at_stake"])
            for tier, members in wanted_members.items():
                assert set(await view.members(tier, 0, 10_000)) == members
            ranked = await view.at_risk(0, 10_000)
            assert dict(ranked) == wanted_at_risk
            assert [stake for _, stake in ranked] == sorted(wanted_at_risk.values(), reverse=True)
            await compare_alerts(
                AlertQueue(view), {one: orjson.loads(body)["risk"]["alert"] for one, body in expected.items()}
            )
        finally:
            await view.redis.aclose()

    asyncio.run(compare())


async def compare_alerts(queue: AlertQueue, expected: dict[str, dict[str, Any] | None]) -> None:
    """Compare every customer's latest alert, and the queue of the alerts that nobody owns."""
    fields = ("number", "state", "owner", "breached", "deadline")
    for customer_id, alert in expected.items():
        found = await queue.alert(customer_id)
        assert (alert and [alert[name] for name in fields]) == (found and [found[name] for name in fields]), customer_id
    queued = await queue.page(count=10_000)
    assert {one["customer_id"] for one in queued.alerts} == {
        one for one, alert in expected.items() if alert is not None and alert["state"] == "open"
    }


def assert_announces_what_the_replay_did(here: Site, expected: Path, redis_url: str, *, repeats: bool = False) -> None:
    """Announcements, in order per customer, and the latest profiles are those of the replay, byte for byte; Redis has them.

    With `repeats` an announcement may be repeated later, as the same bytes; without, no repeat is allowed.
    """
    for topic in ANNOUNCEMENTS:
        found = here.by_customer(topic)
        if repeats:
            found = {customer: list(dict.fromkeys(bodies)) for customer, bodies in found.items()}
        assert found == bodies_by_customer(expected / f"{topic}.jsonl")
    wanted = profiles(expected / "profiles.jsonl")
    assert here.latest("profiles") == wanted
    assert_redis_equals(redis_url, wanted, [tier.name for tier in models.load(POLICY).ladder.tiers])


@pytest.mark.kafka
@pytest.mark.parametrize(("partitions", "workers"), [(1, 1), (3, 2), (8, 2)])
def test_the_worker_announces_the_replay_s_bytes_for_any_partitions_and_workers(
    partitions: int, workers: int, real_broker: Broker, redis: Any, tmp_path: Path
) -> None:
    inputs = cdnow_inputs()
    expected = replayed(inputs, tmp_path)
    with site(
        real_broker.address,
        tmp_path,
        partitions=partitions,
        policy=POLICY,
        clock="event",
        until=UNTIL,
        redis_url=redis.url,
        max_idle=PATIENT_MS,
    ) as here:
        here.produce(inputs)
        for _ in range(workers):
            here.start()
        here.wait_until_drained(len(inputs))
        assert_announces_what_the_replay_did(here, expected, redis.url)
        dead_letters = [
            (dict(one.headers())["reason"].decode(), one.value().decode()) for one in here.read("dead-letters")
        ]
        assert sorted(dead_letters) == sorted(
            (one["reason"], one["value"])
            for one in map(orjson.loads, (expected / "dead-letters.jsonl").read_bytes().splitlines())
        )
        assert [worker.stop() for worker in here.workers] == [0] * workers
        assert here.committed_equals_ends(INPUTS)
        out = tmp_path / "from-kafka"
        replay_logs([KafkaLog(here.settings)], models.load(POLICY), out, units.parse_time(UNTIL), progress=False)
        for name in ("tier-changes", "churn-risk", "profiles"):
            assert bodies_by_customer(out / f"{name}.jsonl") == bodies_by_customer(expected / f"{name}.jsonl")


@pytest.mark.kafka
def test_a_clean_restart_in_the_middle_changes_nothing_and_repeats_nothing(
    real_broker: Broker, redis: Any, tmp_path: Path
) -> None:
    inputs = cdnow_inputs()
    expected = replayed(inputs, tmp_path)
    half = len(inputs) // 2
    with site(
        real_broker.address,
        tmp_path,
        partitions=3,
        policy=POLICY,
        clock="event",
        redis_url=redis.url,
        max_idle=PATIENT_MS,
    ) as here:
        here.produce(inputs[:half])
        first = here.start()
        here.wait_until_drained(half)
        assert first.stop() == 0
        here.produce(inputs[half:])
        second = here.start(until=UNTIL)
        here.wait_until_drained(len(inputs) - half)
        assert_announces_what_the_replay_did(here, expected, redis.url)
        assert second.stats()["skipped"] == 0
        assert second.stop() == 0


@pytest.mark.kafka
def test_workers_killed_in_the_middle_announce_the_same_bytes_with_repeats(
    real_broker: Broker, redis: Any, tmp_path: Path
) -> None:
    inputs = cdnow_inputs()
    expected = replayed(inputs, tmp_path)
    chance = random.Random(3)
    with site(
        real_broker.address,
        tmp_path,
        partitions=3,
        policy=POLICY,
        clock="event",
        until=UNTIL,
        redis_url=redis.url,
        max_idle=PATIENT_MS,
        max_batch=100,
    ) as here:
        here.produce(inputs)
        for folded in (500, 2_000, 3_000):
            worker = here.start()
            folding = chance.randrange(folded)
            wait_until(lambda worker=worker, least=folding: worker.stats().get("events", 0) > least, 60, "folding")
            worker.process.kill()
            worker.process.wait()
        here.start()
        here.wait_until_drained(0)
        assert_announces_what_the_replay_did(here, expected, redis.url, repeats=True)


@pytest.mark.kafka
def test_workers_that_join_and_leave_in_the_middle_repeat_nothing(
    real_broker: Broker, redis: Any, tmp_path: Path
) -> None:
    inputs = cdnow_inputs()
    expected = replayed(inputs, tmp_path)
    with site(
        real_broker.address,
        tmp_path,
        partitions=4,
        policy=POLICY,
        clock="event",
        until=UNTIL,
        redis_url=redis.url,
        max_idle=PATIENT_MS,
        max_batch=5,
    ) as here:
        here.produce(inputs)
        first = here.start()
        wait_until(lambda: first.stats().get("events", 0) > 500, 60, "the first worker to fold")
        second = here.start()
        wait_until(lambda: second.stats().get("events", 0) > 200, 60, "the second worker to fold")
        assert first.stop() == 0
        here.wait_until_drained(0)
        assert_announces_what_the_replay_did(here, expected, redis.url)
        assert second.stop() == 0
        assert here.committed_equals_ends(INPUTS)
