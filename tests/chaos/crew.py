"""The workers under test and their supervisor, which restarts workers that exit and records how they exited."""

from __future__ import annotations

import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streams.settings import Settings
from tests.chaos.broker import Steps
from tests.integration.harness import Worker, free_port, start_worker

RESTART_SECONDS = 1.0
STOP_SECONDS = 30.0
START_SECONDS = 60.0
POLL_SECONDS = 0.1
HEALTH_CHECK_SECONDS = 5.0
UNHEALTHY_SECONDS = 60.0
"""How long a running worker may report that it is not alive. Then the crew kills it, as an orchestrator would."""

EXPECTED_STATUSES = {0, 1, -signal.SIGKILL}
TRACEBACK = re.compile(r"^(.*)\nTraceback \(most recent call last\):\n(?:[ +|].*\n|\n)*(.*)", re.MULTILINE)
"""The line before a traceback and the one that ends it."""

IGNORED_LOGGER = " kafka.net."
"""kafka-python logs a traceback for every broken connection, which says nothing about the worker."""


class Slot:
    """A place for one worker at a time."""

    def __init__(self, crew: Crew, number: int) -> None:
        self.number = number
        self._crew = crew
        self._starts = 0
        self._clock = crew.folder / f"clock-{number}.ms"
        self._armed: str | None = None
        """The point at which the worker kills itself; None after it was killed by other means."""
        self.worker: Worker | None = None
        self.restart_at = 0.0
        self.is_frozen = False
        self.check_at = self.healthy_at = 0.0
        """When to check next whether it is alive, and when it last was; seconds of `time.monotonic`."""
        self.is_reserved = False
        """Whether a fault is using it, so that the supervisor does not restart it."""
        self.shift_clock(0)

    def __str__(self) -> str:
        return f"worker {self.number}"

    @property
    def runs(self) -> bool:
        """Whether it has a running process; a frozen one counts."""
        return self.worker is not None and self.worker.process.poll() is None

    def start(self, kill: str | None = None, **settings: Any) -> Worker:
        """Start a worker; with `kill`, as in "outputs:7", one that kills itself at that point."""
        port = free_port()
        chosen = self._crew.settings.model_copy(update={"web_port": port} | settings)
        armed = {} if kill is None else {"CHAOS_KILL": kill}
        log = self._crew.folder / f"worker-{self.number}-{self._starts}.log"
        self._crew.restarts += self._starts > 0
        self._starts += 1
        self._armed = kill
        self.worker = start_worker(chosen, log, "tests.chaos.worker", CHAOS_CLOCK=str(self._clock), **armed)
        self.is_frozen = False
        self.healthy_at = time.monotonic()
        return self.worker

    def kill(self) -> None:
        """SIGKILL."""
        if self.worker is not None and self.runs:
            self.worker.process.kill()
            self.worker.process.wait()
            self._armed = None
        self.record_exit()

    def freeze(self) -> None:
        """SIGSTOP: its connections stay open, and it answers nothing."""
        self.is_frozen = True
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)
        self.is_frozen = False
        self.healthy_at = time.monotonic()

    def steps_to_stop(self) -> Steps:
        """Wait until it is alive, then send SIGTERM: it has to exit with status 0 within half a minute.

        A worker that is still starting does not promise that.
        """
        yield from self.steps_until_alive()
        if self.worker is None or not self.runs:
            return
        process = self.worker.process
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while process.poll() is None:
            if time.monotonic() > deadline:
                self._crew.record_unexpected(self, "did not stop")
                self.kill()
                return
            yield POLL_SECONDS
        self.record_exit(expected={0})

    def steps_until_alive(self) -> Steps:
        """Wait until its process, if it has one, is alive."""
        deadline = time.monotonic() + START_SECONDS
        while self.worker is not None and self.runs and self.worker.page("healthz")[0] != 200:
            if time.monotonic() > deadline:
                return
            yield POLL_SECONDS

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Keep the supervisor from restarting it."""
        self.is_reserved = True
        try:
            yield
        finally:
            self.is_reserved = False
            self.restart_at = 0.0

    def shift_clock(self, shift_ms: int) -> None:
        """Shift the clock of the worker, or of the one that is started next, by so many milliseconds."""
        fresh = self._clock.with_suffix(".new")
        fresh.write_text(str(shift_ms))
        fresh.replace(self._clock)

    def record_exit(self, expected: set[int] = EXPECTED_STATUSES) -> None:
        """Record how the worker exited, if it has exited and that is not recorded yet."""
        if self.worker is None or self.runs:
            return
        status = self.worker.process.returncode
        if status == -signal.SIGKILL and self._armed is not None:
            self._crew.deaths[self._armed.partition(":")[0]] += 1
        if status not in expected:
            self._crew.record_unexpected(self, f"exited with status {status}")
        elif self.tracebacks():
            self._crew.record_unexpected(self, f"exited with status {status} and a traceback")
        elif status > 0:
            self._crew.say(f"{self} exited with status {status}: {self.log_tail(1)[0]}")
        self.worker = None
        self.restart_at = time.monotonic() + RESTART_SECONDS

    def log_tail(self, lines: int) -> list[str]:
        """The last lines of the log; at least one, which may be empty."""
        tail = self.worker.log_tail().splitlines()[-lines:] if self.worker else []
        return tail or [""]

    def tracebacks(self) -> list[str]:
        """The last line of each traceback in the log, without repeats."""
        log = self.worker.log.read_text("utf-8", errors="replace") if self.worker else ""
        return sorted({end for before, end in TRACEBACK.findall("\n" + log) if IGNORED_LOGGER not in before})

    def check_health(self) -> None:
        """Check every few seconds whether it is alive; kill it if it has not been for UNHEALTHY_SECONDS."""
        now = time.monotonic()
        if self.worker is None or self.is_frozen or now < self.check_at:
            return
        self.check_at = now + HEALTH_CHECK_SECONDS
        if self.worker.page("healthz")[0] == 200:
            self.healthy_at = now
        elif self.runs and now - self.healthy_at > UNHEALTHY_SECONDS:
            self._crew.record_unexpected(self, f"ran, but was not alive for {UNHEALTHY_SECONDS:.0f} s")
            self.kill()

    def _signal(self, number: int) -> None:
        if self.worker is not None and self.runs:
            self.worker.process.send_signal(number)


class Crew:
    """All workers, and how each of them exited."""

    def __init__(self, settings: Settings, folder: Path, size: int, say: Callable[[str], None]) -> None:
        self.settings = settings
        self.folder = folder
        self.say = say
        self.restarts = 0
        self.deaths: Counter[str] = Counter()
        """How often a worker killed itself, by point."""
        self.unexpected_exits: list[dict[str, Any]] = []
        self.slots = [Slot(self, number) for number in range(size)]

    def tick(self) -> None:
        """Record workers that have exited, and restart them unless a fault is using them."""
        for slot in self.slots:
            slot.record_exit()
            slot.check_health()
            if slot.worker is None and not slot.is_reserved and time.monotonic() >= slot.restart_at:
                slot.start()

    def pick(self, chance: random.Random) -> Slot:
        """A random one of the running workers; any slot if none runs."""
        return chance.choice([slot for slot in self.slots if slot.runs] or self.slots)

    def join(self) -> Slot | None:
        """A further slot; None if there are already as many as partitions."""
        if len(self.slots) >= self.settings.partitions:
            return None
        self.slots.append(Slot(self, max(slot.number for slot in self.slots) + 1))
        return self.slots[-1]

    def record_unexpected(self, slot: Slot, what: str) -> None:
        """Record something that should not have happened."""
        log = slot.worker.log.name if slot.worker else ""
        tracebacks = slot.tracebacks()
        self.unexpected_exits.append(
            {"worker": slot.number, "what": what, "log": log, "tracebacks": tracebacks, "said": slot.log_tail(15)}
        )
        self.say(f"UNEXPECTED: {slot} {what}, {log}: {'; '.join(tracebacks) or slot.log_tail(1)[0]}")

    def running(self) -> list[Worker]:
        """The workers whose process runs."""
        return [slot.worker for slot in self.slots if slot.worker is not None and slot.runs]

    def stop(self) -> None:
        """SIGTERM to all at once."""
        for slot in self.slots:
            slot.is_reserved = True
        pending = [slot.steps_to_stop() for slot in self.slots]
        while pending:
            pending = [steps for steps in pending if next(steps, None) is not None]
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """Kill all workers that are left."""
        for slot in self.slots:
            slot.is_reserved = True
            slot.kill()
