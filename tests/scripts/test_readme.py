"""README's steps, run line by line as they are written there: each ends as it should, and shows what README says.

`./scripts/test` is left out, since this is it. What a step prints stands in the next ones where README has a placeholder
(PORT, URL, the line `export …`). `/tmp` is a folder of the test, and `.venv` the environment that the scripts use.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import httpx
import pytest

from tests.builders import ROOT
from tests.integration.harness import wait_until

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (shutil.which("java") and shutil.which("mvn")) and not os.environ.get("CI"),
        reason="needs Java 17 and Maven",
    ),
]

SECONDS: Final = 240
LEFT_OUT: Final = {"./scripts/test": "it is what runs this"}
STAY_UP: Final = {
    "./scripts/demo": "Ctrl-C ends the demo",
    "tierstream up": "Ctrl-C ends it all",
    "docs/examples/follow_tier_changes.py": r" 1516 \w+ -> platinum$",
}
"""Commands that go on until Ctrl-C, by what is in them, and what they have printed when the next step can come."""
SHOWN: Final = {
    "./scripts/demo": [r"(?i)customers", r"^The web console:\nhttp://127\.0\.0\.1:\d+\nSign in as developer with \S+$"],
    "docs/examples/follow_tier_changes.py": [r"^1997-07-24 00:00:00\+00:00 1516 gold -> platinum$"],
    "customer show 1516": ['"tier": "platinum"'],
    "alerts digest": ["Customers at risk", r"The most urgent\n\n1\. "],
    "policy show annual-spend": ["platinum", "complaints", "Win-back voucher"],
    "./scripts/cdnow-log": [r"6,922 lines .*purchases\.jsonl"],
    "tierstream replay": ["Replayed under annual-spend@1", "too_many_decimals: 1"],
    "customer explain 1516 /tmp": ["Customer 1516 under annual-spend@1, as of 1998-07-01T00:00:00Z"],
    "policy new": [r"mine\.toml"],
    "policy diff": [r"diff\.html"],
    "policy backtest": [r"backtest\.html"],
    "./scripts/compile": [""],
    "tierstream up": [
        "^  export .*TIERSTREAM_CLOCK=event",
        r"^The console:\nhttp://127\.0\.0\.1:\d+\nSign in as developer with \S+$",
    ],
    "tierstream load /tmp": ["^loaded 8,147 events", r"(?s)(purchases\.jsonl:69\d\d: refused.*){3}"],
    "tierstream load --event": ["^loaded 1 event: purchases 1$"],
    "customer explain 1516 --journal": [r"purchase of \$60\.00"],
    "tierstream doctor": ["^0 problems"],
}
"""By what is in a command, patterns of what it prints, or of what it says on standard error."""
ASK_THE_WORKER: Final = ("customer show", "--journal")


class Step(NamedTuple):
    """A command of README, and what its comment says."""

    command: str
    comment: str

    @property
    def status(self) -> int:
        """The exit status that README tells."""
        found = re.search(r"\(status (\d)\)", self.comment)
        return int(found[1]) if found else 0


def steps_of(section: str) -> list[Step]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    parted = [re.match(r"(.*?)(?:\s{2,}#\s*(.*))?$", line) for block in blocks for line in block.splitlines()]
    return [Step(found[1], found[2] or "") for found in parted if found is not None and found[1]]


def sections() -> dict[str, list[Step]]:
    """The steps under each heading that has some."""
    parted = re.split(r"^#+ (.+)$", (ROOT / "README.md").read_text("utf-8"), flags=re.MULTILINE)
    found = {heading: steps_of(text) for heading, text in zip(parted[1::2], parted[2::2], strict=True)}
    return {heading: steps for heading, steps in found.items() if steps}


def not_shown(step: Step, output: str) -> str | None:
    """A pattern that a command's output should have and has not; None if it has all."""
    found = [name for name in SHOWN if name in step.command]
    assert found, f"say in this test what README's command shows: {step.command}"
    patterns = SHOWN[max(found, key=len)]
    return next((one for one in patterns if not re.search(one, output, re.MULTILINE)), None)


