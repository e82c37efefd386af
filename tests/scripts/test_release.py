"""A release: the version that is cut, what is refused, and what is made. scripts/release itself tries each wheel."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from scripts import release
from scripts.build_client import assemble
from scripts.release import ReleaseError, build, check_out, cut, cut_here, digests, notes_of, parts, write_parts
from scripts.requirements import closure, listed, read_lock
from tests.builders import ROOT

TODAY = date(2026, 11, 30)
CHART = "docs/kubernetes/tierstream/Chart.yaml"
CHANGELOG = """# Changelog

## [Unreleased]

### Added
- Something new.

## [0.1.0] - 2026-01-31

### Added
- Everything.
"""


def test_what_is_unreleased_becomes_the_version_and_its_notes() -> None:
    found = cut(CHANGELOG, "0.2.0", TODAY)
    assert "## [Unreleased]\n\n## [0.2.0] - 2026-11-30\n\n### Added\n- Something new.\n" in found
    assert notes_of(found, "0.2.0") == "### Added\n- Something new.\n"
    assert notes_of(found, "0.1.0") == notes_of(CHANGELOG, "0.1.0") == "### Added\n- Everything.\n"


@pytest.mark.parametrize(
    ("changelog", "version", "problem"),
    [
        (CHANGELOG, "0.1.0", "has a section [0.1.0] already"),
        (CHANGELOG.replace("### Added\n- Something new.\n", ""), "0.2.0", "has nothing below"),
        (CHANGELOG.replace("## [Unreleased]\n", ""), "0.2.0", "has nothing below"),
    ],
)
def test_a_version_without_changes_or_twice_is_refused(changelog: str, version: str, problem: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        cut(changelog, version, TODAY)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("version", "problem"),
    [("0.3.0", "no section [0.3.0]"), ("0.2.0", "says nothing about [0.2.0]"), ("0.1", "no section")],
)
def test_notes_that_nobody_wrote_are_refused(version: str, problem: str) -> None:
    changelog = CHANGELOG.replace("## [0.1.0]", "## [0.2.0] - 2026-02-01\n\n## [0.1.0]")
    with pytest.raises(ReleaseError) as caught:
        notes_of(changelog, version)
    assert problem in str(caught.value)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a commit, in the place of ours."""
    root = tmp_path / "project"
    (root / "streams").mkdir(parents=True)
    (root / "streams" / "__init__.py").touch()
    (root / "CHANGELOG.md").write_text(CHANGELOG)
    (root / "pyproject.toml").write_text('[project]\nname = "tierstream"\nversion = "0.1.0"\n')
    (root / CHART).parent.mkdir(parents=True)
    (root / CHART).write_text("version: 0.1.0\nappVersion: 0.1.0\n")
    git(root, "init", "--quiet")
    commit(root)
    monkeypatch.setattr(release, "ROOT", root)
    return root


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@t", *arguments], check=True)


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "a commit")


def test_the_chart_of_a_version_before_its_release_has_a_semantic_version(repository: Path) -> None:
    cut_here("0.2.0rc1")
    assert (repository / CHART).read_text() == "version: 0.2.0-rc1\nappVersion: 0.2.0rc1\n"


def test_a_cut_writes_the_version_into_both_files(repository: Path) -> None:
    cut_here("0.2.0")
    assert (repository / CHART).read_text() == "version: 0.2.0\nappVersion: 0.2.0\n"
    assert 'version = "0.2.0"' in (repository / "pyproject.toml").read_text()
    assert "## [0.2.0] - " in (repository / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        ("0.2", "'0.2' is not a version"),
        ("v0.2.0", "is not a version"),
        ("0.0.9", "0.0.9 is not above 0.1.0"),
        ("0.1.0", "not above"),
    ],
)
def test_a_cut_refuses_what_is_no_next_version_and_changes_nothing(
    repository: Path, version: str, problem: str
) -> None:
    with pytest.raises(ReleaseError) as caught:
        cut_here(version)
    assert problem in str(caught.value)
    assert (repository / "CHANGELOG.md").read_text() == CHANGELOG
    assert 'version = "0.1.0"' in (repository / "pyproject.toml").read_text()


def test_the_sources_of_a_release_are_those_of_the_commit_with_its_revision(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    revision, seconds = check_out(tmp_path / "work" / "sources")
    assert (tmp_path / "work" / "sources" / "streams" / "revision").read_text().strip() == revision[:12]
    assert abs(time.time() - seconds) < 3600
    assert not (repository / "streams" / "revision").exists()


@pytest.mark.parametrize("name", ["CHANGELOG.md", "new.txt"])
def test_a_working_tree_that_differs_from_the_commit_is_refused(repository: Path, tmp_path: Path, name: str) -> None:
    (repository / name).write_text("changed")
    with pytest.raises(ReleaseError) as caught:
        check_out(tmp_path / "sources")
    assert name in str(caught.value)
    assert "commit or remove" in str(caught.value)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ReleaseError, match="holds something that is no release"):
        release.release(tmp_path, compiled=False)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_refusal_is_one_sentence_without_a_stack_trace() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.release", "--cut", "next"],
        check=False, capture_output=True, text=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "release: 'next' is not a version: write one as 1.4.0, or 1.4.0rc1\n"


# ---------------------------------------------------------------- what is made
def test_the_list_of_parts_has_every_locked_package_with_its_version_and_what_it_needs() -> None:
    lock = read_lock(ROOT / "requirements.lock")
    found = parts("tierstream", "0.2.0", "0" * 40, 1_790_000_000, lock, listed([]))
    pins = {line.split(" ")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line[:60]}
    assert {f"{one['name']}=={one['version']}" for one in found["components"]} == {
        "==".join((canonicalize_name(pin.split("==")[0]), pin.split("==")[1])) for pin in pins if pin[0].isalnum()
    }
    required = {one["name"] for one in found["components"] if one["scope"] == "required"}
    assert required == closure(lock, listed([]))
    assert "aiokafka" not in required
    needs = {one["ref"]: set(one.get("dependsOn", [])) for one in found["dependencies"]}
    assert {"aiokafka", "msgspec"} <= needs["tierstream"]
    assert {"httpcore", "certifi"} <= needs["httpx"]


def test_lists_of_parts_are_valid_and_the_same_whenever_they_are_made(tmp_path: Path) -> None:
    made = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        write_parts(tmp_path / str(number), "0.2.0", "0" * 40, 1_790_000_000, ROOT)
        made.append(digests((tmp_path / str(number)).iterdir()))
    assert made[0] == made[1]
    assert made[0].keys() == {"tierstream-0.2.0.cdx.json", "tierstream_client-0.2.0.cdx.json"}
    for name in made[0]:
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str((tmp_path / "0" / name).read_text()) is None


def test_the_same_sources_give_the_same_wheel_whenever_and_by_whomever_it_is_built(tmp_path: Path) -> None:
    sources, made = tmp_path / "sources", []
    assemble(sources)
    for number, mode in enumerate((0o600, 0o644)):
        for path in sources.rglob("*"):
            if path.is_file():
                path.chmod(mode)
                os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
        (tmp_path / str(number)).mkdir()
        wheel = build(sources, tmp_path / str(number), {"SOURCE_DATE_EPOCH": "1790000000"})
        made.append((wheel.name, hashlib.sha256(wheel.read_bytes()).hexdigest()))
    assert made[0] == made[1]
