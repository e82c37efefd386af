"""Starts, watches and stops the processes under measurement."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.benchmarks import machine
from scripts.benchmarks.cluster import BenchError, Cluster
from scripts.benchmarks.machine import CORES, ROOT

POLICY = Path(__file__).with_name("policy.toml")
OTHER_THRESHOLDS = (("version = 1", "version = 2"), ("300.00", "350.00"), ("1000.00", "900.00"))
"""Replacements in the text of the policy that make the policy it is compared with."""
POLL_SECONDS = 0.1
STOP_SECONDS = 30
SETTLE_SECONDS = 3.0


def other_policy(folder: Path) -> Path:
    """Write a policy with other thresholds to a folder."""
    text = POLICY.read_text("utf-8")
    for before, after in OTHER_THRESHOLDS:
        text = text.replace(before, after)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "other.toml"
    path.write_text(text, "utf-8")
    return path


@dataclass
class Running:
    """A process on the contenders' core, its output in a log file."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def cpu_seconds(self) -> float:
        """User and system time until now."""
        return machine.cpu_seconds(self.process.pid)

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8", errors="replace")[-3000:]

    def check(self) -> None:
        """Raises BenchError if the process has ended."""
        status = self.process.poll()
        if status is not None:
            raise BenchError(f"{self.name} ended with status {status}:\n{self.said()}")

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until a condition holds. Raises BenchError if it does not in time, or if the process ends."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name}: still not {what} after {seconds:.0f} s:\n{self.said()}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Stop the process with SIGTERM, and after STOP_SECONDS with SIGKILL."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextmanager
def running(name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[Running]:
    """Run a process on the contenders' core until the end of the block; `folder` is its working directory."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TIERSTREAM_")}
    with log.open("ab") as sink, machine.on_cores(CORES[0]):
        process = subprocess.Popen(
            command,
            env={**inherited, "PYTHONPATH": str(ROOT), **environment},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd=folder,
            start_new_session=True,  # so that Ctrl-C reaches only this process, which stops the other
        )
    one = Running(name, process, log)
    try:
        yield one
    finally:
        one.stop()


@dataclass
class Worker:
    """Tierstream's worker, watched by its page /stats."""

    running: Running
    web_port: int

    def stats(self) -> dict[str, Any]:
        """The content of /stats; empty while the page does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}/stats", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (OSError, ValueError, urllib.error.HTTPError):
            return {}

    def wait_until_drained(self, seconds: float, customers: int = 0) -> None:
        """Wait until the worker holds so many customers and has folded, announced and published everything."""

        def drained() -> bool:
            stats = self.stats()
            return bool(stats.get("drained")) and stats["customers"] >= customers

        self.running.wait_until(drained, seconds, f"drained with {customers:,} customers")

    def restored(self) -> tuple[int, float]:
        """The customers that the worker restored and the seconds that this took, by its log; partitions restore
        concurrently.
        """
        found = re.findall(r"restored ([\d,]+) customers in ([\d.]+) s", self.running.log.read_text())
        if not found:
            raise BenchError(f"no line of {self.running.name}'s log says what it restored:\n{self.running.said()}")
        return sum(int(count.replace(",", "")) for count, _ in found), max(float(seconds) for _, seconds in found)

    def restored_partitions(self) -> list[int]:
        """The numbers of the partitions that were restored, by its log."""
        return [int(number) for number in re.findall(r"partition (\d+): restored", self.running.log.read_text())]


@dataclass(frozen=True)
class Site:
    """An installation of Tierstream: the prefix of its topics, its app and its settings (`TIERSTREAM_...`, in lower
    case).
    """

    cluster: Cluster
    prefix: str
    partitions: int = 2
    version: int = 1
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The consumer group; the changelog's name begins with it too."""
        app_id = f"{self.prefix}tierstream"
        return app_id if self.version == 1 else f"{app_id}-v{self.version}"

    def topic(self, name: str) -> str:
        """The name of an output topic."""
        return self.prefix + (name if self.version == 1 else f"{name}-v{self.version}")

    @property
    def purchases(self) -> str:
        """The input topic that the benchmarks write."""
        return f"{self.prefix}purchases"

    def environment(self) -> dict[str, str]:
        """The environment variables of a worker, without its port."""
        settings = {
            "broker": self.cluster.address, "topic_prefix": self.prefix, "app_id": f"{self.prefix}tierstream",
            "app_version": self.version, "partitions": self.partitions, "policy": POLICY, **self.settings,
        }  # fmt: skip
        return {f"TIERSTREAM_{name.upper()}": str(value) for name, value in settings.items()}

    @contextmanager
    def worker(self) -> Iterator[Worker]:
        """Run a worker until the end of the block."""
        port = free_port()
        environment = self.environment() | {"TIERSTREAM_WEB_PORT": str(port)}
        command = [sys.executable, "-m", "streams.cli", "worker"]
        with running("tierstream", command, environment, self.cluster.folder / f"{self.group}-{port}") as process:
            yield Worker(process, port)


@contextmanager
def site(cluster: Cluster, name: str, partitions: int = 2, **settings: object) -> Iterator[Site]:
    """A new installation with its input topic; its topics are deleted at the end of the block."""
    made = Site(cluster, f"{name}-{time.monotonic_ns() // 1_000_000}-", partitions, settings=settings)
    cluster.create_topic(made.purchases, partitions)
    try:
        yield made
    finally:
        cluster.delete_topics(lambda topic: topic.startswith(made.prefix))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
