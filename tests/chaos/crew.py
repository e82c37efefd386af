"""The workers under test and their supervisor, which starts again what exits and remembers how it did."""

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
from tests.chaos.proxy import low_port
from tests.integration.harness import Worker, start_worker

RESTART_SECONDS = 1.0
STOP_SECONDS = 30.0
START_SECONDS = 60.0
POLL_SECONDS = 0.1
LOOK_SECONDS = 5.0
ILL_SECONDS = 60.0
"""How long a worker that runs may say that it is not alive: as an orchestrator would, the crew ends it then."""

EXPECTED_STATUSES = {0, 1, -signal.SIGKILL}
TRACEBACK = re.compile(r"^(.*)\nTraceback \(most recent call last\):\n(?:[ +|].*\n|\n)*(.*)", re.MULTILINE)
"""The line before a traceback and the one that ends it."""

OF_NO_ACCOUNT = " kafka.net."
"""kafka-python logs every connection that breaks with a traceback, which says nothing about the worker."""


class Slot:
    """A place for one worker at a time."""

    def __init__(self, crew: Crew, number: int) -> None:
        self.number = number
        self._crew = crew
        self._starts = 0
        self._clock = crew.folder / f"clock-{number}.ms"
        self._armed: str | None = None
        """The point at which the worker is to kill itself; None once it was killed otherwise."""
        self.worker: Worker | None = None
        self.restart_at = 0.0
        self.is_frozen = False
        self.look_at = self.well_at = 0.0
        """When to look next whether it is alive, and when it last was."""
        self.is_held = False
        """Whether the supervisor leaves it alone, because a fault is using it."""
        self.shift_clock(0)

    def __str__(self) -> str:
        return f"worker {self.number}"

    @property
    def runs(self) -> bool:
        """Whether there is a process, even if frozen."""
        return self.worker is not None and self.worker.process.poll() is None

    def start(self, kill: str | None = None, **settings: Any) -> Worker:
        """Start a worker, perhaps one that kills itself at a point."""
        port = low_port()
        chosen = self._crew.settings.model_copy(update={"web_port": port} | settings)
        armed = {} if kill is None else {"CHAOS_KILL": kill}
        log = self._crew.folder / f"worker-{self.number}-{self._starts}.log"
        self._crew.restarts += self._starts > 0
        self._starts += 1
        self._armed = kill
        self.worker = start_worker(chosen, log, "tests.chaos.worker", CHAOS_CLOCK=str(self._clock), **armed)
        self.is_frozen = False
        self.well_at = time.monotonic()
        return self.worker

    def kill(self) -> None:
        """SIGKILL."""
        if self.worker is not None and self.runs:
            self.worker.process.kill()
            self.worker.process.wait()
            self._armed = None
        self.note_exit()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        self.is_frozen = True
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)
        self.is_frozen = False
        self.well_at = time.monotonic()

    def stopping(self) -> Steps:
        """SIGTERM; it has to exit with status 0 within half a minute. Before it lives it could not keep that."""
        yield from self.coming_alive()
        if self.worker is None or not self.runs:
            return
        process = self.worker.process
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while process.poll() is None:
            if time.monotonic() > deadline:
                self._crew.unexpected(self, "did not stop")
                self.kill()
                return
            yield POLL_SECONDS
        self.note_exit(expected={0})

    def coming_alive(self) -> Steps:
        """Until it answers, if there is one."""
        deadline = time.monotonic() + START_SECONDS
        while self.worker is not None and self.runs and self.worker.page("healthz")[0] != 200:
            if time.monotonic() > deadline:
                return
            yield POLL_SECONDS

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the supervisor leave it alone."""
        self.is_held = True
        try:
            yield
        finally:
            self.is_held = False
            self.restart_at = 0.0

    def shift_clock(self, shift_ms: int) -> None:
        """Put the worker's clock off by so much, whether it runs yet or not."""
        fresh = self._clock.with_suffix(".new")
        fresh.write_text(str(shift_ms))
        fresh.replace(self._clock)

    def note_exit(self, expected: set[int] = EXPECTED_STATUSES) -> None:
        """Record how the worker ended, if it did and that is not recorded yet."""
        if self.worker is None or self.runs:
            return
        status = self.worker.process.returncode
        if status == -signal.SIGKILL and self._armed is not None:
            self._crew.deaths[self._armed.partition(":")[0]] += 1
        if status not in expected:
            self._crew.unexpected(self, f"exited with status {status}")
        elif self.tracebacks():
            self._crew.unexpected(self, f"exited with status {status} and a traceback")
        elif status > 0:
            self._crew.say(f"{self} exited with status {status}: {self.said(1)[0]}")
        self.worker = None
        self.restart_at = time.monotonic() + RESTART_SECONDS

    def said(self, lines: int) -> list[str]:
        """The last lines of the log."""
        said = self.worker.said().splitlines()[-lines:] if self.worker else []
        return said or [""]

    def tracebacks(self) -> list[str]:
        """What the tracebacks in the log end with."""
        said = self.worker.log.read_text("utf-8", errors="replace") if self.worker else ""
        return sorted({end for before, end in TRACEBACK.findall("\n" + said) if OF_NO_ACCOUNT not in before})

    def look(self) -> None:
        """See whether it is alive, now and then; end it if it has not been for long."""
        now = time.monotonic()
        if self.worker is None or self.is_frozen or now < self.look_at:
            return
        self.look_at = now + LOOK_SECONDS
        if self.worker.page("healthz")[0] == 200:
            self.well_at = now
        elif self.runs and now - self.well_at > ILL_SECONDS:
            self._crew.unexpected(self, f"ran, but was not alive for {ILL_SECONDS:.0f} s")
            self.kill()

    def _signal(self, number: int) -> None:
        if self.worker is not None and self.runs:
            self.worker.process.send_signal(number)


class Crew:
    """All workers, and how each of them ended."""

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
        """Record workers that have exited, and start them again unless a fault is using them."""
        for slot in self.slots:
            slot.note_exit()
            slot.look()
            if slot.worker is None and not slot.is_held and time.monotonic() >= slot.restart_at:
                slot.start()

    def pick(self, chance: random.Random) -> Slot:
        """One of the running workers, if there is one."""
        return chance.choice([slot for slot in self.slots if slot.runs] or self.slots)

    def join(self) -> Slot | None:
        """One more, if there is a partition for them."""
        if len(self.slots) >= self.settings.partitions:
            return None
        self.slots.append(Slot(self, max(slot.number for slot in self.slots) + 1))
        return self.slots[-1]

    def unexpected(self, slot: Slot, what: str) -> None:
        """Record something that should not have happened."""
        log = slot.worker.log.name if slot.worker else ""
        tracebacks = slot.tracebacks()
        self.unexpected_exits.append(
            {"worker": slot.number, "what": what, "log": log, "tracebacks": tracebacks, "said": slot.said(15)}
        )
        self.say(f"UNEXPECTED: {slot} {what}, {log}: {'; '.join(tracebacks) or slot.said(1)[0]}")

    def running(self) -> list[Worker]:
        """The workers with a process."""
        return [slot.worker for slot in self.slots if slot.worker is not None and slot.runs]

    def stop(self) -> None:
        """SIGTERM to all at once."""
        for slot in self.slots:
            slot.is_held = True
        stopping = [slot.stopping() for slot in self.slots]
        while stopping:
            stopping = [steps for steps in stopping if next(steps, None) is not None]
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """End whatever is left."""
        for slot in self.slots:
            slot.is_held = True
            slot.kill()
