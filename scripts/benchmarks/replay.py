"""Events per second and memory of `tierstream replay`, in one process on one core and in two; and the cost of
`tierstream policy diff`, which folds under two policies.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from scripts.benchmarks.cluster import BenchError, say
from scripts.benchmarks.log import Log
from scripts.benchmarks.machine import CORES, IS_PINNED, on_cores
from scripts.benchmarks.report import Spread
from scripts.benchmarks.running import POLICY, other_policy

TIERSTREAM = [sys.executable, "-m", "streams.cli"]


def measure(log: Log, rounds: int) -> dict[str, Any]:
    """Measure one process, two where there are two cores, and a comparison of two policies, over several rounds."""
    runs: dict[str, list[Run]] = {}
    contenders = {"one process": 1, **({"two processes": 2} if IS_PINNED else {})}
    for _ in range(rounds):
        for name, workers in contenders.items():
            _record(runs, name, _replay(log, workers))
        _record(runs, "diff", _diff(log))
    one = runs["one process"]
    found: dict[str, Any] = {
        "events": log.events,
        "log_bytes": log.path.stat().st_size,
        "events_per_second": Spread.of([run.events_per_second for run in one]).as_dict(),
        "cpu_us_per_event": Spread.of([run.cpu_us for run in one]).as_dict(),
        "peak_memory_bytes": max(run.peak_memory_bytes for run in one),
        "diff": {
            "cpu_ratio": Spread.of(
                [two.cpu_us / run.cpu_us for two, run in zip(runs["diff"], one, strict=True)]
            ).as_dict(),
            "peak_memory_bytes": max(run.peak_memory_bytes for run in runs["diff"]),
        },
    }
    if "two processes" in runs:
        two = Spread.of([run.events_per_second for run in runs["two processes"]])
        found["two_workers"] = {
            "events_per_second": two.as_dict(),
            "ratio": two.median / found["events_per_second"]["median"],
        }
    return found


class Run(NamedTuple):
    """The cost of one run of a command."""

    events_per_second: float
    cpu_us: float
    """Per event."""
    peak_memory_bytes: int
    """Resident memory of the largest process."""


def _record(runs: dict[str, list[Run]], name: str, run: Run) -> None:
    runs.setdefault(name, []).append(run)
    say(
        f"  {name}: {run.events_per_second:,.0f} events/s, {run.cpu_us:.1f} µs of CPU each, "
        f"{run.peak_memory_bytes / 2**20:,.0f} MiB at most"
    )


def _replay(log: Log, workers: int) -> Run:
    """Run a replay; its speed is that of its summary."""
    with tempfile.TemporaryDirectory(prefix="tierstream-bench-", ignore_cleanup_errors=True) as folder:
        command = ["replay", str(log.path), "--policy", str(POLICY), "--out", str(Path(folder, "out")), "--json"]
        if workers > 1:
            command += ["--workers", str(workers)]
        answer, _, cpu_seconds, peak = _run(command, workers)
    summary = json.loads(answer)
    if summary["events"] != log.events:
        raise BenchError(f"the replay folded {summary['events']:,} events of {log.events:,}")
    return Run(summary["events_per_second"], cpu_seconds / log.events * 1e6, peak)


def _diff(log: Log) -> Run:
    """Run a comparison with a policy that has other thresholds."""
    with tempfile.TemporaryDirectory(prefix="tierstream-bench-", ignore_cleanup_errors=True) as folder:
        other = other_policy(Path(folder))
        _, seconds, cpu_seconds, peak = _run(
            ["policy", "diff", str(log.path), "--policy", str(POLICY), "--policy", str(other)], 1
        )
    return Run(log.events / seconds, cpu_seconds / log.events * 1e6, peak)


def _run(arguments: list[str], cores: int) -> tuple[bytes, float, float, int]:
    """The output of a command, its seconds, its CPU seconds and its peak memory (bytes), including child processes."""
    with on_cores(*CORES[:cores]), tempfile.TemporaryFile() as answer:
        started = time.monotonic()
        process = subprocess.Popen([*TIERSTREAM, *arguments], stdout=answer, start_new_session=True)
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise BenchError(f"tierstream {arguments[0]} ended with status {process.returncode}; see above")
        answer.seek(0)
        seconds = time.monotonic() - started
        return answer.read(), seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
