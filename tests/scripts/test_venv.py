"""scripts/venv.sh installs what a script needs, once, into one environment that all scripts share."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts.imports import ROOT

PROJECT = """
[project]
dependencies = ["base>=1"]
[project.optional-dependencies]
worker = ["faust-like>=1"]
console = ["pages>=1"]
"""
LOCK = """\
base==1.0 \\
    --hash=sha256:aa
    # via
    #   tierstream (pyproject.toml)
    #   pages
faust-like==2.0 \\
    --hash=sha256:bb
    # via tierstream (pyproject.toml)
needed==1.5 \\
    --hash=sha256:cc
    # via faust-like
pages==3.0 \\
    --hash=sha256:dd
    # via tierstream (pyproject.toml)
"""
TESTS = "tests==1.0 \\\n    --hash=sha256:ee\n    # via tierstream (pyproject.toml)\n"
PYTHON = """#!/bin/sh
if [ "$1 $2" = "-m pip" ]; then
    for last; do :; done
    grep -o '^[a-z-]*==[0-9.]*' "$last" | paste -sd' ' - >>"{installed}"
    exit {status}
fi
exec "{python}" "$@"
"""


class House:
    """A checkout, and an environment whose pip only writes down what it should install."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "installed"
        (folder / "scripts").mkdir()
        for name in ("venv.sh", "requirements.py"):
            shutil.copy(ROOT / "scripts" / name, folder / "scripts" / name)
        (folder / "pyproject.toml").write_text(PROJECT)
        (folder / "small.lock").write_text(LOCK)
        (folder / "large.lock").write_text(LOCK + TESTS)
        (folder / "venv" / "bin").mkdir(parents=True)
        self.pip_ends_with(0)

    def pip_ends_with(self, status: int) -> None:
        python = self.folder / "venv" / "bin" / "python"
        python.write_text(PYTHON.format(installed=self.log, python=sys.executable, status=status))
        python.chmod(0o755)

    def run(self, arguments: str) -> tuple[int, list[str]]:
        """The status of a script that needs these, and what pip was asked for."""
        self.log.unlink(missing_ok=True)
        environment = {"PATH": "/usr/bin:/bin", "TIERSTREAM_VENV": str(self.folder / "venv")}
        script = f'set -euo pipefail; . "{self.folder}/scripts/venv.sh" {arguments}; test "$PYTHON" = "$TIERSTREAM_VENV/bin/python"'
        done = subprocess.run(["bash", "-c", script], check=False, env=environment, capture_output=True, timeout=30)
        return done.returncode, self.log.read_text().split() if self.log.exists() else []


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_script_installs_what_its_extras_need_and_only_once(house: House) -> None:
    assert house.run("small.lock worker") == (0, ["base==1.0", "faust-like==2.0", "needed==1.5"])
    assert house.run("small.lock worker") == (0, [])


def test_a_script_that_needs_less_installs_nothing_after_one_that_needs_more(house: House) -> None:
    assert house.run("large.lock")[1][-1] == "tests==1.0"
    for less in ("small.lock", "small.lock worker console", "small.lock console"):
        assert house.run(less) == (0, [])


def test_another_extra_is_added(house: House) -> None:
    house.run("small.lock worker")
    assert house.run("small.lock console") == (0, ["base==1.0", "pages==3.0"])
    assert house.run("small.lock worker console") == (0, [])


def test_a_changed_version_is_installed_also_when_it_changes_back(house: House) -> None:
    house.run("large.lock")
    (house.folder / "small.lock").write_text(LOCK.replace("pages==3.0", "pages==3.1"))
    assert "pages==3.1" in house.run("small.lock console")[1]
    assert "pages==3.0" in house.run("large.lock")[1]
    assert house.run("large.lock") == (0, [])


def test_an_installation_that_fails_is_tried_again(house: House) -> None:
    house.pip_ends_with(1)
    assert house.run("small.lock worker")[0] == 1
    house.pip_ends_with(0)
    assert house.run("small.lock worker")[1] != []


def test_an_extra_that_does_not_exist_is_refused(house: House) -> None:
    assert house.run("small.lock workr") == (1, [])
