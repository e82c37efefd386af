"""What an event costs when the table is large, and when there are many partitions: it should cost the same.

CPU time of the worker per event while it catches up, with the events' customers in its table already. The events are
Zipf-distributed over all the table's customers and, for the table's size alone, over as many as the small table has.
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
    """What is compared: small and large, in customers and partitions."""

    customers: tuple[int, int]
    partitions: tuple[int, int]
    events: int
    limit_seconds: float


@dataclass(frozen=True)
class Case:
    """One worker catching up."""

    name: str
    table: int
    active: int
    """Customers whom the events are about."""
    partitions: int


def cases(sizes: Sizes) -> tuple[Case, ...]:
    """The base, and what differs from it in one thing each."""
    (few, many), (one, several) = sizes.customers, sizes.partitions
    return (
        Case("base", few, few, one),
        Case("large_table", many, few, one),
        Case("large_table_all_active", many, many, one),
        Case("many_partitions", few, few, several),
    )


def measure(cluster: Cluster, sizes: Sizes, rounds: int) -> dict[str, Any]:
    """CPU per event of each case, and its ratio to the base, round after round."""
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
