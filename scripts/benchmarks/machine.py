"""The machine and the use of it: cores, CPU seconds, memory, versions."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"
CORES = sorted(os.sched_getaffinity(0))
IS_PINNED = len(CORES) > 1
"""Whether a contender has a core of its own, and the broker, the load and the readers share another."""
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def pin(pid: int) -> None:
    """Pin a process, its threads and those that they will start to the second core: all processes but contenders."""
    if IS_PINNED:
        for thread in Path("/proc", str(pid), "task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), {CORES[1]})


@contextmanager
def on_cores(*cores: int) -> Iterator[None]:
    """Processes that are started in the block run on these cores."""
    before = os.sched_getaffinity(0)
    if IS_PINNED:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def process_tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for one in found:
        for children in Path("/proc", str(one)).glob("task/*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:
                continue  # it has just ended
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time until now of a process and its descendants."""
    ticks = 0
    for one in process_tree(pid):
        try:
            fields = Path("/proc", str(one), "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_SECOND


def memory_bytes(pid: int, what: str = "VmRSS") -> int:
    """Resident bytes of a process and its descendants; with `VmHWM` their peak."""
    total_kib = 0
    for one in process_tree(pid):
        match = re.search(rf"{what}:\s+(\d+) kB", Path("/proc", str(one), "status").read_text())
        total_kib += int(match[1]) if match else 0
    return total_kib * 1024


def facts(kafka_version: str) -> dict[str, Any]:
    """The machine and the versions that the figures were measured with."""
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cores": len(CORES),
        "is_pinned": IS_PINNED,
        "cpu": cpu[1] if cpu else platform.machine(),
        "memory_gib": round(int(memory[1]) / 2**20, 1) if memory else None,
        "system": platform.system() + " " + platform.release(),
        "python": platform.python_version(),
        "kafka": kafka_version,
        "java": _output_of("java", "-version").partition("\n")[0],
        "commit": _output_of("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "load_average": os.getloadavg()[0],
    }


def _output_of(*command: str) -> str:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except OSError:
        return ""
    return "" if done.returncode else done.stdout.strip()
