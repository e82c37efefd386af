"""Which build this is, and which formats it reads and writes: what `tierstream --version` says."""

from __future__ import annotations

import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Final

from models import _compiled
from models.contracts import CONTRACTS_VERSION
from models.policy.form import FORM_VERSION
from models.state import SCHEMA_VERSION

ROOT: Final = Path(__file__).resolve().parents[2]
REVISION_FILE: Final = ROOT / "streams" / "revision"
"""Written by scripts/release into what it builds."""


def version_text() -> str:
    """What `tierstream --version` prints: a name and a value a line."""
    return "\n".join(
        f"{name:10} {value}"
        for name, value in (
            ("tierstream", version()),
            ("revision", revision() or "unknown"),
            ("core", "compiled" if _compiled.is_in_use() else "plain Python"),
            ("state", SCHEMA_VERSION),
            ("topics", CONTRACTS_VERSION),
            ("policies", FORM_VERSION),
        )
    )


def version() -> str:
    """Of this checkout, or of the installed distribution."""
    project = ROOT / "pyproject.toml"
    if project.exists():
        return str(tomllib.loads(project.read_text())["project"]["version"])
    return metadata.version("tierstream")


def revision() -> str | None:
    """The commit that this was built from, or that is checked out; None if nobody knows."""
    if REVISION_FILE.exists():
        return REVISION_FILE.read_text().strip()
    if not (ROOT / ".git").exists():
        return None
    git = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=, changed since"]
    try:
        return subprocess.run(git, check=True, capture_output=True, text=True, timeout=10).stdout.strip()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
