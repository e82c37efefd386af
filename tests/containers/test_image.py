"""The image is built on an engine and run as a cluster would run it: no root, nothing writable, no capability, no shell."""

from __future__ import annotations

import tomllib
from collections.abc import Callable

import pytest

from scripts.requirements import closure, listed, normalized, read_lock
from tests.builders import ROOT
from tests.containers.conftest import MEASURED, REVISION
from tests.containers.engine import Engine
from tests.containers.stand_ins import IMAGE, PYTHON, inspected
from tests.scripts.imports import module_of, sources
from tests.scripts.test_dependencies import OPTIONAL_MODULES, ROOMS, paths

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(1500), pytest.mark.usefixtures("build_log")]

HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none")
LARGEST, BASE = 400_000_000, 140_000_000
"""Bytes: what the image may have, and what of it the public base image has."""


def run(engine: Engine, *arguments: str, program: str = "tierstream", options: tuple[str, ...] = ()) -> str:
    """What a program of the image prints in a container from which everything was taken that it does not need."""
    return engine.docker("run", "--rm", *HARDENED, "--entrypoint", program, *options, IMAGE, *arguments)


def test_the_image_says_what_it_is_and_starts_without_root_or_a_shell(engine: Engine) -> None:
    image = inspected(engine, IMAGE)["Config"]
    assert isinstance(image, dict)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image["Labels"].items()}
    wanted = {
        "title": "Tierstream",
        "version": project["version"],
        "revision": REVISION,
        "licenses": project["license"],
    }
    assert wanted.items() <= labels.items()
    assert image["User"] == "10001:10001"
    assert (image["Entrypoint"], image["Cmd"]) == (["tierstream"], ["worker"])


def test_the_image_is_under_400_mb(
    engine: Engine, build_log: str, record_property: Callable[[str, object], None]
) -> None:
    layers = engine.docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", IMAGE)
    # The newest layer comes first; the oldest that is ours makes the user.
    newest, user, _ = layers.partition("useradd")
    assert user
    ours = sum(int(line.split()[0]) for line in newest.splitlines())
    seconds = build_log.rpartition("built in ")[2]
    record_property(MEASURED, f"the image adds {ours / 1e6:.0f} MB to its base; built in {seconds}")
    assert 0 < ours < LARGEST - BASE


def test_it_runs_with_nothing_writable_no_capability_and_no_shell(engine: Engine) -> None:
    no_shell = ("--volume", "/dev/null:/usr/bin/dash", "--volume", "/dev/null:/usr/bin/bash")
    assert "tierstream worker" in run(engine, "worker", "--help", options=no_shell)
    assert REVISION[:12] in run(engine, "--version", options=no_shell)
    assert run(engine, "-c", "import os; print(os.getuid(), os.getgid())", program="python").split() == [
        "10001",
        "10001",
    ]


def test_every_module_of_a_worker_and_a_console_loads(engine: Engine) -> None:
    optional = {sources()[name] for name in OPTIONAL_MODULES}
    names = sorted(module_of(path) for extra in ("worker", "console") for path in paths(ROOMS[extra]) - optional)
    load = "import importlib, sys; print(len([importlib.import_module(name) for name in sys.argv[1:]]))"
    assert run(engine, "-c", load, *names, program="python").split()[-1] == str(len(names))


def test_the_core_of_the_image_is_compiled(engine: Engine) -> None:
    said = run(
        engine, "-c", "import models.fold; from models import _compiled; print(_compiled.is_in_use())", program="python"
    )
    assert said.split()[-1] == "True"


def test_modules_are_compiled_to_bytecode_since_a_container_can_t_keep_it(engine: Engine) -> None:
    ask = "import importlib.util, os, streams.cli as one; print(os.path.exists(importlib.util.cache_from_source(one.__file__)))"
    assert run(engine, "-c", ask, program="python").split()[-1] == "True"


def test_the_image_has_no_pip_of_its_own_and_nothing_of_the_building(engine: Engine) -> None:
    ask = "import importlib.util as u, shutil; print(*(u.find_spec(n) for n in ('pip', 'setuptools', 'mypy')), shutil.which('gcc'))"
    assert run(engine, "-c", ask, program="python").split()[-4:] == ["None"] * 4
    ask = "import os; print(*map(os.path.exists, ('/etc/pip.conf', '/run/secrets/ca', '/src', '/opt/compiler', '/root/.cache')))"
    assert run(engine, "-c", ask, program="python").split() == ["False"] * 5


def test_certificates_that_the_building_trusted_are_not_in_the_image(engine: Engine) -> None:
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    base = engine.docker("run", "--rm", PYTHON, "sha256sum", bundle) if engine.tools else None
    if base is None:
        pytest.skip("the base image is the public one")
    assert run(engine, bundle, program="sha256sum") == base


def test_the_image_has_the_packages_of_its_lock_file_and_no_others(engine: Engine) -> None:
    lock = read_lock(ROOT / "requirements.lock")
    wanted = {(name, lock[name].version) for name in closure(lock, listed(["worker", "console"]))}
    ask = "from importlib.metadata import distributions; print(*(f'{one.name}=={one.version}' for one in distributions()))"
    found = {tuple(one.split("==")) for one in run(engine, "-c", ask, program="python").split()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {(normalized(name), version) for name, version in found} == wanted | {(project["name"], project["version"])}
