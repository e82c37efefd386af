"""A real schema registry with Confluent's interface: Apicurio, which Maven fetches once. It keeps schemas in memory."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.harness import ROOT, free_port, wait_until

POM = Path(__file__).with_name("registry.pom.xml")
CACHE = ROOT / ".cache" / "registry"
FETCH_SECONDS = 700


def can_run() -> bool:
    return bool(shutil.which("java") and shutil.which("mvn"))


def _jar() -> Path:
    """The registry's program; it is fetched unless this checkout has this version."""
    version = re.search(r"<registry\.version>(.+?)</registry\.version>", POM.read_text())
    assert version
    folder = CACHE / version[1]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = CACHE / "partial"
            shutil.rmtree(partial, ignore_errors=True)
            subprocess.run(
                [
                    "mvn", "-q", "-B", "-f", str(POM), "dependency:unpack-dependencies", f"-DoutputDirectory={partial}",
                    f"-DmarkersDirectory={partial}",  # where Maven records what it has unpacked: in the same folder
                ],
                check=True, timeout=FETCH_SECONDS, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            partial.rename(folder)
    return next(folder.glob("*-runner.jar"))


@contextmanager
def running_registry(folder: Path) -> Iterator[str]:
    """Run a registry, and yield its URL."""
    jar, port, log = _jar(), free_port(), folder / "registry.log"
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    command = [
        "java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Dquarkus.http.port={port}",
        "-Dquarkus.http.host=127.0.0.1", "-jar", str(jar),
    ]  # fmt: skip

    def answers() -> bool:
        assert process.poll() is None, log.read_text("utf-8", "replace")[-3000:]
        try:
            with urllib.request.urlopen(f"{url}/subjects", timeout=5):
                return True
        except OSError:
            return False

    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, cwd=folder)
    try:
        wait_until(answers, 120, "the registry answers")
        yield url
    finally:
        process.kill()
        process.wait()
