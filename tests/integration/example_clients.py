"""The programs of docs/examples in other languages, built as their users build them; what that fetches stays in the cache."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.client_types import EXAMPLES, npm_ci
from tests.integration.harness import ROOT, wait_until

CACHE = ROOT / ".cache" / "examples"
DATA = ROOT / "tests" / "data"
LANGUAGES = ("node", "go", "java")
PROGRAMS = ("produce", "follow", "decode")
"""Those of the examples, and one of the tests that decodes bodies into the generated types."""
BUILD_SECONDS = 600
NEEDED = {"node": "node", "npm": "npm", "go": "Go", "javac": "a JDK", "mvn": "Maven"}

Commands = dict[str, list[str]]
"""By program the command that runs it."""


def missing() -> list[str]:
    """What the programs need and this machine lacks."""
    return [name for command, name in NEEDED.items() if not shutil.which(command)]


def build(language: str, folder: Path) -> Commands:
    """Build the programs of a language in a folder."""
    return {"node": _node, "go": _go, "java": _java}[language](folder)


def _node(folder: Path) -> Commands:
    shutil.copytree(EXAMPLES / "node", folder, dirs_exist_ok=True)
    (folder / "node_modules").symlink_to(npm_ci(EXAMPLES / "node", CACHE / "node") / "node_modules")
    return {name: ["node", str(folder / f"{name}.mjs")] for name in PROGRAMS[:2]}


def _go(folder: Path) -> Commands:
    shutil.copytree(EXAMPLES / "go", folder, dirs_exist_ok=True)
    (folder / "decode").mkdir()
    shutil.copyfile(DATA / "decode.go", folder / "decode" / "main.go")
    _run(["go", "vet", "-mod=readonly", "./..."], folder)
    _run(["go", "build", "-mod=readonly", "-o", "bin/", "./..."], folder)
    return {name: [str(folder / "bin" / name)] for name in PROGRAMS}


def _java(folder: Path) -> Commands:
    pom = EXAMPLES / "java" / "pom.xml"
    jars = CACHE / "java" / hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    if not jars.exists():
        partial = folder / "jars"
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
        _run(["mvn", "-q", "-B", "-f", str(pom), *goal], folder)
        jars.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(partial, jars)
    sources = [str(path) for path in [*sorted((EXAMPLES / "java").rglob("*.java")), DATA / "Decode.java"]]
    _run(
        ["javac", "-Xlint:all,-serial", "-Werror", "-proc:none", "-d", str(folder), "-cp", f"{jars}/*", *sources],
        folder,
    )
    run = ["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{folder}:{jars}/*"]
    return {name: [*run, name.capitalize()] for name in PROGRAMS}


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    assert done.returncode == 0, f"{' '.join(command[:3])}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"


class Following:
    """A program that prints tier changes, while it runs."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self._folder = folder

    @property
    def printed(self) -> list[str]:
        return (self._folder / "printed").read_text("utf-8").splitlines()

    @property
    def complaints(self) -> list[str]:
        return (self._folder / "complaints").read_text("utf-8").splitlines()

    def wait_for(self, count: int) -> None:
        """Wait until it has printed so many lines."""

        def is_there() -> bool:
            assert self.process.poll() is None, self.complaints
            return len(self.printed) >= count

        wait_until(is_there, 90, lambda: f"{count} lines; it has {len(self.printed)}, and says {self.complaints}")

    def interrupt(self) -> int:
        """Press Ctrl-C; returns the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(90)


@contextmanager
def following(command: list[str], folder: Path) -> Iterator[Following]:
    folder.mkdir()
    with (folder / "printed").open("wb") as printed, (folder / "complaints").open("wb") as complaints:
        # A background job of a shell ignores Ctrl-C, and so would Java that is started from it.
        command = ["env", "--default-signal=INT", *command]
        process = subprocess.Popen(command, stdout=printed, stderr=complaints)
    try:
        yield Following(process, folder)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
