"""A real Kafka broker for one test, started by scripts/kafka behind a proxy, that can be stopped, killed and frozen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable
from pathlib import Path

from tests.chaos.proxy import Proxy
from tests.integration.harness import ROOT

POLL_SECONDS = 0.1

Steps = Generator[float, None, None]
"""Work that takes time: it yields the seconds to wait before it is resumed."""


def finish(steps: Iterable[float]) -> None:
    """Run all steps, and wait between them."""
    for seconds in steps:
        time.sleep(seconds)


class Broker:
    """One broker and its data folder. It advertises the proxy's address, so that clients connect to the proxy."""

    def __init__(self, data: Path, proxy: Proxy) -> None:
        self._data = data
        self._proxy = proxy
        self._port = 0
        self._pid: int | None = None

    def steps_to_start(self) -> Steps:
        """Start it unless it runs, and wait until it serves requests."""
        answer = yield from self._command("up", "--port", str(self._port), "--advertise", self._proxy.address)
        state = json.loads(answer)
        self._pid, self._port = state["pid"], state["port"]
        self._proxy.target_port = self._port

    def steps_to_stop(self) -> Steps:
        """Shut it down cleanly."""
        self._pid = None
        yield from self._command("down")

    def kill(self) -> None:
        """SIGKILL: its process ends without a clean shutdown."""
        self._signal(signal.SIGKILL)
        self._pid = None

    def freeze(self) -> None:
        """SIGSTOP: it answers nothing until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it continues."""
        self._signal(signal.SIGCONT)

    def _command(self, *words: str) -> Generator[float, None, str]:
        command = [sys.executable, str(ROOT / "scripts" / "kafka"), *words, "--data", str(self._data), "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            # Leaving the block waits for the process, so a command that is given up does not continue in the background.
            while process.poll() is None:
                yield POLL_SECONDS
            out, errors = process.communicate()
        assert process.returncode == 0, errors
        return out.splitlines()[-1]

    def _signal(self, number: int) -> None:
        if self._pid is not None:
            os.kill(self._pid, number)
