"""Makes what is published of a version, in `dist/`: wheels, their parts, notes and checksums.

First `./scripts/release --cut 0.2.0` turns the changelog's "Unreleased" into the version, and writes the version into
pyproject.toml and the chart; look at them and commit them. Then `./scripts/release` builds from the commit, never from the working
tree, and checks each wheel where nothing else is installed. The same commit gives the same pure wheels, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import uuid
import venv
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from scripts.build_client import DISTRIBUTION as CLIENT
from scripts.build_client import PACKAGE as CLIENT_PACKAGE
from scripts.build_client import REQUIREMENTS
from scripts.requirements import Pin, closure, listed, read_lock, select

ROOT: Final = Path(__file__).resolve().parent.parent
UNRELEASED: Final = "## [Unreleased]"
NAMESPACE: Final = uuid.UUID("6a3d5b0e-6f0f-5f0c-9d0b-0b6f1f5c7a11")
"""Of the serial numbers of lists of parts, which follow from name, version and commit."""
CHECKED_WITH: Final = "worker"
"""The extra with which the command line is checked."""
SUMS: Final = "SHA256SUMS"
REPLAYED_UNTIL: Final = "1997-06-01"
BUILD: Final = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]


class ReleaseError(Exception):
    """There can be no release; the message says why, and what to do."""


def say(what: str) -> None:
    """Tell what happens now."""
    print(what, file=sys.stderr, flush=True)


# ---------------------------------------------------------------- version and notes
def notes_of(changelog: str, version: str) -> str:
    """The changelog's section of a version, without its heading. Raises ReleaseError."""
    found = re.search(
        rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## \[|\Z)", changelog, flags=re.MULTILINE | re.DOTALL
    )
    if found is None:
        raise ReleaseError(
            f"CHANGELOG.md has no section [{version}]: ./scripts/release --cut {version} makes it of what is unreleased"
        )
    if not found[1].strip():
        raise ReleaseError(f"CHANGELOG.md says nothing about [{version}]: write what has changed")
    return found[1].strip() + "\n"


def cut(changelog: str, version: str, today: date) -> str:
    """The changelog, with what is unreleased as the section of a version. Raises ReleaseError."""
    if f"## [{version}]" in changelog:
        raise ReleaseError(f"CHANGELOG.md has a section [{version}] already: choose the next version")
    head, heading, rest = changelog.partition(f"{UNRELEASED}\n")
    if not heading or not rest.partition("\n## [")[0].strip():
        raise ReleaseError(f'CHANGELOG.md has nothing below "{UNRELEASED}": write what has changed')
    return f"{head}{UNRELEASED}\n\n## [{version}] - {today.isoformat()}\n{rest}"


