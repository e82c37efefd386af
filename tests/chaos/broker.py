"""A real Kafka of its own, by scripts/kafka, behind a proxy; to be stopped, killed and frozen."""

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
"""Something that takes its time: it yields the seconds to wait until it wants to be resumed."""


def finish(steps: Iterable[float]) -> None:
    """Wait until it is done."""
    for seconds in steps:
        time.sleep(seconds)


class Broker:
    """One broker and its data folder; clients are sent to the proxy."""

    def __init__(self, data: Path, proxy: Proxy) -> None:
        self._data = data
        self._proxy = proxy
        self._port = 0
        self._pid: int | None = None

    def coming_up(self) -> Steps:
        """Make sure that it runs and serves requests."""
        answer = yield from self._command("up", "--port", str(self._port), "--advertise", self._proxy.address)
        state = json.loads(answer)
        self._pid, self._port = state["pid"], state["port"]
        self._proxy.target_port = self._port

    def going_down(self) -> Steps:
        """Stop it in an orderly way."""
        self._pid = None
        yield from self._command("down")

    def kill(self) -> None:
        """End its process without a chance to tidy up."""
        self._signal(signal.SIGKILL)
        self._pid = None

    def freeze(self) -> None:
        """Let it answer nothing until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _command(self, *words: str) -> Generator[float, None, str]:
        command = [sys.executable, str(ROOT / "scripts" / "kafka"), *words, "--data", str(self._data), "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            # Leaving the block waits for the process, so one given up in the middle does not go on behind our back.
            while process.poll() is None:
                yield POLL_SECONDS
            out, said = process.communicate()
        assert process.returncode == 0, said
        return out.splitlines()[-1]

    def _signal(self, number: int) -> None:
        if self._pid is not None:
            os.kill(self._pid, number)
