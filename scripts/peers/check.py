"""Checks that the contenders do the same: each folds a small log on a real Kafka, and its tier changes are compared
with those that brute force computes.

The brute force shares no code with the peers: for every event it adds up all that the customer ever bought. The second
half of the log follows after a restart, at which a contender has only its changelog. Faust alone gets the log in one
piece, because in two runs it was seen to book a partition's last event twice (README.md). Run scripts/peers/build
first.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import confluent_kafka
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PEERS = Path(__file__).resolve().parent
ROOT = PEERS.parent.parent
CACHE = ROOT / ".cache" / "peers"
EVENTS, CUSTOMERS, PARTITIONS, DAYS, REFUNDS = 20_000, 500, 2, 120, 0.02
BEGINNING = datetime(2026, 5, 1, tzinfo=UTC)
PATIENCE_SECONDS = 120.0
STOPPED = {0, 128 + signal.SIGTERM}
"""The statuses with which a stopped process may end: a JVM ends with that of the signal, after its shutdown hooks."""

_java = [
    "java",
    "-cp",
    f"{CACHE}/kafka-streams/peer.jar:{CACHE}/kafka-streams/lib/*",
    "peers.Main",
    "--fold",
    str(PEERS / "fold.json"),
]
FOLDING = {
    "faust": [sys.executable, str(PEERS / "idiomatic_faust.py")],
    "quix-streams": [str(CACHE / "venv" / "bin" / "python"), str(PEERS / "quix_streams.py")],
    "kafka-streams": _java,
    "kafka-streams-eos": [*_java, "--exactly-once"],
}
COPYING = {
    "bare-aiokafka": [sys.executable, str(PEERS / "bare_aiokafka.py")],
    "bare-confluent": [sys.executable, str(PEERS / "bare_confluent.py")],
    "bare-confluent-raw": [sys.executable, str(PEERS / "bare_confluent.py"), "--no-decode"],
}
UNINTERRUPTED = {"faust"}
Change = dict[str, Any]
Event = dict[str, str]


class Trouble(Exception):
    """A contender can't be checked at all; the message says why."""


# ---------------------------------------------------------------- the log, and the expected changes
def make_log(seed: int) -> list[Event]:
    """Purchases and refunds in the order of time, some of them exactly at midnight."""
    chance = random.Random(seed)
    spending = [chance.lognormvariate(0, 1.2) for _ in range(CUSTOMERS)]
    instants = sorted(BEGINNING + timedelta(milliseconds=chance.randrange(DAYS * 86_400_000)) for _ in range(EVENTS))
    events = []
    for number, instant in enumerate(instants):
        at = instant
        if number % 50 == 0:
            at = at.replace(hour=0, minute=0, second=0, microsecond=0)
        events.append((at, number))
    log = []
    for at, number in sorted(events):
        customer = chance.randrange(CUSTOMERS)
        amount = Decimal(round(chance.lognormvariate(3, 0.8) * spending[customer] * 100)) / 100
        text = chance.choice([f"{amount:.2f}", f"{amount:.1f}", f"{amount:.0f}"])
        log.append(
            {
                "event_id": f"e{number}",
                "customer_id": f"c{customer:07}",
                "kind": "refund" if chance.random() < REFUNDS else "purchase",
                "order_id": f"o{number}",
                "amount": text,
                "currency": "USD",
                "occurred_at": at.isoformat(timespec="milliseconds" if at.microsecond else "seconds").replace(
                    "+00:00", "Z"
                ),
            }
        )
    return log