def cut_here(version: str) -> None:
    """Write a version into the changelog, pyproject.toml and the Helm chart. Raises ReleaseError."""
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}((a|b|rc)[1-9]\d*)?", version):
        raise ReleaseError(f"{version!r} is not a version: write one as 1.4.0, or 1.4.0rc1")
    project = ROOT / "pyproject.toml"
    written = project.read_text()
    latest = re.search(r"^## \[(\d[^]]*)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    if latest is not None and Version(version) <= Version(latest[1]):
        raise ReleaseError(f"{version} is not above {latest[1]}, the latest in CHANGELOG.md: choose the next version")
    changelog = cut((ROOT / "CHANGELOG.md").read_text(), version, datetime.now(UTC).date())
    (ROOT / "CHANGELOG.md").write_text(changelog)
    project.write_text(re.sub(r'^version = ".*"$', f'version = "{version}"', written, count=1, flags=re.MULTILINE))
    # A chart's own version is a semantic one, 1.4.0-rc1.
    chart = ROOT / "docs" / "kubernetes" / "tierstream" / "Chart.yaml"
    named = re.sub(r"^appVersion: .*$", f"appVersion: {version}", chart.read_text(), count=1, flags=re.MULTILINE)
    semantic = re.sub(r"(a|b|rc)", r"-\1", version, count=1)
    chart.write_text(re.sub(r"^version: .*$", f"version: {semantic}", named, count=1, flags=re.MULTILINE))


# ---------------------------------------------------------------- the commit
def git(*arguments: str) -> str:
    """What git prints. Raises ReleaseError."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise ReleaseError("git is not installed, and a release is made of a commit: install it") from None
    except subprocess.CalledProcessError as error:
        raise ReleaseError(f"git {arguments[0]} failed: {error.stderr.strip().splitlines()[-1]}") from None
    return done.stdout.strip()


def check_out(folder: Path) -> tuple[str, int]:
    """Write the sources of the present commit into a folder, with the commit; returns it, and its time. Raises
    ReleaseError where the working tree differs from it.
    """
    if changed := git("status", "--porcelain"):
        files = [line.split(maxsplit=1)[1] for line in changed.splitlines()]
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        raise ReleaseError(
            f"{files[0]}{more} differ from the commit: commit or remove them; a release is made of a commit"
        )
    revision, seconds = git("rev-parse", "HEAD"), int(git("show", "--no-patch", "--format=%ct", "HEAD"))
    archive = folder.with_suffix(".tar")
    git("archive", "--output", str(archive), "HEAD")
    shutil.unpack_archive(archive, folder, filter="data")
    archive.unlink()
    (folder / "streams" / "revision").write_text(f"{revision[:12]}\n")
    return revision, seconds


# ---------------------------------------------------------------- wheels
def build(sources: Path, out: Path, environment: Mapping[str, str]) -> Path:
    """Build a wheel from a folder of sources. Raises ReleaseError."""
    before = set(out.glob("*.whl"))
    # Each build has a copy: what one leaves behind must not be packed by the next.
    with tempfile.TemporaryDirectory() as work:
        copy = Path(shutil.copytree(sources, Path(work) / "sources"))
        for path in [copy, *copy.rglob("*")]:
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        command = [*BUILD, str(out), str(copy)]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "", **environment}
        )
    if done.returncode:
        raise ReleaseError(f"building failed: {(done.stderr.strip() or done.stdout.strip())[-2000:]}")
    (wheel,) = set(out.glob("*.whl")) - before
    return wheel


def build_pure(sources: Path, out: Path, seconds: int) -> list[Path]:
    """Build the wheels of Tierstream and of its client. Raises ReleaseError."""
    dated = {"SOURCE_DATE_EPOCH": str(seconds)}
    client = sources.with_name("client")
    subprocess.run(
        [sys.executable, "-c", f"from scripts.build_client import *; assemble(Path({str(client)!r}))"],
        check=True, cwd=sources, env={**os.environ, "PYTHONPATH": str(sources)},
    )  # fmt: skip
    return [build(sources, out, dated), build(client, out, dated)]


def build_compiled(sources: Path, out: Path, seconds: int) -> list[Path]:
    """Build the wheels with the compiled core: for the usual platforms where cibuildwheel and an engine are there, else
    for this one. Raises ReleaseError.
    """
    environment = {"SOURCE_DATE_EPOCH": str(seconds), "TIERSTREAM_BUILD": "compiled"}
    if shutil.which("cibuildwheel") and shutil.which("docker"):
        command = ["cibuildwheel", "--platform", "linux", "--output-dir", str(out), str(sources)]
        if subprocess.run(command, check=False, env={**os.environ, **environment}).returncode:
            raise ReleaseError("cibuildwheel failed, see above; --pure makes a release without compiled wheels")
        return sorted(set(out.glob("tierstream-*.whl")) - set(out.glob("*-none-any.whl")))
    return [build(sources, out, environment)]


# ---------------------------------------------------------------- checks
class Environment:
    """An environment that has the packages of a part of the lock file, and nothing else."""

    def __init__(self, folder: Path, requirements: str) -> None:
        venv.create(folder)
        self._folder = folder
        self._python = folder / "bin" / "python"
        (folder / "requirements.txt").write_text(requirements)
        self._pip("install", "--quiet", "--no-compile", "--require-hashes", "-r", str(folder / "requirements.txt"))

    def install(self, wheel: Path) -> None:
        """Put a wheel in the place of the one before. Raises ReleaseError."""
        self._pip("install", "--quiet", "--no-compile", "--no-deps", "--force-reinstall", str(wheel))
        self._pip("check")

    def run(self, *command: str) -> str:
        """What a command of the environment prints. Raises ReleaseError."""
        return self._run([str(self._folder / "bin" / command[0]), *command[1:]])

    def _pip(self, *arguments: str) -> None:
        self._run([sys.executable, "-m", "pip", "--python", str(self._python), *arguments])

    def _run(self, command: Sequence[str]) -> str:
        settings = {name: value for name, value in os.environ.items() if not name.startswith(("TIERSTREAM_", "PYTHON"))}
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=self._folder, env=settings)
        if done.returncode:
            raise ReleaseError(f"{' '.join(command)} failed: {(done.stderr.strip() or done.stdout.strip())[-2000:]}")
        return done.stdout


def check_command_line(environment: Environment, wheel: Path, version: str, revision: str, log: Path) -> dict[str, str]:
    """Install a wheel and use it; returns the digests of what it replays. Raises ReleaseError."""
    environment.install(wheel)
    is_pure = wheel.name.endswith("-none-any.whl")
    said = dict(line.split(None, 1) for line in environment.run("tierstream", "--version").splitlines())
    expected = {
        "tierstream": version, "revision": revision[:12], "core": "plain Python" if is_pure else "compiled",
    }  # fmt: skip
    if wrong := {name: said.get(name) for name in expected if said.get(name) != expected[name]}:
        raise ReleaseError(f"{wheel.name} says {wrong}, but it is {expected}")
    if "annual-spend" not in environment.run("tierstream", "policy", "list"):
        raise ReleaseError(f"{wheel.name} lacks the policies that come with Tierstream")
    out = log.with_name(f"replayed-by-{wheel.stem}")
    options = ["--policy", "annual-spend", "--until", REPLAYED_UNTIL, "--out", str(out)]
    environment.run("tierstream", "replay", *map(str, sorted(log.glob("*.jsonl"))), *options)
    return digests(path for path in out.rglob("*") if path.is_file() and path.name != "summary.json")


def digests(paths: Any) -> dict[str, str]:
    """The SHA-256 of files, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}


