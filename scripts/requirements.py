"""Prints the part of a lock file that some extras need, with its hashes, for environments with only the packages of a
role.

    python scripts/requirements.py requirements.lock worker console > /tmp/worker-and-console.txt
    pip install --require-hashes -r /tmp/worker-and-console.txt

The packages that the project always needs belong to every part. For each package a lock file names those that need it
("via"); the part has all packages that the requirements in pyproject.toml need, directly or not. It needs only Python's
standard library, because it runs before anything is installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
PINNED: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)")
PARENT: Final = re.compile(r"^    # +(?:via +)?([A-Za-z0-9][A-Za-z0-9._-]*)")


class Pin(NamedTuple):
    """A package of a lock file."""

    version: str
    parents: frozenset[str]
    """The packages that need it."""
    text: str
    """Its lines, hashes included."""


def normalized(requirement: str) -> str:
    """The name of the package that a requirement is for, as package indexes compare names.

    >>> normalized("Pydantic_Settings[yaml]>=2.16")
    'pydantic-settings'
    """
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]).lower()


def read_lock(path: Path) -> dict[str, Pin]:
    """The packages of a lock file that was written by `uv pip compile`."""
    found: dict[str, Pin] = {}
    lines: list[str] = []
    for line in [*path.read_text().splitlines(keepends=True), ""]:
        if lines and not line.startswith(" "):
            name, version = PINNED.match(lines[0]).groups()  # type: ignore[union-attr]
            parents = {match[1] for one in lines if (match := PARENT.match(one)) and match[1] != "via"}
            found[normalized(name)] = Pin(version, frozenset(map(normalized, parents)), "".join(lines))
            lines = []
        if PINNED.match(line) or lines:
            lines.append(line)
    return found


def listed(extras: Iterable[str], project: Path = ROOT / "pyproject.toml") -> set[str]:
    """The packages that the project lists for these extras, and always. Raises KeyError for an extra that does not exist."""
    table = tomllib.loads(project.read_text())["project"]
    optional = table["optional-dependencies"]
    wanted = list(table["dependencies"])
    for extra in extras:
        if extra not in optional:
            raise KeyError(f"no such extra: {extra}; there are {', '.join(optional)}")
        wanted += optional[extra]
    return {normalized(one) for one in wanted}


def closure(lock: dict[str, Pin], names: Collection[str]) -> set[str]:
    """These packages and all that they need, directly or not. Raises KeyError for a package that the lock does not
    have.
    """
    found, before = set(names), 0
    if missing := found - lock.keys():
        raise KeyError(f"not in the lock file: {', '.join(sorted(missing))}; renew it, as CONTRIBUTING.md says")
    while len(found) > before:
        before = len(found)
        found |= {name for name, pin in lock.items() if pin.parents & found}
    return found


def select(path: Path, names: Collection[str]) -> str:
    """The lines of a lock file for these packages and all that they need."""
    lock = read_lock(path)
    return "".join(lock[name].text for name in sorted(closure(lock, names)))


def main() -> None:
    """Print the part of a lock file."""
    if len(sys.argv) < 2:
        sys.exit("usage: requirements.py LOCK [EXTRA ...], as in: requirements.py requirements.lock worker console")
    try:
        sys.stdout.write(select(Path(sys.argv[1]), listed(sys.argv[2:])))
    except KeyError as error:
        sys.exit(f"requirements.py: {error.args[0]}")


if __name__ == "__main__":
    main()
