"""The client on a real Kafka: repeats on purpose, gaps, kills, rebalances, and a broker that stops for a while."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient

from models.contracts import Erasure, RiskChange, TierChange
from streams.client.changes import Changes, Gap, Unreadable, churn_risk, raise_gap, tier_changes
from streams.client.connection import ClientError
from tests.builders import DAY, cdnow, erase, ms, policy_text, rfc3339
from tests.chaos import broker as own_broker
from tests.chaos.proxy import Proxy
from tests.integration.conftest import Broker
from tests.integration.harness import ROOT, InputRecord, Site, free_port, site, wait_until
from tests.integration.test_worker import purchase
from tests.outputs import bodies
from tests.running import Fold, policy_of

Announced = tuple[str, str, bytes]
"""Topic, customer, body."""
IDLE = 1.0
"""Seconds without a record after which a reader stops, counted from when the group is complete. `collect` asks again for
records that take longer.
"""
PATIENCE = 60.0


@pytest.fixture(scope="module")
def all_announcements() -> list[Announced]:
    """What a policy announces about two hundred customers, in order of time; one is erased."""
    log = cdnow()
    customers = sorted({wire["customer_id"] for wire in log})[:200]
    fold = Fold(policy_of(policy_text()))
    for wire in log:
        if wire["customer_id"] in customers:
            fold.apply(wire)
    fold.apply(erase(customers[0], on=ms("1999-01-01")))
    fold.advance(ms("2000-01-01"))
    found = [(topic, json.loads(body)["customer_id"], body) for topic, body in bodies(fold.outputs)]
    assert len(on("tier-changes", found)) > 300
    return sorted(found, key=lambda one: json.loads(one[2])["occurred_at"])


pytestmark = pytest.mark.kafka


@pytest.fixture
def here(real_broker: Broker, tmp_path: Path) -> Iterator[Site]:
    with site(real_broker.address, tmp_path) as created:
        yield created


def announce(here: Site, announcements: Iterable[Announced], **options: Any) -> None:
    """Write announcements to their topics as a worker does."""
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": here.settings.broker, "partitioner": "murmur2_random"} | options
    )
    for topic, customer_id, body in announcements:
        producer.produce(here.settings.topic(topic), key=customer_id, value=body)
    assert producer.flush(30) == 0


def on(topic: str, announcements: Iterable[Announced]) -> list[Announced]:
    return [one for one in announcements if one[0] == topic]


def seqs(announcements: Iterable[Announced]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for _, customer_id, body in announcements:
        found[customer_id].append(json.loads(body)["seq"])
    return dict(found)


def got(changes: Iterable[Any]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for change in changes:
        found[change.customer_id].append(change.seq)
    return dict(found)


def collect(changes: Iterable[Any], count: int) -> list[Any]:
    """Collect changes until there are at least `count` and no more arrive; ask again if the broker is slow."""
    found: list[Any] = []
    deadline = time.monotonic() + PATIENCE
    while True:
        found += changes
        if len(found) >= count or time.monotonic() > deadline:
            return found


def options(here: Site, **more: Any) -> dict[str, Any]:
    return {"broker": here.settings.broker, "topic_prefix": here.settings.topic_prefix, "idle_seconds": IDLE} | more


# ---------------------------------------------------------------- reading
def test_announcements_are_delivered_as_classes_once_and_in_order_per_customer(
    here: Site, all_announcements: list[Announced]
) -> None:
    announce(here, all_announcements)
    with tier_changes(group="app", **options(here)) as changes:
        tiers = collect(changes, len(on("tier-changes", all_announcements)))
    with churn_risk(**options(here)) as risks:
        levels = collect(risks, len(on("churn-risk", all_announcements)))
    assert got(tiers) == seqs(on("tier-changes", all_announcements))
    assert got(levels) == seqs(on("churn-risk", all_announcements))
    assert Counter(map(type, tiers)) == {TierChange: len(tiers) - 1, Erasure: 1}
    assert {type(one) for one in levels} == {RiskChange}
    assert all(one.value_at_stake >= 0 for one in levels)


def test_announcements_repeated_after_crashes_are_delivered_once(
    here: Site, all_announcements: list[Announced]
) -> None:
    chance = random.Random(4)
    log: list[Announced] = []
    for first in range(0, len(all_announcements), 50):
        batch = all_announcements[first : first + 50]
        for _ in range(chance.randrange(3)):
            log += batch[: chance.randrange(len(batch) + 1)]
        log += batch
    assert len(log) > len(all_announcements) * 1.3
    announce(here, log)
    with tier_changes(group="app", on_gap=raise_gap, **options(here)) as changes:
        assert got(collect(changes, len(on("tier-changes", all_announcements)))) == seqs(
            on("tier-changes", all_announcements)
        )


def test_announcements_repeated_while_the_client_is_away_are_not_delivered_again(
    here: Site, all_announcements: list[Announced]
) -> None:
    tiers = on("tier-changes", all_announcements)
    announce(here, tiers[:100])
    with tier_changes(group="app", **options(here)) as changes:
        before = collect(changes, 100)
    stays_open = tier_changes(**options(here))
    assert got(collect(stays_open, 100)) == got(before)
    announce(here, [*tiers[50:100], *tiers[100:]])
    with tier_changes(group="app", on_gap=raise_gap, **options(here)) as changes:
        assert got(collect(changes, len(tiers) - 100)) == seqs(tiers[100:])
    position = json.loads(json.dumps(stays_open.position))
    with tier_changes(from_position=position, on_gap=raise_gap, **options(here)) as changes:
        assert got(collect(changes, len(tiers) - 100)) == seqs(tiers[100:])
    assert got(collect(stays_open, len(tiers) - 100)) == seqs(tiers[100:])  # one that stayed open, too
    stays_open.close()


def test_announcements_of_a_worker_killed_after_its_outputs_are_delivered_once(
    real_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every customer rises step by step, one after another, so that each batch announces something.
    amounts = ("20000.00", "40000.00", "90000.00", "500000.00")
    inputs: list[InputRecord] = [
        ("purchases", purchase(n, f"c{n // 4}", amount=amounts[n % 4], at=rfc3339(ms("2026-01-01") + n * DAY // 8)))
        for n in range(1_200)
    ]
    with site(
        real_broker.address, tmp_path, partitions=2, clock="event", max_batch=100, delivery="at-least-once"
    ) as here:
        here.produce(inputs)
        reading: dict[str, Any] = options(here) | {"group": "app", "on_gap": raise_gap}
        found: dict[str, list[int]] = defaultdict(list)
        for batches in (2, 1, 3):
            monkeypatch.setenv("CHAOS_KILL", f"outputs:{batches}")
            killed = here.start(module="tests.chaos.worker")
            assert killed.process.wait(60) == -signal.SIGKILL, killed.log_tail()
            with tier_changes(**reading) as changes:
                for change in changes:
                    found[change.customer_id].append(change.seq)
        monkeypatch.delenv("CHAOS_KILL")
        here.start()
        here.wait_until_drained(0)
        with tier_changes(**reading) as changes:
            for change in collect(changes, len(inputs) // 2 - sum(map(len, found.values()))):
                found[change.customer_id].append(change.seq)
        raw = here.by_customer("tier-changes")
        ids = [json.loads(body)["id"] for one in raw.values() for body in one]
        assert found == {
            customer_id: sorted({json.loads(body)["seq"] for body in one}) for customer_id, one in raw.items()
        }
        assert len(set(ids)) == 2 * len(inputs) // 4
        assert len(ids) > len(set(ids)) + 30, "hardly anything was repeated"


def test_aborted_announcements_are_not_delivered(here: Site, all_announcements: list[Announced]) -> None:
    tiers = on("tier-changes", all_announcements)
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": here.settings.broker, "transactional.id": here.settings.app_id}
    )
    producer.init_transactions(30)
    for is_committed in (False, True, False):
        producer.begin_transaction()
        for topic, customer_id, body in tiers:
            producer.produce(here.settings.topic(topic), key=customer_id, value=body)
        assert producer.flush(30) == 0
        (producer.commit_transaction if is_committed else producer.abort_transaction)(30)
    with tier_changes(on_gap=raise_gap, **options(here)) as changes:
        assert got(collect(changes, len(tiers))) == seqs(tiers)


# ---------------------------------------------------------------- gaps
def with_one_missing(all_announcements: list[Announced]) -> tuple[list[Announced], Announced, int]:
    """Tier changes without one of them, that one, and the `seq` of the customer's next one."""
    tiers = on("tier-changes", all_announcements)
    for number, one in enumerate(tiers):
        after = [json.loads(body) for _, customer_id, body in tiers[number + 1 :] if customer_id == one[1]]
        if after and json.loads(one[2])["previous_seq"]:
            return [*tiers[:number], *tiers[number + 1 :]], one, after[0]["seq"]
    raise AssertionError("no customer has three tier changes")