def expected_changes(log: list[Event]) -> dict[str, list[Change]]:
    """The tier changes of each customer, computed from all earlier events for every event."""
    constants = json.loads((PEERS / "fold.json").read_text())
    window = timedelta(days=constants["window_days"])
    names = [constants["base_tier"], *(tier["name"] for tier in constants["tiers"])]
    thresholds = [None, *(Decimal(tier["min_spend_minor"]) / 100 for tier in constants["tiers"])]
    past: dict[str, list[tuple[datetime, Decimal]]] = defaultdict(list)
    changes: dict[str, list[Change]] = defaultdict(list)
    for event in log:
        customer, at = event["customer_id"], datetime.fromisoformat(event["occurred_at"])
        sign = {"purchase": 1, "refund": -1}[event["kind"]]
        past[customer].append((at.replace(hour=0, minute=0, second=0, microsecond=0), sign * Decimal(event["amount"])))
        spend = sum((money for midnight, money in past[customer] if midnight + window > at), Decimal("0.00"))
        after = max(rank for rank, least in enumerate(thresholds) if least is None or least <= spend)
        before = names.index(changes[customer][-1]["after"]["tier"]) if changes[customer] else 0
        if after != before:
            changes[customer].append(
                {
                    "seq": len(changes[customer]) + 1,
                    "customer_id": customer,
                    "change": "upgrade" if after > before else "downgrade",
                    "occurred_at": event["occurred_at"],
                    "cause": event["event_id"],
                    "before": {"tier": names[before]},
                    "after": {"tier": names[after]},
                    "spend": f"{spend:.2f}",
                }
            )
    return {customer: of_customer for customer, of_customer in changes.items() if of_customer}


# ---------------------------------------------------------------- Kafka
@contextmanager
def kafka(folder: Path) -> Iterator[str]:
    """Run a broker, and yield its address."""
    command = [sys.executable, str(ROOT / "scripts" / "kafka")]
    try:
        up = subprocess.run(
            [*command, "up", "--port", "0", "--data", str(folder)], stdout=subprocess.PIPE, text=True, check=True
        )
        yield up.stdout.split()[-1]
    finally:
        subprocess.run([*command, "down", "--data", str(folder), "--delete"], stdout=subprocess.DEVNULL, check=True)


class Cluster:
    """The broker, as the check itself uses it."""

    def __init__(self, broker: str) -> None:
        self.broker = broker
        self.admin = AdminClient({"bootstrap.servers": broker, "log_level": 0})

    def create(self, topic: str) -> None:
        self.admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)

    def produce(self, topic: str, log: list[Event]) -> None:
        producer = confluent_kafka.Producer({"bootstrap.servers": self.broker, "partitioner": "murmur2_random"})
        for event in log:
            producer.produce(topic, json.dumps(event, separators=(",", ":")), event["customer_id"])
        if producer.flush(30):
            raise Trouble("the log could not be written")

    def reader(self, group: str) -> confluent_kafka.Consumer:
        return confluent_kafka.Consumer(
            {
                "bootstrap.servers": self.broker, "group.id": group, "isolation.level": "read_committed",
                "enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "earliest",
            }
        )  # fmt: skip

    def read(self, topic: str) -> list[list[tuple[bytes, bytes]]]:
        """Keys and values of each partition."""
        consumer, records, ended = self.reader("check"), [[] for _ in range(PARTITIONS)], set()
        consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
        while len(ended) < PARTITIONS:
            for message in consumer.consume(1_000, 1.0):
                if message.error() is None:
                    records[message.partition()].append((message.key(), message.value()))
                else:
                    ended.add(message.partition())
        consumer.close()
        return records

    def changelogs(self, name: str) -> list[str]:
        return [topic for topic in self.admin.list_topics(timeout=30).topics if name in topic and "changelog" in topic]

    def wait_until_committed(self, group: str, source: str, process: subprocess.Popen[bytes]) -> None:
        """Wait until a group has committed the end of the source. Raises Trouble."""
        consumer = self.reader(group)
        partitions = [TopicPartition(source, number) for number in range(PARTITIONS)]
        ends = [consumer.get_watermark_offsets(partition, timeout=30)[1] for partition in partitions]
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            while (offsets := _committed(consumer, partitions)) != ends:
                if process.poll() is not None:
                    raise Trouble(f"ended with status {process.returncode}")
                if time.monotonic() > deadline:
                    raise Trouble(f"committed {offsets} of {ends} in {PATIENCE_SECONDS:.0f} s")
                time.sleep(0.1)
        finally:
            consumer.close()


def _committed(consumer: confluent_kafka.Consumer, partitions: list[TopicPartition]) -> list[int]:
    try:
        return [one.offset for one in consumer.committed(partitions, timeout=30)]
    except confluent_kafka.KafkaException:  # a new broker has not created its topic for groups yet
        return []