def write_log(folder: Path) -> Path:
    """The beginning of the demo's log, for a replay."""
    whole, log = folder / "whole", folder / "log"
    subprocess.run([sys.executable, str(ROOT / "scripts/cdnow_log.py"), str(whole)], check=True, stdout=subprocess.PIPE)
    log.mkdir()
    for path in whole.glob("*.jsonl"):
        (log / path.name).write_text("".join(path.read_text().splitlines(keepends=True)[:1500]))
    return log


def check(wheels: Sequence[Path], version: str, revision: str, work: Path) -> None:
    """Use each wheel where nothing else is installed; all replay the same bytes. Raises ReleaseError."""
    lock = work / "sources" / "requirements.lock"
    log = write_log(work)
    runs_here = [one for one in wheels if one.name.startswith("tierstream-") and _runs_here(one)]
    say("Checking in an empty environment: " + ", ".join(one.name for one in runs_here))
    environment = Environment(work / "checked", select(lock, listed([CHECKED_WITH])))
    found = {one.name: check_command_line(environment, one, version, revision, log) for one in runs_here}
    if any(one != next(iter(found.values())) for one in found.values()):
        raise ReleaseError(f"the wheels replay different bytes: {json.dumps(found)}")
    (client,) = (one for one in wheels if one.name.startswith(CLIENT_PACKAGE))
    say(f"Checking in an empty environment: {client.name}")
    environment = Environment(work / "client-checked", select(lock, set(REQUIREMENTS.values())))
    environment.install(client)
    environment.run("python", "-c", f"import {CLIENT_PACKAGE}; {CLIENT_PACKAGE}.tier_changes")


def _runs_here(wheel: Path) -> bool:
    return bool(parse_wheel_filename(wheel.name)[3] & set(sys_tags()))


