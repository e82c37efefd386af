"""The cost of a large table: memory, recovery, and customers that all become due within a minute.

The table is a changelog as workers would have left it, with states that were folded from purchases.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from scripts.benchmarks import machine
from scripts.benchmarks.cluster import BenchError, Cluster, Tail, say
from scripts.benchmarks.latency import (
    BUILD_SECONDS,
    BUILT_PER_MS,
    CATCH_UP_SECONDS,
    latencies_ms,
    load_on,
    percentiles,
    wait_for_probes,
)
from scripts.benchmarks.load import read_sent, sending
from scripts.benchmarks.log import now_ms
from scripts.benchmarks.report import Spread
from scripts.benchmarks.running import SETTLE_SECONDS, Site, Worker, site
from scripts.benchmarks.states import Group, ordinary_states, states_due, write_table

RESTORE_SECONDS = 600
LOADED_CUSTOMERS = 100_000
"""The customers of the load, besides those that become due."""
BEFORE_SECONDS = 6.0
"""How long the load runs before the first customer becomes due."""
START_SECONDS = 12.0
"""The time for folding the states, and for the start of the worker."""
LATE_SECONDS = 120
"""How long the worker may announce after the last customer became due."""
PREPARED_PER_SECOND = 12_000
"""The customers written to the changelog and restored from it per second, at the least."""


# ------------------------------------------------------------ memory and recovery
def measure_memory_and_recovery(cluster: Cluster, customers: int, states: int, rounds: int) -> dict[str, Any]:
    """Compare a worker with the table with an empty one, and measure restoring; the workers are restarted in each
    round.
    """
    runs = []
    with site(cluster, "table") as full, site(cluster, "empty") as empty:
        say(f"writing a table of {customers:,} customers")
        mean_bytes = write_table(full, [Group("c", customers, ordinary_states(states))])
        for round_ in range(rounds):
            empty_bytes, _, _ = _started(empty, 0)
            resident_bytes, peak_bytes, (restored, seconds) = _started(full, customers)
            if restored != customers:
                raise BenchError(f"the worker restored {restored:,} customers of {customers:,}")
            one = {
                "bytes_per_customer": (resident_bytes - empty_bytes) / customers,
                "peak_bytes_per_customer": (peak_bytes - empty_bytes) / customers,
                "recovery_customers_per_second": restored / seconds,
                "recovery_seconds": seconds,
                "resident_mib": resident_bytes / 2**20,
                "empty_mib": empty_bytes / 2**20,
            }
            runs.append(one)
            say(
                f"  round {round_ + 1} of {rounds}: {one['bytes_per_customer']:,.0f} bytes per customer, "
                f"{one['recovery_customers_per_second']:,.0f} customers/s restored"
            )
    return {
        "customers": customers,
        "state_bytes": mean_bytes,
        **{name: Spread.of([one[name] for one in runs]).as_dict() for name in runs[0]},
    }


def _started(here: Site, customers: int) -> tuple[int, int, tuple[int, float]]:
    """Resident bytes of an idle worker, their peak, and the customers that it restored in how many seconds."""
    with here.worker() as worker:
        worker.wait_until_drained(RESTORE_SECONDS, customers)
        time.sleep(SETTLE_SECONDS)
        pid = worker.running.process.pid
        return machine.memory_bytes(pid), machine.memory_bytes(pid, "VmHWM"), worker.restored()


# ------------------------------------------------------------ timers
@dataclass(frozen=True)
class Wave:
    """Customers that become due over some seconds, in a larger table, under a load in events per second."""

    due: int
    customers: int
    seconds: float
    events_per_second: int
    states: int


class WorkerLate(BenchError):
    """The worker was not ready when the first customer became due."""


def measure_timers(cluster: Cluster, wave: Wave) -> dict[str, Any]:
    """Measure the latency of upgrades during the wave, and how soon the wave is announced; with more time if needed."""
    lead_seconds = START_SECONDS + BEFORE_SECONDS + wave.customers / PREPARED_PER_SECOND
    while True:
        try:
            found = _timers(cluster, wave, lead_seconds)
        except WorkerLate:
            if lead_seconds > RESTORE_SECONDS:
                raise
            lead_seconds *= 2
            say(f"  the worker needs longer to get ready; again, with {lead_seconds:.0f} s for it")
            continue
        say(
            f"  {wave.due:,} due: p99 {found['p99_ms']:.1f} ms, all announced {found['announced_after_seconds']:.1f} s "
            f"after the last was due, {found['cpu_us_per_due_customer']:.1f} µs of CPU each"
        )
        return found


def _timers(cluster: Cluster, wave: Wave, lead_seconds: float) -> dict[str, Any]:
    say(f"writing a table of {wave.customers:,} customers, {wave.due:,} of whom come due in {lead_seconds:.0f} s")
    first_ms = now_ms() + int(1000 * lead_seconds)
    loaded = min(LOADED_CUSTOMERS, wave.customers)
    ordinary = ordinary_states(wave.states)
    groups = [
        Group("d", wave.due, states_due(wave.states, first_ms, int(1000 * wave.seconds))),
        Group("c", loaded, ordinary),
        Group("o", max(0, wave.customers - wave.due), ordinary),
    ]
    with site(cluster, "timers") as here:
        write_table(here, groups)
        with here.worker() as worker:
            worker.wait_until_drained(RESTORE_SECONDS, sum(group.customers for group in groups))
            load_seconds = BEFORE_SECONDS + wave.seconds + BEFORE_SECONDS
            begins_ms = first_ms - int(1000 * BEFORE_SECONDS)
            load = load_on(here, wave.events_per_second, load_seconds, loaded, begins_ms)
            if now_ms() > begins_ms - 1000 * BUILD_SECONDS - load.events // BUILT_PER_MS:
                raise WorkerLate("the worker was not ready when the first customer came due")
            with cluster.tail(here.topic("tier-changes")) as tail, sending(load) as process:
                watched = _watch(worker, wave, first_ms)
                limit = load_seconds + LATE_SECONDS
                worker.running.wait_until(lambda: process.poll() is not None, limit, "done with the load")
                return _figures(watched, wave, read_sent(load).probes, tail)


@dataclass(frozen=True)
class Watched:
    """A wave as observed: monotonic seconds and CPU seconds when it began, and when all was announced."""

    first_at: float
    announced_at: float
    announced: int
    cpu_share_before: float
    """CPU seconds per second under the load alone."""
    cpu_seconds: float


def _watch(worker: Worker, wave: Wave, first_ms: int) -> Watched:
    def announced() -> int:
        changes = worker.stats().get("changes", {})
        return sum(changes.get(f"churn-risk.{change}", 0) for change in ("raised", "escalated"))

    def sleep_until(at_ms: int) -> None:
        worker.running.check()
        time.sleep(max(0, at_ms - now_ms()) / 1000)

    sleep_until(first_ms - int(500 * BEFORE_SECONDS))
    began, cpu_began, before = time.monotonic(), worker.running.cpu_seconds, announced()
    sleep_until(first_ms)
    first_at, cpu_first = time.monotonic(), worker.running.cpu_seconds
    deadline = first_at + wave.seconds + LATE_SECONDS
    while (count := announced() - before) < wave.due and time.monotonic() < deadline:
        worker.running.check()
        time.sleep(0.1)
    share = (cpu_first - cpu_began) / (first_at - began)
    return Watched(first_at, time.monotonic(), count, share, worker.running.cpu_seconds - cpu_first)


def _figures(watched: Watched, wave: Wave, sent_at: dict[bytes, float], tail: Tail) -> dict[str, Any]:
    wait_for_probes(sent_at, tail, CATCH_UP_SECONDS)
    first, last = watched.first_at, watched.announced_at
    meanwhile = latencies_ms({probe: at for probe, at in sent_at.items() if first <= at <= last}, tail)
    before = latencies_ms({probe: at for probe, at in sent_at.items() if at < first}, tail)
    loaded_seconds = min(last - first, wave.seconds + BEFORE_SECONDS)
    extra_cpu = watched.cpu_seconds - watched.cpu_share_before * loaded_seconds
    return {
        "customers": wave.customers,
        "due": wave.due,
        "due_within_seconds": wave.seconds,
        "events_per_second": wave.events_per_second,
        "announced": watched.announced,
        "announced_after_seconds": last - first - wave.seconds,
        "cpu_us_per_due_customer": extra_cpu / wave.due * 1e6,
        "cpu_seconds": watched.cpu_seconds,
        "cpu_share_before": watched.cpu_share_before,
        **{f"{name}_ms": value for name, value in percentiles(meanwhile).items()},
        "before": {f"{name}_ms": value for name, value in percentiles(before[len(before) // 2 :]).items()},
    }