def test_a_gap_is_logged_and_the_announcement_is_still_delivered(
    here: Site, all_announcements: list[Announced], caplog: pytest.LogCaptureFixture
) -> None:
    log, (_, customer_id, body), _ = with_one_missing(all_announcements)
    announce(here, log)
    with caplog.at_level(logging.WARNING, "streams.client.changes"), tier_changes(**options(here)) as changes:
        assert got(collect(changes, len(log))) == seqs(log)
    (message,) = [record.getMessage() for record in caplog.records if record.name == "streams.client.changes"]
    missing = json.loads(body)
    assert f"of customer {customer_id!r} announcement {missing['seq']} should have come before" in message
    assert f"the latest seen is {missing['previous_seq']}" in message


def test_a_gap_may_be_raised_and_skipped(here: Site, all_announcements: list[Announced]) -> None:
    log, (_, customer_id, body), after = with_one_missing(all_announcements)
    announce(here, log)
    with tier_changes(on_gap=raise_gap, **options(here)) as changes:
        with pytest.raises(Gap) as raised:
            collect(changes, len(log))
        gap = raised.value
        assert (gap.customer_id, gap.previous_seq, gap.change.seq) == (customer_id, json.loads(body)["seq"], after)
        assert gap.seen == json.loads(body)["previous_seq"]
        rest = list(changes)
        assert all(one.id != gap.change.id for one in rest)


