"""What an import loads and what it changes: processes load no library that they do not use, and none is patched by an import."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys

import aiokafka
import pytest

from streams.broker import aiokafka_patches
from tests.builders import ROOT

HEAVY = (
    "confluent_kafka", "aiokafka", "faust", "mode", "redis", "httpx", "argon2", "numpy", "matplotlib", "litestar",
)  # fmt: skip
WATCHED = (
    "aiokafka", "faust", "mode", "confluent_kafka", "redis", "litestar", "prometheus_client", "httpx", "matplotlib",
    "msgspec",
)  # fmt: skip

EVERYTHING = """
import importlib, pkgutil, sys
import models, streams

def import_everything():
    for package in (models, streams):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            importlib.import_module(found.name)
"""

CHANGES = """
import importlib, inspect, json, sys, types

WATCHED = frozenset({watched!r})
for name in {loaded!r}:
    importlib.import_module(name)

def is_watched(name):
    return name.partition(".")[0] in WATCHED

def attributes():
    # Functions, classes and constants by name; classes with their own attributes. Later submodules are none of these.
    found = {{}}
    for name, module in list(sys.modules.items()):
        if not is_watched(name):
            continue
        for key, value in list(vars(module).items()):
            if isinstance(value, types.ModuleType) or (key.startswith("__") and key.endswith("__")):
                continue
            found[name, key] = value
            if inspect.isclass(value) and is_watched(value.__module__):
                for inner, attribute in list(vars(value).items()):
                    if inner not in ("__annotations__", "__slotnames__", "_abc_impl"):  # caches of Python itself
                        found[f"{{value.__module__}}.{{value.__qualname__}}", inner] = attribute
    return found

def changed(before, after):
    known = {{name for name, _ in before}}
    return sorted(
        ".".join(key)
        for key, value in after.items()
        if key[0] in known and (before[key] is not value if key in before else not is_own(key, value))
    )

def is_own(key, value):
    # Faust imports some of its own names when they are first asked for.
    return key[0].partition(".")[0] == str(getattr(value, "__module__", "")).partition(".")[0]

before = attributes()
"""


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a new interpreter, in the environment of the tests."""
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | environment,
    )


def printed(program: str) -> str:
    """What a program prints; it has to succeed."""
    done = run(program)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(program: str) -> set[str]:
    """The top-level modules that are loaded after a program."""
    return set(
        json.loads(
            printed(
                f"{program}\nimport json, sys\nprint(json.dumps(sorted({{n.partition('.')[0] for n in sys.modules}})))"
            ).splitlines()[-1]
        )
    )


@pytest.fixture(scope="module")
def loaded() -> list[str]:
    """The modules of the watched libraries that our modules load, all together."""
    names = json.loads(
        printed(f"{EVERYTHING}\nimport_everything()\nimport json\nprint(json.dumps(sorted(sys.modules)))")
    )
    return [name for name in names if name.partition(".")[0] in WATCHED]


def changes(loaded: list[str], program: str) -> list[str]:
    """What a program changes in the watched libraries, all of whose modules are loaded before."""
    first = CHANGES.format(watched=WATCHED, loaded=loaded)
    return list(json.loads(printed(f"{first}\n{program}\nprint(json.dumps(changed(before, attributes())))")))


@pytest.mark.parametrize(
    "program",
    [
        "import streams.cli",
        "import sys; from streams.cli import app; sys.argv[1:] = ['--help']\ntry: app(prog_name='tierstream')\nexcept SystemExit: pass",
    ],
    ids=["import", "help"],
)
def test_the_command_line_and_its_help_load_no_heavy_library(program: str) -> None:
    assert loaded_by(program) & set(HEAVY) == set()


def test_the_console_loads_no_client_of_the_worker() -> None:
    assert loaded_by("import streams.web.app") & {"faust", "mode", "aiokafka"} == set()


def test_importing_every_module_changes_no_library(loaded: list[str]) -> None:
    assert len({name.partition(".")[0] for name in loaded}) == len(WATCHED)
    assert changes(loaded, f"{EVERYTHING}\nimport_everything()") == []


def test_install_changes_these_three_and_nothing_else(loaded: list[str]) -> None:
    program = (
        f"{EVERYTHING}\nimport_everything()\nfrom streams.broker.aiokafka_patches import install\ninstall()\ninstall()"
    )
    assert changes(loaded, program) == [
        "aiokafka.conn.AIOKafkaConnection.send",
        "aiokafka.consumer.fetcher.PartitionRecords",
        "aiokafka.producer.sender.BACKOFF_OVERRIDE",
    ]


def test_create_app_alone_can_call_install() -> None:
    users = []
    for file in sorted((ROOT / "streams").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = {f"{node.module}.{one.name}" for one in node.names}
                if names & {"streams.broker.aiokafka_patches", "streams.broker.aiokafka_patches.install"}:
                    users.append(file.relative_to(ROOT).as_posix())
    assert users == ["streams/worker/app.py"]


def test_another_version_of_aiokafka_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiokafka, "__version__", "0.15.1")
    with pytest.raises(aiokafka_patches.UnknownVersion) as refused:
        aiokafka_patches.install()
    assert str(refused.value) == (
        "aiokafka 0.15.1 is installed, but this worker is made for 0.14.x: pip install 'aiokafka==0.14.*'"
    )


def test_a_worker_with_another_aiokafka_ends_with_that_sentence() -> None:
    program = (
        "import sys, aiokafka\naiokafka.__version__ = '0.15.1'\nsys.argv = ['tierstream', 'worker']\n"
        "from streams.cli import main\nmain()"
    )
    done = run(program, TIERSTREAM_CREATE_TOPICS="false")
    assert done.returncode == 1, done.stderr
    assert "aiokafka 0.15.1 is installed, but this worker is made for 0.14.x" in done.stderr
    assert "Traceback" not in done.stderr
