"""What deliveries, the journal and a rebalance cost: workers on a real Kafka, driven and timed from outside.

Started by scripts/measure. Contenders take turns, several rounds of them, because the machine is never quiet; what counts is
the ratio of their medians.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka
from rich.console import Console
from rich.table import Table as Shown

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import models  # noqa: E402
from models import units  # noqa: E402
from streams.delivery import Delivery  # noqa: E402
from streams.folding import Changes  # noqa: E402
from streams.run import run_worker  # noqa: E402
from streams.settings import load_settings  # noqa: E402
from streams.table import Marker, Partition, changelog_records  # noqa: E402
from streams.topics import changelog_topic  # noqa: E402
from tests.integration.harness import Line, Site, Worker, running_kafka, site, wait_until  # noqa: E402

POLICY = "annual-spend"
CONTENDERS = {
    "at-least-once, no journal": {"delivery": "at-least-once", "module": "scripts.measure"},
    "at-least-once": {"delivery": "at-least-once"},
    "exactly-once": {"delivery": "exactly-once"},
}
EVENTS_A_SECOND_FOR_LATENCY = 100
SECONDS_BEFORE_JOINING = 5.0
"""How long one worker is seen alone before another joins it."""
console = Console()


def purchase(number: int, customer: str, amount: str = "12.50") -> dict[str, Any]:
    now = units.format_time(time.time_ns() // 1_000_000)
    return {
        "event_id": f"m{number}", "customer_id": customer, "kind": "purchase", "order_id": f"o{number}", "amount": amount,
        "currency": "USD", "occurred_at": now,
    }  # fmt: skip


@contextmanager
def kafka() -> Iterator[tuple[str, Path]]:
    """A real broker of our own, and a folder."""
    with (
        tempfile.TemporaryDirectory(prefix="tierstream-measure-") as folder,
        running_kafka(Path(folder, "kafka")) as address,
    ):
        yield address, Path(folder)


class Latencies:
    """When a consumer of committed tier changes sees each."""

    def __init__(self, here: Site) -> None:
        self._consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": here.settings.broker, "group.id": "latencies", "isolation.level": "read_committed",
                "fetch.wait.max.ms": 10, "log_level": 0,
            }
        )  # fmt: skip
        topic = here.settings.topic("tier-changes")
        ends = [confluent_kafka.TopicPartition(topic, number) for number in range(here.settings.partitions)]
        for tp in ends:
            tp.offset = self._consumer.get_watermark_offsets(tp, timeout=10)[1]
        self._consumer.assign(ends)
        self.seen_at: dict[str, float] = {}
        self.partition: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                customer = message.key().decode()
                self.seen_at.setdefault(customer, time.monotonic())
                self.partition[customer] = message.partition()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()


def send_upgrades(here: Site, seconds: float, first: int) -> dict[str, float]:
    """Purchases of new customers, each of which is an upgrade, at a steady rate; returns when each was sent."""
    sent_at: dict[str, float] = {}
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": here.settings.broker, "partitioner": "murmur2_random", "linger.ms": 0}
    )
    began = time.monotonic()
    for number in range(int(seconds * EVENTS_A_SECOND_FOR_LATENCY)):
        time.sleep(max(0.0, began + number / EVENTS_A_SECOND_FOR_LATENCY - time.monotonic()))
        customer = f"upgraded-{first + number}"

        value = json.dumps(purchase(10**6 + first + number, customer, "900.00")).encode()
        sent_at[customer] = time.monotonic()
        producer.produce(here.settings.topic("purchases"), value, customer.encode())
        producer.poll(0)
    producer.flush(10)
    return sent_at


def measure_delivery(args: argparse.Namespace) -> dict[str, Any]:
    """Throughput of catching up and latency at a trickle, per contender."""
    chance = random.Random(1)
    customers = [f"c{int(chance.paretovariate(0.6)) % args.customers}" for _ in range(args.events)]
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in CONTENDERS}
    with kafka() as (broker, folder):
        for _ in range(args.rounds):
            for name, options in CONTENDERS.items():
                delivery, module = options["delivery"], options.get("module", "streams.cli")
                settings = {"partitions": 2, "policy": POLICY, "clock": "wall", "delivery": delivery}
                with site(broker, folder, **settings) as here:
                    # Garbage is spread over customers and partitions as purchases are.
                    lines: list[Line] = [
                        ("purchases", b"{" if args.garbage else purchase(number, customer))
                        for number, customer in enumerate(customers)
                    ]
                    here.produce(lines, keys=customers)
                    worker = here.start(module=module)
                    wait_until(lambda w=worker: w.stats().get("events", 0) >= args.events, 600, "all is folded")
                    stats = worker.stats()
                    found[name]["events_per_second"].append(stats["events"] / stats["busy_seconds"])
                    wait_until(lambda w=worker: w.stats().get("drained", False), 60, "drained")
                    latencies = Latencies(here)
                    sent_at = send_upgrades(here, args.seconds, 0)
                    wait_until(lambda a=sent_at, s=latencies: len(s.seen_at) >= len(a), 30, "all upgrades are seen")
                    took = sorted(1000 * (latencies.seen_at[one] - at) for one, at in sent_at.items())
                    latencies.close()
                    found[name]["p50_ms"].append(took[len(took) // 2])
                    found[name]["p99_ms"].append(took[len(took) * 99 // 100])
                    assert worker.stop() == 0
                console.print(f"  {name}: {found[name]['events_per_second'][-1]:,.0f} events/s", style="dim")
    summary = {name: {what: statistics.median(values) for what, values in one.items()} for name, one in found.items()}
    fastest = summary["at-least-once, no journal"]["events_per_second"]
    shown = Shown("delivery", "events/s", "share", "p50 ms", "p99 ms", title=f"{args.rounds} rounds, medians")
    for name, one in summary.items():
        one["share"] = one["events_per_second"] / fastest
        shown.add_row(
            name,
            f"{one['events_per_second']:,.0f}",
            f"{one['share']:.2f}",
            f"{one['p50_ms']:.1f}",
            f"{one['p99_ms']:.1f}",
        )
    console.print(shown)
    return summary


def write_changelog(here: Site, customers: int) -> None:
    """A table of so many customers, as a worker would have left it."""
    policy = models.load(POLICY)
    event = policy.decoder().decode("purchases", json.dumps(purchase(0, "nobody")).encode())
    customer, _ = models.apply(None, event, policy)
    state = models.encode(customer)
    partitions = [Partition() for _ in range(here.settings.partitions)]
    producer = confluent_kafka.Producer({"bootstrap.servers": here.settings.broker, "linger.ms": 20})
    for number, partition in enumerate(partitions):
        changes = Changes(partition.customers)
        for one in range(number, customers, len(partitions)):
            changes.add(f"kept-{one}".encode(), state)
        marker = Marker(1, {}, 0, policy.ref, True, 0, changes.new, changes.checksum)
        for key, value in changelog_records(changes.states, marker):
            while True:
                try:
                    producer.produce(changelog_topic(here.settings), value, key, partition=number)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.flush(60)


def measure_rebalance(args: argparse.Namespace) -> dict[str, Any]:
    """How long announcements pause while a second worker joins, for partitions that stay and for those that move."""
    with kafka() as (broker, folder), site(broker, folder, partitions=4, policy=POLICY) as here:
        write_changelog(here, args.customers)
        began = time.monotonic()
        first = here.start()
        wait_until(lambda: first.stats().get("customers", 0) == args.customers, 120, "restored")
        started_after = time.monotonic() - began
        wait_until(lambda: first.stats().get("drained", False), 60, "drained")
        latencies = Latencies(here)
        sent: dict[str, float] = {}
        sender = threading.Thread(target=lambda: sent.update(send_upgrades(here, args.seconds + 15, 0)))
        sender.start()
        time.sleep(SECONDS_BEFORE_JOINING)
        second = here.start()
        wait_until(lambda: second.stats().get("customers", 0) > 0, 60, "the second has partitions")
        moved = partitions_of(second)
        sender.join()
        wait_until(
            lambda: len(latencies.seen_at) >= len(sent), 60, lambda: f"{len(latencies.seen_at)} of {len(sent)} seen"
        )
        latencies.close()
        pauses = {"stayed": 0.0, "moved": 0.0}
        for customer, at in sent.items():
            kind = "moved" if latencies.partition[customer] in moved else "stayed"
            pauses[kind] = max(pauses[kind], latencies.seen_at[customer] - at)
        assert [second.stop(), first.stop()] == [0, 0]
        seconds = [line for line in first.log.read_text().splitlines() if ": restored " in line]
    summary = {
        "customers": args.customers,
        "start_seconds": started_after,
        "pause_seconds": pauses,
        "restored": [line.split("partition ")[-1] for line in seconds],
    }
    shown = Shown("what", "seconds", title=f"{args.customers:,} customers, 4 partitions, a second worker joins")
    shown.add_row("a worker's start until all is restored", f"{started_after:.1f}")
    shown.add_row("pause of the partitions that stayed", f"{pauses['stayed']:.2f}")
    shown.add_row("pause of the partitions that moved", f"{pauses['moved']:.2f}")
    console.print(shown)
    return summary


def partitions_of(worker: Worker) -> set[int]:
    return {int(number) for number in worker.page("readyz")[1]["partitions"]}


def worker_without_journal() -> None:
    """A worker as it is, but for the journal: what that costs is the difference."""

    async def write_nothing(self: Delivery, entry: object) -> None:
        return None

    Delivery.append_journal = write_nothing
    settings = load_settings()
    sys.exit(run_worker(settings, models.load(settings.policy)))


def main() -> None:
    if sys.argv[1:] == ["worker"]:
        worker_without_journal()
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="example: scripts/measure delivery --rounds 3 --json delivery.json"
    )
    commands = parser.add_subparsers(dest="what", required=True)
    delivery = commands.add_parser(
        "delivery", help="throughput and latency with each delivery, with and without journal"
    )
    delivery.add_argument("--events", type=int, default=20_000)
    delivery.add_argument("--customers", type=int, default=5_000)
    delivery.add_argument("--rounds", type=int, default=3)
    delivery.add_argument("--garbage", action="store_true", help="catch up on records that all become dead letters")
    delivery.add_argument("--seconds", type=float, default=10, help="how long latency is measured, per round")
    rebalance = commands.add_parser("rebalance", help="the pause when a second worker joins")
    rebalance.add_argument("--customers", type=int, default=200_000)
    rebalance.add_argument("--seconds", type=float, default=15)
    for command in (delivery, rebalance):
        command.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    summary = measure_delivery(args) if args.what == "delivery" else measure_rebalance(args)
    if args.json:
        args.json.write_text(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
