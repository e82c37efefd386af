"""What tests run that Maven has: fetched once into this checkout's .cache/, and shared by its tests."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

FETCH_SECONDS = 700


def can_run_java() -> bool:
    """Whether there are a Java and a Maven."""
    return bool(shutil.which("java") and shutil.which("mvn"))


def fetched(pom: Path, folder: Path, goal: str, *properties: str) -> Path:
    """The folder with what a goal of Maven's dependency plugin puts there; it is fetched unless it is there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = folder.with_name("partial")
            shutil.rmtree(partial, ignore_errors=True)
            subprocess.run(
                [
                    "mvn", "-q", "-B", "-f", str(pom), f"dependency:{goal}", f"-DoutputDirectory={partial}",
                    f"-DmarkersDirectory={partial}",  # where Maven records what it has unpacked: in the same folder
                    *(f"-D{one}" for one in properties),
                ],
                check=True, timeout=FETCH_SECONDS, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            partial.rename(folder)
    return folder
