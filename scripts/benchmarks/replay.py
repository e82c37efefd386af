"""Events per second of `tierstream replay`, in one process on one core, and what a second process brings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from scripts.benchmarks.cluster import BenchError, say
from scripts.benchmarks.log import Log
from scripts.benchmarks.machine import CORES, IS_PINNED, on_cores
from scripts.benchmarks.report import Spread
from scripts.benchmarks.running import POLICY

REPLAY = [sys.executable, "-m", "streams.cli", "replay"]


def measure(log: Log, rounds: int) -> dict[str, Any]:
    """One worker and, where that is possible, two, in turn."""
    rates: dict[int, list[float]] = {}
    cpu_us: dict[int, list[float]] = {}
    for _ in range(rounds):
        for workers in (1, 2) if _takes_workers() and IS_PINNED else (1,):
            rate, cpu = _replay(log, workers)
            rates.setdefault(workers, []).append(rate)
            cpu_us.setdefault(workers, []).append(cpu)
            say(f"  {workers} worker{'s' * (workers > 1)}: {rate:,.0f} events/s, {cpu:.1f} µs of CPU each")
    found: dict[str, Any] = {
        "events": log.events,
        "events_per_second": Spread.of(rates[1]).as_dict(),
        "cpu_us_per_event": Spread.of(cpu_us[1]).as_dict(),
    }
    if 2 in rates:
        two = Spread.of(rates[2])
        found["two_workers"] = {
            "events_per_second": two.as_dict(),
            "ratio": two.median / Spread.of(rates[1]).median,
        }
    return found


def _takes_workers() -> bool:
    return "--workers" in subprocess.run([*REPLAY, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout


def _replay(log: Log, workers: int) -> tuple[float, float]:
    """Events per second as the summary has them, and µs of CPU per event."""
    path = log.path
    with tempfile.TemporaryDirectory(prefix="tierstream-bench-", ignore_cleanup_errors=True) as folder:
        command = [*REPLAY, str(path), "--policy", str(POLICY), "--out", str(Path(folder, "out")), "--json"]
        if workers > 1:
            command += ["--workers", str(workers)]
        with on_cores(*CORES[:workers]):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        before = _children_cpu_seconds()
        try:
            answer, _ = process.communicate()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode:
        raise BenchError(f"the replay ended with status {process.returncode}; see above")
    summary = json.loads(answer)
    if summary["events"] != log.events:
        raise BenchError(f"the replay folded {summary['events']:,} events of {log.events:,}")
    return summary["events_per_second"], (_children_cpu_seconds() - before) / log.events * 1e6


def _children_cpu_seconds() -> float:
    """Of the children that have ended, and theirs."""
    times = os.times()
    return times.children_user + times.children_system
