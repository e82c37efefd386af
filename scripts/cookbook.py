"""Run docs/cookbook.md from top to bottom and write it back with the output of its commands and programs.

A block ```python is run, in one namespace with the blocks before it; its output is the block ```text right after it. In
a block ```console lines that begin with `$ ` are run in a shell, and the lines after each are its output. A block
```toml NAME or ```csv NAME is a file.

Example: python -m scripts.cookbook
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from scripts import cdnow_log

ROOT = Path(__file__).parent.parent
COOKBOOK = ROOT / "docs" / "cookbook.md"
BLOCK = re.compile(r"^```(python|console|toml|csv)(?: (\S+))?\n(.*?)^```\n(?:\n?```text\n.*?^```\n)?", re.M | re.S)


class CookbookRunner:
    """Runs blocks in one environment: a folder with the demo's log, a namespace, and the command `tierstream`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, Any] = {}
        cdnow_log.write(folder / "log")
        command = folder / "bin" / "tierstream"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m streams.cli "$@"\n')
        command.chmod(0o755)
        self._environment = os.environ | {
            "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "120",
        }

    def block(self, found: re.Match[str]) -> str:
        """Run a block; returns it with its new output."""
        kind, name, source = found.groups()
        if name is not None:
            (self._folder / name).write_text(source, "utf-8")
            return found[0]
        if kind == "console":
            commands = [line for line in source.splitlines() if line.startswith("$ ")]
            return "```console\n" + "".join(f"{one}\n{self._shell(one[2:])}" for one in commands) + "```\n"
        printed = self._python(source)
        return f"```python\n{source}```\n" + (f"\n```text\n{printed}```\n" if printed else "")

    def _python(self, source: str) -> str:
        printed = io.StringIO()
        with contextlib.chdir(self._folder), contextlib.redirect_stdout(printed):
            exec(compile(source, COOKBOOK.name, "exec"), self._names)
        return _tidy(printed.getvalue())

    def _shell(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return _tidy(done.stdout + done.stderr)


def _tidy(printed: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in printed.splitlines())


def run(text: str, folder: Path) -> str:
    """Run all blocks of a text; returns it with their new output. `folder` has to be empty."""
    return BLOCK.sub(CookbookRunner(folder).block, text)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        COOKBOOK.write_text(run(COOKBOOK.read_text("utf-8"), Path(scratch)), "utf-8")
