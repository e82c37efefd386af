"""How long after a purchase is appended its tier change is visible, at a steady load.

Appended: when the load's producer was given it. Visible: when a consumer of committed records got it. Both on the
machine's monotonic clock. The customers are known and their table is warm; one event in a hundred is a probe.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from scripts.benchmarks.cluster import Cluster, Tail, say
from scripts.benchmarks.load import Load, read_sent, sending
from scripts.benchmarks.log import now_ms
from scripts.benchmarks.report import Spread
from scripts.benchmarks.running import Site, Worker, site
from scripts.benchmarks.states import Group, ordinary_states, write_table

DELIVERIES = ("exactly-once", "at-least-once")
SWEPT = (1_000, 5_000, 10_000, 20_000, 40_000)
"""Loads of a sweep, in events per second."""
WARM_UP_SHARE = 0.3
"""Probes that are sent in this first share of a load's time are not counted."""
CATCH_UP_SECONDS = 30
"""How long to wait for probes that have not arrived when the load ends."""
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
BUILD_SECONDS, BUILT_PER_MS = 2, 100
"""Upper bound of the start of the load's process, and lower bound of the messages that it builds per ms."""
STATES = 5_000
"""The number of distinct states in the warm table."""
_first_probes = count(0, 100_000)


@dataclass(frozen=True)
class Loads:
    """A load: events per second, seconds, and customers in the warm table."""

    events_per_second: int
    seconds: float
    customers: int


def percentiles(latencies_ms: Sequence[float]) -> dict[str, float]:
    """The percentiles of latencies in ms; not a number if there are none."""
    if not latencies_ms:
        return dict.fromkeys(PERCENTILES, float("nan"))
    found = np.percentile(latencies_ms, list(PERCENTILES.values()), method="higher")
    return dict(zip(PERCENTILES, found.tolist(), strict=True))


@contextmanager
def warm(cluster: Cluster, customers: int, delivery: str, partitions: int = 2) -> Iterator[tuple[Site, Worker, Tail]]:
    """A worker with a warm table, and a reader of its tier changes."""
    with site(cluster, "latency", partitions, delivery=delivery) as here:
        write_table(here, [Group("c", customers, ordinary_states(STATES))])
        with here.worker() as worker:
            worker.wait_until_drained(180, customers)
            with cluster.tail(here.topic("tier-changes")) as tail:
                yield here, worker, tail


def load_on(here: Site, rate: int, seconds: float, customers: int, starts_at_ms: int | None = None) -> Load:
    """A load on a site, with probes of its own; it begins as soon as its messages can be built."""
    if starts_at_ms is None:
        starts_at_ms = now_ms() + 1000 * BUILD_SECONDS + int(rate * seconds) // BUILT_PER_MS
    first_probe = next(_first_probes)
    sent_file = str(here.cluster.folder / f"sent-{first_probe}.npy")
    return Load(here.cluster.address, here.purchases, rate, seconds, customers, first_probe, sent_file, starts_at_ms)


def latencies_ms(sent_at: dict[bytes, float], tail: Tail) -> list[float]:
    """The latency of each probe in ms; of a probe that was not seen, the time since it was sent."""
    seen_at, now = tail.seen_at, time.monotonic()
    return [1000 * (seen_at.get(probe, now) - at) for probe, at in sent_at.items()]


def wait_for_probes(sent_at: dict[bytes, float], tail: Tail, seconds: float) -> None:
    """Wait until all probes were seen, or for so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not tail.seen_at.keys() >= sent_at.keys():
        time.sleep(0.1)


def under(load: Load, worker: Worker, tail: Tail) -> dict[str, Any]:
    """The latencies of a worker under a load, in ms, and the figures of the load."""
    with sending(load) as process:
        worker.running.wait_until(lambda: process.poll() is not None, load.seconds + 120, "done with the load")
    sent = read_sent(load)
    wait_for_probes(sent.probes, tail, CATCH_UP_SECONDS)
    first = min(sent.probes.values()) + WARM_UP_SHARE * load.seconds
    counted = {probe: at for probe, at in sent.probes.items() if at >= first}
    found = latencies_ms(counted, tail)
    return percentiles(found) | {
        "probes": len(found),
        "unseen": len(counted.keys() - tail.seen_at.keys()),
        "events_per_second": sent.events_per_second,
        "load_most_late_ms": sent.most_late_ms,
    }


def measure(cluster: Cluster, loads: Loads, rounds: int, deliveries: Sequence[str] = DELIVERIES) -> dict[str, Any]:
    """Measure each delivery with a new worker, over several rounds."""
    found: dict[str, list[dict[str, Any]]] = {delivery: [] for delivery in deliveries}
    for round_ in range(rounds):
        for delivery in deliveries:
            with warm(cluster, loads.customers, delivery) as (here, worker, tail):
                load = load_on(here, loads.events_per_second, loads.seconds, loads.customers)
                one = under(load, worker, tail)
            found[delivery].append(one)
            say(f"  round {round_ + 1} of {rounds}, {delivery}: {as_text(one)}")
    return {
        "events_per_second": loads.events_per_second,
        **{
            delivery: {f"{name}_ms": Spread.of([one[name] for one in runs]).as_dict() for name in PERCENTILES}
            | {"runs": runs}
            for delivery, runs in found.items()
        },
    }


def sweep(cluster: Cluster, loads: Loads) -> dict[str, Any]:
    """Measure the latencies at several loads, from low to high, for each delivery."""
    found: dict[str, Any] = {}
    for delivery in DELIVERIES:
        with warm(cluster, loads.customers, delivery) as (here, worker, tail):
            found[delivery] = {}
            for rate in SWEPT:
                one = under(load_on(here, rate, loads.seconds, loads.customers), worker, tail)
                found[delivery][str(rate)] = one
                say(f"  {delivery}: {as_text(one)}")
                if one["unseen"]:
                    break  # the worker can't keep up with this load, so higher ones are skipped
                worker.wait_until_drained(CATCH_UP_SECONDS)
    return found


def as_text(one: dict[str, Any]) -> str:
    """A run as a line of text."""
    text = f"p50 {one['p50']:.1f} ms, p99 {one['p99']:.1f} ms at {one['events_per_second']:,.0f} events/s"
    if one["unseen"]:
        text += f"; {one['unseen']} of {one['probes']} probes not seen"
    return text
