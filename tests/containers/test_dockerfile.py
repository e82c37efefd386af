"""The Dockerfile, read without an engine: what it copies can be copied and suffices, and what it fetches goes by the secrets."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import NamedTuple

from tests.builders import ROOT

PINNED = re.compile(r"[a-z0-9./-]+:[A-Za-z0-9._-]+@sha256:[0-9a-f]{64}")
FLAG = re.compile(r"--\S+$")


class Instruction(NamedTuple):
    """A line of the Dockerfile, with the lines that go on from it."""

    name: str
    rest: str

    @property
    def words(self) -> list[str]:
        """What comes after the flags."""
        return [word for word in shlex.split(self.rest) if not FLAG.match(word)]


def instructions() -> list[Instruction]:
    """The Dockerfile's instructions, in order."""
    lines = [line for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [Instruction(*line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def copied() -> Iterator[str]:
    """The paths that are copied from the checkout."""
    for one in instructions():
        if one.name == "ADD":
            raise AssertionError("ADD unpacks and fetches: COPY says what it does")
        if one.name == "COPY" and "--from=" not in one.rest:
            assert not one.rest.startswith("["), "this test does not read the form in brackets"
            yield from (path.rstrip("/") for path in one.words[:-1])
        yield from re.findall(r"--mount=type=bind\S*?source=([^,\s]+)", one.rest)


def matches(path: str, pattern: str) -> bool:
    """Whether a pattern of .dockerignore is one for the path, or for a folder that it is in."""
    patterns = [pattern.removeprefix("**/")] if pattern.startswith("**/") else []
    whole = PurePosixPath(path)
    for part in (whole, *whole.parents):
        if fnmatchcase(str(part), pattern) and str(part).count("/") == pattern.count("/"):
            return True
        if any(fnmatchcase(part.name, one) for one in patterns):
            return True
    return False


def is_admitted(path: str) -> bool:
    """Whether the builder sees the path: the last line of .dockerignore that is about it says so."""
    admitted = True
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        if line.strip() and not line.startswith("#") and matches(path, line.lstrip("!")):
            admitted = line.startswith("!")
    return admitted


def files(path: str) -> list[str]:
    """The files of the checkout at the path, or below it, but for what Python compiled."""
    found = [ROOT / path] if (ROOT / path).is_file() else [one for one in (ROOT / path).rglob("*") if one.is_file()]
    return [one.relative_to(ROOT).as_posix() for one in found if "__pycache__" not in one.parts]


def test_all_that_the_image_copies_exists_and_is_not_ignored() -> None:
    paths = list(copied())
    assert {"models", "streams", "pyproject.toml"} <= set(paths)
    for path in paths:
        assert files(path), f"{path} does not exist"
        for file in files(path):
            assert is_admitted(file), f"{file} is ignored by .dockerignore"


def test_what_is_not_for_the_image_is_ignored() -> None:
    for path in (
        "tests/conftest.py",
        ".git/config",
        ".cache/kafka/x",
        "secrets/key",
        "docs/index.md",
        "requirements-dev.lock",
    ):
        assert not is_admitted(path), path
    for folder in ("models", "streams/web"):
        assert not is_admitted(f"{folder}/__pycache__/one.pyc"), folder


def test_whatever_the_copied_scripts_use_is_copied_too() -> None:
    paths = list(copied())
    scripts = [path for path in paths if path.startswith("scripts/")]
    assert scripts
    for script in scripts:
        text = "\n".join(line for line in (ROOT / script).read_text("utf-8").splitlines() if not line.startswith("#"))
        used = {f"scripts/{name}" for name in re.findall(r"(?:scripts|BASH_SOURCE\[0\]\}\"\))/([\w.-]+)", text)}
        used |= set(re.findall(r"requirements[\w-]*\.lock", text)) if 'venv.sh"' in text else set()
        used |= set(re.findall(r"\bpyproject\.toml\b|\bREADME\.md\b|\bLICENSE\b", text))
        missing = {name for name in used if (ROOT / name).is_file()} - set(paths)
        assert not missing, f"{script} uses {missing}"


def test_whatever_is_fetched_goes_by_the_secrets_that_say_how() -> None:
    fetching = {"pip": r"(?:\bpip\b.* install|venv\.sh)(?!.*--no-index)", "apt": r"apt-get (?:update|install)"}
    seen = set()
    for one in instructions():
        for part in re.split(r"&&|;", one.rest) if one.name == "RUN" else ():
            for secret, pattern in fetching.items():
                if re.search(pattern, part):
                    assert f"--mount=type=secret,id={secret}," in one.rest, one.rest
                    seen.add(secret)
    assert seen == set(fetching)


def test_the_base_is_pinned_and_every_stage_that_is_not_another_begins_with_it() -> None:
    found = instructions()
    (base,) = (
        one.rest.partition("=")[2] for one in found if one.name == "ARG" and one.rest.startswith("PYTHON_IMAGE=")
    )
    assert PINNED.fullmatch(base), base
    assert {one.words[0] for one in found if one.name == "FROM"} == {"${PYTHON_IMAGE}"}


def test_the_last_stage_runs_as_a_number_without_a_shell_and_installs_nothing() -> None:
    found = instructions()
    last = found[max(index for index, one in enumerate(found) if one.name == "FROM") :]
    assert [one.rest for one in last if one.name == "USER"] == ["10001:10001"]
    assert [one.rest for one in last if one.name == "ENTRYPOINT"] == ['["tierstream"]']
    assert not [one.rest for one in last if one.name == "RUN" and re.search("pip|apt", one.rest)]


def test_the_image_s_version_is_the_project_s() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert Instruction("ARG", f"VERSION={version}") in instructions()


def test_no_path_of_the_dockerfile_names_an_architecture_or_a_version_of_python() -> None:
    for one in instructions():
        if not one.rest.startswith("PYTHON_IMAGE="):
            assert not re.search(r"amd64|x86_64|aarch64|arm64|python3\.\d", one.rest), one.rest


def test_lines_of_dockerignore_are_read_as_docker_reads_them() -> None:
    assert matches("models/policies/annual-spend.toml", "models")
    assert matches("a/__pycache__/c.pyc", "**/__pycache__")
    assert matches("a/b/c.pyc", "**/*.py[cod]")
    assert not matches("scripts/compile", "compile")
    assert not matches("a/models", "models")