def test_a_gap_across_a_restart_is_noticed(here: Site, all_announcements: list[Announced]) -> None:
    log, (_, customer_id, _), after = with_one_missing(all_announcements)
    at = next(number for number, one in enumerate(log) if one[1] == customer_id and json.loads(one[2])["seq"] == after)
    announce(here, log[:at])
    with tier_changes(group="app", on_gap=raise_gap, **options(here)) as changes:
        collect(changes, at)
    announce(here, log[at:])
    gaps: list[Gap] = []
    with tier_changes(group="app", on_gap=gaps.append, **options(here)) as changes:
        assert got(collect(changes, len(log) - at)) == seqs(log[at:])
    assert [(gap.customer_id, gap.change.seq) for gap in gaps] == [(customer_id, after)]


def test_a_record_that_breaks_the_contract_is_named_and_can_be_skipped(
    here: Site, all_announcements: list[Announced]
) -> None:
    first, second = on("tier-changes", all_announcements)[:2]
    body = json.loads(first[2])
    del body["previous_seq"]
    announce(here, [(first[0], "ada", json.dumps(body).encode()), (*second[:1], "ada", second[2])])
    with tier_changes(**options(here)) as changes:
        with pytest.raises(Unreadable, match=r"tier-changes, partition \d, offset 0: .*previous_seq.*older than"):
            next(changes)
        assert next(changes).seq == json.loads(second[2])["seq"]