class Terminal:
    """Runs steps, one after the other; those that stay up go on beside the next ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("TIERSTREAM_")}
        for name in ("TIERSTREAM_VENV", "TIERSTREAM_COMPILED"):
            if name in os.environ:
                self._environment[name] = os.environ[name]
        self._exported: dict[str, str] = {}
        self._placeholders: dict[str, str] = {}
        self.running: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}

    def run(self, step: Step) -> None:
        if step.command in LEFT_OUT or step.command in self.running:
            return
        if step.command.startswith("export "):
            assert self._exported, "nothing has printed a line `export …`"
            return
        command = self._filled_in(step.command)
        if (stays := next((name for name in STAY_UP if name in step.command), None)) is not None:
            output = self._start(step.command, command, STAY_UP[stays])
        else:
            output = self._run(step, command)
        missing = not_shown(step, output)
        assert missing is None, f"{missing} is not in what {command} prints:\n{output}"

    def _filled_in(self, command: str) -> str:
        for name, value in self._placeholders.items():
            command = re.sub(rf"\b{name}\b", value, command)
        command = command.replace("/tmp/", f"{self._folder}/")
        if venv := self._environment.get("TIERSTREAM_VENV"):
            command = command.replace(".venv/", f"{venv}/")
        assert "…" not in command, command
        assert not re.search(r"[\s:=](PORT|URL|HOST)\b", command), f"no step has printed what stands there in {command}"
        return command

    def _start(self, written: str, command: str, until: str) -> str:
        log = self._folder / f"stays-up-{len(self.running)}.txt"
        with log.open("wb") as sink:
            process = self._popen(command, sink)
        self.running[written] = process, log

        def said() -> str:
            return log.read_text("utf-8")

        def is_up() -> bool:
            assert process.poll() is None, f"{command} ended with {process.returncode}:\n{said()}"
            return re.search(until, said(), re.MULTILINE) is not None

        wait_until(is_up, SECONDS, lambda: f"{until} from {command}:\n{said()}")
        output = said()
        for name, pattern in (("PORT", r"follow_tier_changes\.py 127\.0\.0\.1:(\d+)$"), ("URL", r"--redis-url (\S+)$")):
            if found := re.search(pattern, output, re.MULTILINE):
                self._placeholders[name] = found[1]
        if found := re.search(r"^\s*export (.+)$", output, re.MULTILINE):
            self._exported = dict(one.split("=", 1) for one in shlex.split(found[1]))
        if found := re.search(r"^(http://127\.0\.0\.1:\d+)$", output, re.MULTILINE):
            assert httpx.get(f"{found[1]}/signin").status_code == 200
        return output

    def _run(self, step: Step, command: str) -> str:
        """What a command prints. The worker is asked again until it has folded what was loaded, as a person would do."""
        status, output = -1, ""

        def is_right() -> bool:
            nonlocal status, output
            process = self._popen(command, subprocess.PIPE)
            output = process.communicate(timeout=SECONDS)[0].decode()
            status = process.returncode
            return status == step.status and not_shown(step, output) is None

        if any(one in command for one in ASK_THE_WORKER):
            wait_until(is_right, SECONDS, lambda: f"{command}:\n{output}")
        else:
            is_right()
        assert status == step.status, f"{command} ended with {status}:\n{output}"
        return output

    def _popen(self, command: str, sink: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["bash", "-c", command], cwd=ROOT, env=self._environment | self._exported, stdin=subprocess.DEVNULL,
            stdout=sink, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def press_ctrl_c(self, written: str) -> tuple[int, str]:
        """The exit status of a command that stays up, and what it has printed."""
        process, log = self.running.pop(written)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        return process.wait(60), log.read_text("utf-8")


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    one = Terminal(tmp_path_factory.mktemp("readme"))
    yield one
    for process, _ in one.running.values():
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def test_every_block_of_commands_is_one_that_is_run() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    fences = re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert [kind for kind, block in fences if kind != "sh" and "./scripts/" in block] == []
    assert sum(len(steps) for steps in sections().values()) == sum(
        len(block.splitlines()) for kind, block in fences if kind == "sh"
    )


@pytest.mark.parametrize("section", sections())
def test_the_steps_of_a_section_do_what_it_says(terminal: Terminal, section: str) -> None:
    for step in sections()[section]:
        terminal.run(step)


def test_ctrl_c_ends_what_stays_up(terminal: Terminal) -> None:
    assert len(terminal.running) == len(STAY_UP)
    for written in reversed(list(terminal.running)):
        status, output = terminal.press_ctrl_c(written)
        assert status == 0, output
        assert "Traceback" not in output, output
