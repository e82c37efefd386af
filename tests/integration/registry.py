"""A real schema registry with Confluent's interface: Apicurio, which Maven fetches once. It keeps schemas in memory."""

from __future__ import annotations

import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.harness import ROOT, free_port, wait_until
from tests.integration.maven import fetched

POM = Path(__file__).with_name("registry.pom.xml")
CACHE = ROOT / ".cache" / "registry"


def _jar() -> Path:
    """The registry's program; it is fetched unless this checkout has this version."""
    version = re.search(r"<registry\.version>(.+?)</registry\.version>", POM.read_text())
    assert version
    return next(fetched(POM, CACHE / version[1], "unpack-dependencies").glob("*-runner.jar"))


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
