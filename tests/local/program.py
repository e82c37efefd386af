"""Programs that start others: run as users run them, and ended in every way."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.builders import ROOT
from tests.integration.harness import wait_until

SECONDS = 150


class Program:
    """A program that starts others, what it says, and the processes below it."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        prepare: Callable[[], Any] | None = None,
        root: Path = ROOT,
        **settings: str,
    ) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self._out = folder / "out.txt"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TIERSTREAM_")}
        # A folder of the name of one of our packages, where the program runs, does not stand in for it.
        (folder / "models").mkdir(exist_ok=True)
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                env=inherited | {"PYTHONPATH": str(root), "TMPDIR": str(self.temporary), **settings},
                cwd=folder,
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=prepare,  # noqa: PLW1509  # no thread runs here
            )

    def said(self) -> str:
        return self._out.read_text()

    def wait_for(self, pattern: str) -> re.Match[str]:
        def found() -> bool:
            assert self.process.poll() is None, self.said()
            return re.search(pattern, self.said(), re.MULTILINE) is not None

        wait_until(found, SECONDS, lambda: f"{pattern} in:\n{self.said()}")
        match = re.search(pattern, self.said(), re.MULTILINE)
        assert match is not None
        return match

    def below(self) -> set[int]:
        """The processes that it has started, and theirs."""
        found, parents = {self.process.pid}, _parents()
        while new := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= new
        return found - {self.process.pid}

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal, and check that nothing is left; returns the exit status."""
        below = self.below()
        self.process.send_signal(number)
        return self.ended(below)

    def ended(self, below: set[int]) -> int:
        """The exit status; nothing that it had started is left."""
        status = self.process.wait(SECONDS)
        assert not below & _parents().keys(), self.said()
        assert list(self.temporary.glob("tierstream-*")) == []
        return status


def _parents() -> dict[int, int]:
    """By process the one that started it; dead ones that nobody has asked for do not count."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = file.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            found[int(file.parent.name)] = int(parent)
    return found


def as_in_a_background_job() -> None:
    """What a shell does to a command that it starts in the background, without job control."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
