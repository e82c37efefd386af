"""Types of the topics' bodies for programs in other languages: TypeScript, Go and Java.

json-schema-to-typescript and quicktype make them (scripts/contracts) of the schemas of scripts.documents.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from models.outputs import LIFE_CYCLE, TIER_CHANGES
from scripts import documents

ROOT: Final = Path(__file__).resolve().parent.parent
EXAMPLES: Final = ROOT / "docs" / "examples"
CONTRACTS: Final = ROOT / "scripts" / "contracts"
CACHE: Final = ROOT / ".cache" / "contracts"
GENERATED: Final = ("node/tierstream.ts", "go/tierstream/*.go", "java/tierstream/*.java")
UNIONS: Final = {TIER_CHANGES: "TierAnnouncement", LIFE_CYCLE: "LifeCycleAnnouncement"}
"""What a record of a topic is called that has bodies of several classes."""


class ToolError(Exception):
    """A tool is missing, or failed. The text says which one, and what to do."""


def bodies() -> dict[str, Any]:
    """The bodies' names, and the schemas of the bodies and of their parts."""
    carried = documents.carried_bodies()
    classes = tuple(one for found in carried.values() for one in found)
    definitions = documents.draft_07(documents.components(classes, "#/definitions/{name}")[1])
    roots = []
    for topic, found in carried.items():
        if topic in UNIONS:
            heads = [{"$ref": f"#/definitions/{one.__name__}"} for one in found]
            definitions[UNIONS[topic]] = {"description": documents.TOPICS[topic], "anyOf": heads}
        roots.append(UNIONS.get(topic) or found[0].__name__)
    return {"roots": roots, "definitions": definitions}


def files() -> dict[str, str]:
    """The types' files, by path."""
    found: dict[str, str] = json.loads(run_node("types.mjs", text=json.dumps(bodies())))
    return {path: _run(["gofmt"], text) if path.endswith(".go") else text for path, text in found.items()}


def run_node(script: str, *arguments: str, text: str = "") -> str:
    """Run a program of scripts/contracts; returns what it prints. npm fetches its packages once. Raises ToolError."""
    folder = node_folder()
    shutil.copyfile(CONTRACTS / script, folder / script)
    return _run(["node", str(folder / script), *arguments], text)


def node_folder() -> Path:
    """The folder of the programs' packages; npm fetches them unless this checkout has those of the lock file."""
    return npm_ci(CONTRACTS, CACHE)


def npm_ci(packages: Path, cache: Path) -> Path:
    """A folder in the cache with what a package.json and its lock file ask for."""
    names = ("package.json", "package-lock.json", ".npmrc")
    digest = hashlib.sha256(b"".join((packages / name).read_bytes() for name in names)).hexdigest()[:16]
    folder = cache / digest
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = cache / "partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            for name in names:
                shutil.copyfile(packages / name, partial / name)
            _run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(partial)])
            partial.rename(folder)
    return folder


def _run(command: list[str], text: str = "") -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=600, check=False)
    except FileNotFoundError:
        raise ToolError(f"no {command[0]} found: it needs Node with npm, and Go") from None
    if done.returncode:
        raise ToolError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/client-types",
        description="Write the types of the topics' bodies for TypeScript, Go and Java.",
        epilog="Example: scripts/client-types --out docs/examples",
    )
    parser.add_argument("--out", type=Path, default=EXAMPLES, help="folder for node/, go/ and java/ (docs/examples)")
    folder: Path = parser.parse_args(arguments).out
    try:
        written = files()
        for pattern in GENERATED:
            for path in folder.glob(pattern):
                path.unlink()
        for name, text in written.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, "utf-8")
    except ToolError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}; give another folder by --out")
    print(f"{len(written)} files in {folder}")


if __name__ == "__main__":
    main()
