"""How long tier changes pause when a second worker joins: in the partitions that stay, and in those that move to it.

A pause is the longest time from a purchase to its tier change, under a steady load that begins with the second worker's
start. The workers share a core, so the start of the second one is part of the pause.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from scripts.benchmarks.cluster import Cluster, say
from scripts.benchmarks.latency import (
    CATCH_UP_SECONDS,
    DELIVERIES,
    latencies_ms,
    load_on,
    percentiles,
    wait_for_probes,
    warm,
)
from scripts.benchmarks.load import read_sent, sending
from scripts.benchmarks.log import now_ms, partitions_of
from scripts.benchmarks.report import Spread

BEFORE_SECONDS = 6.0
"""How long one worker runs alone under the load before another joins it."""


@dataclass(frozen=True)
class Join:
    """A second worker joins: customers and partitions of the table, and the load in events per second."""

    customers: int
    partitions: int
    events_per_second: int
    seconds: float
    """The seconds of load after the second worker's start."""


def measure(cluster: Cluster, join: Join, rounds: int) -> dict[str, Any]:
    """Measure the pauses and the part of them that is restoring, with new workers and a new table in each round."""
    runs = []
    for round_ in range(rounds):
        one = _measure_join(cluster, join)
        runs.append(one)
        say(
            f"  round {round_ + 1} of {rounds}: paused for {one['stayed_ms']:,.0f} ms where partitions stayed, "
            f"{one['moved_ms']:,.0f} ms where they moved ({one['restored_customers']:,} customers restored in "
            f"{one['restored_seconds']:.1f} s); p99 before {one['before_p99_ms']:.1f} ms"
        )
    return {
        "customers": join.customers,
        "partitions": join.partitions,
        "events_per_second": join.events_per_second,
        **{name: Spread.of([one[name] for one in runs]).as_dict() for name in runs[0]},
    }


def _measure_join(cluster: Cluster, join: Join) -> dict[str, float]:
    with warm(cluster, join.customers, DELIVERIES[0], join.partitions) as (here, first, tail):
        load = load_on(here, join.events_per_second, BEFORE_SECONDS + join.seconds, join.customers)
        with sending(load) as process:
            time.sleep(max(0.0, load.starts_at_ms - now_ms()) / 1000 + BEFORE_SECONDS)
            joins_at = time.monotonic()
            with here.worker() as second:
                first.running.wait_until(lambda: process.poll() is not None, load.seconds + 120, "done with the load")
                sent_at = read_sent(load).probes
                wait_for_probes(sent_at, tail, CATCH_UP_SECONDS)
                moved, (restored_customers, restored_seconds) = second.restored_partitions(), second.restored()
    took_ms = np.array(latencies_ms(sent_at, tail))
    is_before = np.array(list(sent_at.values())) < joins_at
    is_moved = np.isin(partitions_of(np.array(list(sent_at), dtype="S8"), join.partitions), moved)
    return {
        "before_p99_ms": percentiles(took_ms[is_before][is_before.sum() // 2 :].tolist())["p99"],
        "stayed_ms": took_ms[~is_before & ~is_moved].max().item(),
        "moved_ms": took_ms[~is_before & is_moved].max().item(),
        "restored_customers": restored_customers,
        "restored_seconds": restored_seconds,
        "unseen": len(sent_at.keys() - tail.seen_at.keys()),
    }
