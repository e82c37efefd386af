"""Processes that a command starts beside itself: started, waited for, watched, and ended in the reverse order.

No signal interrupts anything in the middle: it is noted, and whatever waits here raises `Stopped`. So no process can be
started and then forgotten, in whatever phase a signal comes.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Self

HOST: Final = "127.0.0.1"
POLL_SECONDS: Final = 0.05
TAIL_LINES: Final = 15
STOP_SECONDS: Final = 30.0
"""How long a process may take to end; a worker finishes its batch first."""
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ChildError(Exception):
    """A process ended or was not ready in time; the message has the end of its log."""


class Stopped(Exception):
    """A signal asks this process to end."""


@dataclass(frozen=True)
class Child:
    """A process, and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def log_end(self) -> str:
        """The last lines of its log; without mere information and stack traces of Java, if there is anything else."""
        lines = self.log.read_text("utf-8", errors="replace").splitlines()
        telling = [line for line in lines if not re.match(r"\t|.*\bINFO\b", line)]
        return "\n".join((telling or lines)[-TAIL_LINES:])

    def failure(self, what: str) -> ChildError:
        """The error that the process did `what`."""
        return ChildError(f"{self.name} {what}; the end of its log:\n{self.log_end()}".rstrip())


class Children:
    """Processes in the order of their start; leaving the block ends them, the last one first.

    SIGINT, SIGTERM and SIGHUP are noted meanwhile, also SIGINT where a shell has had it ignored, as in a background job.
    SIGHUP stays ignored under nohup. A further signal while processes end kills them.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[Child] = []
        self._signals: list[int] = []
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._running:
            self.stop(self._running[-1])
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)

    # ------------------------------------------------------------ starting
    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        typed: str = "",
    ) -> Child:
        """Start a process, whose standard input is `typed`. `name` is what messages call it.

        It has a session of its own: what a terminal sends to all of its processes at once, as with Ctrl-C, reaches only
        this one, which then ends the others in the right order.
        """
        log = self._logs / f"{name.rsplit(maxsplit=1)[-1].lower()}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(  # noqa: S603  # commands of ours
                command,
                env=None if environment is None else {**os.environ, **environment},
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._running.append(child)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:  # it may have ended already; whoever waits says why
            process.stdin.write(typed.encode())
        return child

    def run(self, name: str, command: Sequence[str | Path], *, seconds: float, **options: Any) -> str:
        """Run a tool to its end, and return what it printed. Raises ChildError if it fails, and Stopped."""
        child = self.start(name, command, **options)
        try:
            self._poll(lambda: child.process.poll() is not None, seconds, lambda: child.failure("takes too long"))
        finally:
            self.stop(child)
        if child.process.returncode:
            raise child.failure(f"failed with status {child.process.returncode}")
        printed = child.log.read_text("utf-8", errors="replace")
        child.log.unlink()
        return printed

    # ------------------------------------------------------------ waiting and watching
    def check(self) -> None:
        """Raises Stopped after a signal, and ChildError if a process has ended."""
        if self._signals:
            raise Stopped
        for child in self._running:
            if (status := child.process.poll()) is not None:
                how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
                raise child.failure(how)

    def wait_until(self, condition: Callable[[], bool], seconds: float, failure: Callable[[], Exception]) -> None:
        """Wait until a condition holds. Raises Stopped, ChildError if a process ends, and `failure()` after so long."""

        def holds() -> bool:
            self.check()
            return condition()

        self._poll(holds, seconds, failure)

    def wait_for(self, child: Child, is_ready: Callable[[], bool], seconds: float) -> None:
        """Wait until a process is ready. Raises Stopped and ChildError."""
        self.wait_until(is_ready, seconds, lambda: child.failure(f"was not ready within {seconds:.0f} s"))

    def rest(self, seconds: float) -> None:
        """Do nothing for so long. Raises Stopped, and ChildError if a process ends."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            time.sleep(POLL_SECONDS)

    def _poll(self, condition: Callable[[], bool], seconds: float, failure: Callable[[], Exception]) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if self._signals:
                raise Stopped
            if time.monotonic() > deadline:
                raise failure()
            time.sleep(POLL_SECONDS)

    # ------------------------------------------------------------ ending
    def stop(self, child: Child) -> None:
        """End a process with SIGTERM; with SIGKILL if it takes too long, or if a further signal comes."""
        process, noted, deadline = child.process, len(self._signals), time.monotonic() + STOP_SECONDS
        if process.poll() is None:
            process.terminate()
        while process.poll() is None and time.monotonic() < deadline and len(self._signals) == noted:
            time.sleep(POLL_SECONDS)
        # Whatever it has started and left behind goes, too.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._running.remove(child)

    def release(self, child: Child) -> None:
        """Leave a process running when the block is left."""
        self._running.remove(child)


def is_taken(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def free_port(wanted: int = 0) -> int:
    """The wanted port if it is free; else one below the range that the system gives to clients, so that no client takes
    it meanwhile.
    """
    port = wanted or _some_port()
    while is_taken(port):
        port = _some_port()
    return port


def _some_port() -> int:
    return 20_000 + secrets.randbelow(12_000)
