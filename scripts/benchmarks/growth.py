"""The cost of an event with a large table, and with many partitions: it should be the same as with small ones.

Measured is the worker's CPU time per event while it catches up; the customers of the events are already in its table.
The events are Zipf-distributed over all customers of the table or, to see the effect of the size alone, over as many as
the small table has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scripts.benchmarks.cluster import Cluster, say
from scripts.benchmarks.log import Log
from scripts.benchmarks.report import Spread
from scripts.benchmarks.running import site
from scripts.benchmarks.states import Group, ordinary_states, write_table
from scripts.benchmarks.throughput import Rate, slope, watch


@dataclass(frozen=True)
class Sizes:
    """The small and the large size, in customers and in partitions."""

    customers: tuple[int, int]
    partitions: tuple[int, int]
    events: int
    limit_seconds: float


@dataclass(frozen=True)
class Case:
    """A worker that catches up."""

    name: str
    table: int
    active: int
    """The number of customers that have events."""
    partitions: int


def cases(sizes: Sizes) -> tuple[Case, ...]:
    """The base case, and cases that differ from it in one aspect."""
    (few, many), (one, several) = sizes.customers, sizes.partitions
    return (
        Case("base", few, few, one),
        Case("large_table", many, few, one),
        Case("large_table_all_active", many, many, one),
        Case("many_partitions", few, few, several),
    )


def measure(cluster: Cluster, sizes: Sizes, rounds: int) -> dict[str, Any]:
    """Measure the CPU time per event of each case, and its ratio to the base case, over several rounds."""
    states = ordinary_states(5_000)
    rates: dict[str, list[Rate]] = {}
    for round_ in range(rounds):
        for case in cases(sizes):
            rate = _caught_up(cluster, case, sizes, states)
            rates.setdefault(case.name, []).append(rate)
            say(
                f"  round {round_ + 1} of {rounds}, {case.table:,} customers ({case.active:,} active), {case.partitions} "
                f"partitions: {rate.cpu_us_per_event:.1f} µs of CPU per event"
            )
    base = Spread.of([rate.cpu_us_per_event for rate in rates["base"]])
    found: dict[str, Any] = {}
    for case in cases(sizes):
        spread = Spread.of([rate.cpu_us_per_event for rate in rates[case.name]])
        found[case.name] = {
            "customers": case.table,
            "active_customers": case.active,
            "partitions": case.partitions,
            "cpu_us_per_event": spread.as_dict(),
            "events_per_second": Spread.of([rate.events_per_second for rate in rates[case.name]]).as_dict(),
            "ratio_to_base": spread.median / base.median,
        }
    return found


def _caught_up(cluster: Cluster, case: Case, sizes: Sizes, states: list[bytes]) -> Rate:
    log = Log(sizes.events, case.active, seed=2)
    with site(cluster, "growth", case.partitions) as here:
        write_table(here, [Group("c", case.table, states)])
        log.produce(cluster, here.purchases)
        with here.worker() as worker:
            commits = watch(cluster, worker.running, here.group, here.purchases, log.events, sizes.limit_seconds)
    return slope(commits)