# ---------------------------------------------------------------- the contenders
def run(cluster: Cluster, command: list[str], name: str, source: str, folder: Path) -> None:
    """Run a contender until it has committed everything, then stop it. Raises Trouble."""
    log = folder / f"{name}.log"
    with log.open("ab") as out:
        options = ["--broker", cluster.broker, "--source", source, "--name", name]
        process = subprocess.Popen([*command, *options], stdout=out, stderr=out, cwd=folder)
        try:
            cluster.wait_until_committed(name, source, process)
            process.terminate()
            if process.wait(60) not in STOPPED:
                raise Trouble(f"ended with status {process.returncode} when asked to stop")
        except (Trouble, subprocess.TimeoutExpired) as error:
            raise Trouble(f"{error}\n{log.read_text(errors='replace')[-3_000:]}") from None
        finally:
            process.kill()
            process.wait()


def fold(
    cluster: Cluster, name: str, log: list[Event], expected: dict[str, list[Change]], folder: Path
) -> tuple[str, list[str]]:
    """Have a contender fold the log; returns a summary, and the differences."""
    source = f"purchases-{name}"
    for topic in (source, f"{name}-tier-changes"):
        cluster.create(topic)
    half = len(log) // 2
    for part in [log] if name in UNINTERRUPTED else [log[:half], log[half:]]:
        cluster.produce(source, part)
        run(cluster, FOLDING[name], name, source, folder)
    announced: dict[str, dict[int, Change]] = defaultdict(dict)
    differences, records = [], [record for partition in cluster.read(f"{name}-tier-changes") for record in partition]
    for key, value in records:
        change = json.loads(value)
        identity = change.pop("id")
        if key.decode() != change["customer_id"] or not identity:
            differences.append(f"key {key!r}, id {identity!r}: {change}")
        if announced[change["customer_id"]].setdefault(change["seq"], change) != change:
            differences.append(f"repeated with another body: {change}")
    for customer in sorted(announced.keys() | expected.keys()):
        wanted, found = expected.get(customer, []), list(announced[customer].values())
        if wanted != found:
            first = next(
                (pair for pair in zip(wanted, found, strict=False) if pair[0] != pair[1]), (len(wanted), len(found))
            )
            differences.append(f"{customer}: expected {first[0]}, got {first[1]}")
    changelog_records = sum(len(partition) for topic in cluster.changelogs(name) for partition in cluster.read(topic))
    if not changelog_records:
        differences.append("there is no changelog, or nothing in it")
    changes = sum(map(len, announced.values()))
    return (
        f"{changes} tier changes, {len(records) - changes} repeated, {changelog_records} changelog records",
        differences,
    )


def copy(cluster: Cluster, name: str, log: list[Event], folder: Path) -> tuple[str, list[str]]:
    """Have a bare loop copy the log; returns a summary, and the differences."""
    source = f"purchases-{name}"
    for topic in (source, f"{name}-copy"):
        cluster.create(topic)
    cluster.produce(source, log)
    run(cluster, COPYING[name], name, source, folder)
    originals, copies = cluster.read(source), cluster.read(f"{name}-copy")
    differences = [f"partition {number} differs" for number in range(PARTITIONS) if originals[number] != copies[number]]
    return f"{sum(map(len, copies))} records", differences


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  .venv/bin/python scripts/peers/check.py --only kafka-streams quix-streams",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=[*FOLDING, *COPYING], help="these contenders; default: all")
    parser.add_argument("--seed", type=int, default=1, help="of the log; default: %(default)s")
    args = parser.parse_args()
    log = make_log(args.seed)
    expected = expected_changes(log)
    kinds = Counter(change["change"] for of_customer in expected.values() for change in of_customer)
    print(
        f"{len(log)} events of {CUSTOMERS} customers: {kinds['upgrade']} upgrades, {kinds['downgrade']} downgrades expected"
    )
    failed = False
    with tempfile.TemporaryDirectory(prefix="peers-check-") as place, kafka(Path(place, "kafka")) as broker:
        cluster, folder = Cluster(broker), Path(place)
        for name in args.only or [*FOLDING, *COPYING]:
            try:
                if name in FOLDING:
                    result, differences = fold(cluster, name, log, expected, folder)
                else:
                    result, differences = copy(cluster, name, log, folder)
            except Trouble as trouble:
                result, differences = "not checked", [str(trouble)]
            failed = failed or bool(differences)
            print(f"{name:<20} {'DIFFERS' if differences else 'same':<8} {result}", flush=True)
            for difference in differences[:5]:
                print(f"    {difference}")
            if len(differences) > 5:
                print(f"    and {len(differences) - 5} more")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