# ---------------------------------------------------------------- resuming
def consumer(here: Site, how: str, seconds: float = 0.0) -> subprocess.Popen[bytes]:
    arguments = [how, here.settings.broker, here.settings.topic_prefix, str(here.folder), str(seconds)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.consumer", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )


def wait_for_end(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    errors = process.communicate(timeout=60)[1].decode()
    return process.returncode, errors


def recorded(here: Site) -> list[tuple[str, int]]:
    path = here.folder / "got"
    if not path.exists():
        return []
    lines = path.read_text("utf-8").splitlines()
    return [(line.split()[0], int(line.split()[1])) for line in lines if len(line.split()) == 2]


def kept(here: Site) -> list[tuple[str, int]]:
    path = here.folder / "kept.db"
    if not path.exists():
        return []
    with sqlite3.connect(path) as database:
        exists = database.execute("select count(*) from sqlite_master where name = 'got'").fetchone() == (1,)
        return database.execute("select customer_id, seq from got").fetchall() if exists else []


def everything(all_announcements: list[Announced]) -> list[tuple[str, int]]:
    return sorted((customer_id, seq) for customer_id, of_one in seqs(all_announcements).items() for seq in of_one)


def test_after_kills_at_any_moment_nothing_is_missing_with_a_group(
    here: Site, all_announcements: list[Announced]
) -> None:
    tiers = on("tier-changes", all_announcements)
    announce(here, tiers)
    for reached in (len(tiers) // 3, 2 * len(tiers) // 3):
        process = consumer(here, "group", 0.01)
        try:
            wait_until(lambda reached=reached: len(set(recorded(here))) >= reached, 60, "items")  # type: ignore[misc]
        finally:
            process.kill()
            wait_for_end(process)
    process = consumer(here, "group")
    try:
        wait_until(
            lambda: len(set(recorded(here))) >= len(tiers), 60, lambda: f"{len(set(recorded(here)))} of {len(tiers)}"
        )
        process.terminate()
        assert wait_for_end(process) == (0, "")
    finally:
        process.kill()
    assert (here.folder / "ended").exists()
    assert sorted(set(recorded(here))) == everything(tiers)


def test_after_kills_at_any_moment_kept_positions_give_everything_exactly_once(
    here: Site, all_announcements: list[Announced]
) -> None:
    tiers = on("tier-changes", all_announcements)
    announce(here, [*tiers[:200], *tiers[150:200], *tiers[200:]])
    for reached in (0, 100, 170, len(tiers) // 2, len(tiers)):
        process = consumer(here, "position", 0.002)
        try:
            wait_until(lambda reached=reached: len(kept(here)) >= reached, 60, "items")  # type: ignore[misc]
            time.sleep(0.3)
        finally:
            process.kill()
            wait_for_end(process)
    assert sorted(kept(here)) == everything(tiers)


def test_ctrl_c_ends_at_once_and_the_announcement_in_progress_comes_again(
    here: Site, all_announcements: list[Announced]
) -> None:
    tiers = on("tier-changes", all_announcements)
    announce(here, tiers)
    process = consumer(here, "group", 0.5)
    try:
        wait_until(lambda: len(recorded(here)) >= 3, 60, "items")
        process.send_signal(signal.SIGINT)
        status, errors = wait_for_end(process)
    finally:
        process.kill()
    assert status in (130, -signal.SIGINT)
    assert errors.count("Traceback") == 1, errors  # Python's own, for the interrupt
    first = recorded(here)
    with tier_changes(group="app", **options(here)) as changes:
        second = [(change.customer_id, change.seq) for change in collect(changes, len(tiers) - len(first))]
    assert sorted(first + second) == everything(tiers)  # the one in progress was not recorded, and is not lost


def test_a_reader_that_starts_at_the_end_misses_nothing_after_that(
    here: Site, all_announcements: list[Announced]
) -> None:
    tiers = on("tier-changes", all_announcements)
    announce(here, tiers[:50])
    with tier_changes(group="app", start="end", **options(here)) as changes:
        assert list(changes) == []
    announce(here, tiers[50:60])
    with tier_changes(group="app", start="end", **options(here)) as changes:
        assert got(collect(changes, 10)) == seqs(tiers[50:60])


def test_records_deleted_before_they_were_read_are_reported(here: Site, all_announcements: list[Announced]) -> None:
    tiers = on("tier-changes", all_announcements)
    announce(here, tiers[:100])
    changes: Changes[Any] = tier_changes(**options(here))
    next(changes)
    position = changes.position
    changes.close()
    assert list(changes) == []
    topic = here.settings.topic("tier-changes")
    ends = {number: 0 for number in position}
    for message in here.read("tier-changes"):
        ends[message.partition()] = message.offset() + 1
    deleted = [confluent_kafka.TopicPartition(topic, number, end) for number, end in ends.items()]
    admin = AdminClient({"bootstrap.servers": here.settings.broker})
    for future in admin.delete_records(deleted).values():
        future.result(30)
    with pytest.raises(ClientError, match=r"is to be read from offset \d+, but has \d+ to \d+: records were deleted"):
        tier_changes(from_position=position, **options(here))
    with pytest.raises(ClientError, match="the topic was made anew"):
        tier_changes(from_position=dict.fromkeys(position, 10_000), **options(here))


def test_a_missing_topic_is_named(here: Site) -> None:
    with pytest.raises(ClientError, match=r"there is no topic nowhere-tier-changes .*TIERSTREAM_TOPIC_PREFIX"):
        tier_changes(broker=here.settings.broker, topic_prefix="nowhere-", group="app")


# ---------------------------------------------------------------- groups and brokers
def test_members_share_the_partitions_and_together_get_everything_once(
    here: Site, all_announcements: list[Announced]
) -> None:
    tiers = on("tier-changes", all_announcements)
    announce(here, tiers[: len(tiers) // 2])
    found: list[list[tuple[str, int]]] = [[], []]
    members: list[Changes[Any]] = []
    threads: list[threading.Thread] = []
    troubles: list[BaseException] = []

    def join(into: list[tuple[str, int]]) -> None:
        member: Changes[Any] = tier_changes(group="app", on_gap=raise_gap, **options(here, idle_seconds=None))
        members.append(member)

        def follow() -> None:
            try:
                with member:
                    for change in member:
                        into.append((change.customer_id, change.seq))
            except BaseException as trouble:
                troubles.append(trouble)

        threads.append(threading.Thread(target=follow))
        threads[-1].start()

    try:
        join(found[0])
        wait_until(lambda: len(found[0]) == len(tiers) // 2, 60, "the first member has the first half")
        join(found[1])
        # Both have some of the partitions before the rest is announced.
        wait_until(lambda: all(0 < len(member.position) < here.settings.partitions for member in members), 60, "shares")
        announce(here, tiers[len(tiers) // 2 :])
        wait_until(lambda: sum(map(len, found)) >= len(tiers) or bool(troubles), 60, "everything")
    finally:
        for member in members:
            member.stop()
        for thread in threads:
            thread.join(30)
    assert troubles == []
    assert all(found)
    assert sorted(found[0] + found[1]) == everything(tiers)


def test_a_client_waits_for_a_broker_that_is_away(
    tmp_path: Path, all_announcements: list[Announced], caplog: pytest.LogCaptureFixture, real_broker: Broker
) -> None:
    tiers = on("tier-changes", all_announcements)
    found: list[tuple[str, int]] = []
    troubles: list[BaseException] = []
    with Proxy(free_port()) as proxy:
        broker = own_broker.Broker(tmp_path / "kafka", proxy)
        own_broker.finish(broker.steps_to_start())
        try:
            with site(proxy.address, tmp_path) as here, caplog.at_level(logging.INFO, "streams.client.following"):
                announce(here, tiers[:100])
                member = tier_changes(group="app", on_gap=raise_gap, **options(here, idle_seconds=None))

                def follow() -> None:
                    try:
                        found.extend((change.customer_id, change.seq) for change in member)
                    except BaseException as trouble:
                        troubles.append(trouble)

                thread = threading.Thread(target=follow)
                thread.start()
                try:
                    wait_until(lambda: len(found) == 100 or bool(troubles), 60, "the first announcements")
                    own_broker.finish(broker.steps_to_stop())
                    wait_until(lambda: "waiting for it" in caplog.text or bool(troubles), 60, "the outage to be logged")
                    own_broker.finish(broker.steps_to_start())
                    announce(here, tiers[100:])
                    wait_until(lambda: len(found) >= len(tiers) or bool(troubles), 90, lambda: f"{len(found)}")
                finally:
                    member.stop()
                    thread.join(30)
                    member.close()
        finally:
            own_broker.finish(broker.steps_to_stop())
    assert troubles == []
    assert sorted(found) == everything(tiers)
    assert caplog.text.count("waiting for it") == 1