# ---------------------------------------------------------------- parts and sums
def parts(
    name: str, version: str, revision: str, seconds: int, lock: Mapping[str, Pin], always: Collection[str]
) -> dict[str, Any]:
    """The packages of a lock file that a distribution is used with, as CycloneDX 1.6: those that are always there, and
    those that extras bring.
    """
    root = Component(name=name, version=version, type=ComponentType.APPLICATION, bom_ref=name)
    needed = closure(dict(lock), always)
    components = {
        one: Component(
            name=one,
            version=pin.version,
            bom_ref=one,
            purl=PackageURL("pypi", name=one, version=pin.version),
            scope=ComponentScope.REQUIRED if one in needed else ComponentScope.OPTIONAL,
        )
        for one, pin in lock.items()
    }
    bom = Bom(
        components=components.values(),
        serial_number=uuid.uuid5(NAMESPACE, f"{name} {version} {revision}"),
        metadata=BomMetaData(component=root, timestamp=datetime.fromtimestamp(seconds, UTC)),
    )
    for one, component in components.items():
        bom.register_dependency(component, [components[other] for other, pin in lock.items() if one in pin.parents])
    named = [components[one] for one, pin in lock.items() if "tierstream" in pin.parents or one in always]
    bom.register_dependency(root, named)
    found: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    return found


def write_parts(out: Path, version: str, revision: str, seconds: int, sources: Path) -> None:
    """Write the lists of parts of both distributions."""
    lock = read_lock(sources / "requirements.lock")
    needed = set(REQUIREMENTS.values())
    of_client = {name: lock[name] for name in closure(lock, needed)}
    for name, part, always in (("tierstream", lock, listed([])), (CLIENT, of_client, needed)):
        text = json.dumps(parts(name, version, revision, seconds, part, always), indent=1, sort_keys=True)
        (out / f"{name.replace('-', '_')}-{version}.cdx.json").write_text(text + "\n")


def release(out: Path, *, compiled: bool) -> None:
    """Make all, or raise ReleaseError; an earlier release in the folder is replaced once all is made."""
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / SUMS).exists())):
        raise ReleaseError(f"{out} holds something that is no release: choose another --out, or remove it")
    with tempfile.TemporaryDirectory(prefix="tierstream-release-") as folder:
        work = Path(folder)
        sources, made = work / "sources", work / "made"
        made.mkdir()
        revision, seconds = check_out(sources)
        version = str(tomllib.loads((sources / "pyproject.toml").read_text())["project"]["version"])
        notes = notes_of((sources / "CHANGELOG.md").read_text(), version)
        say(f"Tierstream {version}, commit {revision[:12]}: building the pure wheels")
        wheels = build_pure(sources, made, seconds)
        if compiled:
            say("Building with the compiled core (a minute or two)")
            wheels += build_compiled(sources, made, seconds)
        check(wheels, version, revision, work)
        say("Writing lists of parts, notes and checksums")
        write_parts(made, version, revision, seconds, sources)
        (made / "NOTES.md").write_text(notes)
        sums = digests(made.iterdir())
        (made / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
        if out.exists():
            shutil.rmtree(out)
        shutil.copytree(made, out)


def main() -> None:
    """Make a release of the present commit, or turn what is unreleased into a version."""
    parser = argparse.ArgumentParser(
        prog="release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Example: scripts/release --cut 0.2.0 && git commit -am 'Version 0.2.0' && git tag v0.2.0 && scripts/release",
    )  # fmt: skip
    parser.add_argument(
        "--cut", metavar="VERSION", help="write this version into CHANGELOG.md and pyproject.toml, only"
    )
    parser.add_argument("--pure", action="store_true", help="without wheels that have the compiled core")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for all of it (default: dist)")
    chosen = parser.parse_args()
    try:
        if chosen.cut is not None:
            cut_here(chosen.cut)
            say(f"CHANGELOG.md and pyproject.toml have {chosen.cut}: look at them, commit, and run ./scripts/release")
            return
        release(chosen.out, compiled=not chosen.pure)
    except ReleaseError as error:
        sys.exit(f"release: {error}")
    except KeyboardInterrupt:
        sys.exit("release: stopped; nothing was written")
    for path in sorted(chosen.out.iterdir()):
        print(path)


if __name__ == "__main__":
    main()
