"""The pages hold together: the site builds without a warning, and what the pages name (files, commands, settings, codes) exists."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from models.events import REASONS
from streams.cli import app
from streams.settings import Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("scripts/**/README.md")])
CODE = sorted(
    path
    for folder in ("models", "streams", "tests", "scripts")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".toml", ".lua", ".html", ".css", ".js", ".xml") or (path.is_file() and not path.suffix)
)
LOOSE = [ROOT / name for name in ("Dockerfile", "docker-compose.yml", "mkdocs.yml", "pyproject.toml")]
OBSERVABILITY = sorted(DOCS.glob("observability/*.yml"))
CHART = sorted(path for path in DOCS.glob("kubernetes/**/*") if path.is_file())

NAMED_PATH = re.compile(r"(?<![\w/.\-{:@])(?:\./)?((?:streams|models|tests|scripts|docs)/[\w\-./*]*\w)")
BARE_MODULE = re.compile(r"`(?:[\w\-]+/)*([\w\-]+\.(?:py|lua))`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|[\s`|(])(?:\./scripts/)?tierstream ((?:[^`#|\n]|\\\n)+)", re.MULTILINE)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read(path: Path) -> str:
    return path.read_text("utf-8")


# ---------------------------------------------------------------- the site
def test_the_site_builds_with_every_link_and_anchor_leading_somewhere(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    assert (tmp_path / "index.html").is_file()
    assert (tmp_path / "tutorial.ipynb").is_file()


def test_the_site_fetches_nothing_from_other_hosts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    fetched = re.compile(r"""(?:src=|@import|url\()["' ]*(?:https?:)?//|<link[^>]+href="(?:https?:)?//""")
    pages = [path for path in tmp_path.rglob("*") if path.suffix in (".html", ".css") and path.stem != "backtest-cdnow"]
    assert len(pages) > len(list(DOCS.glob("*.md")))
    assert [path.name for path in pages if fetched.search(path.read_text("utf-8"))] == []


# ---------------------------------------------------------------- links of the pages beside the site
def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", read(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [path for path in PAGES if DOCS not in path.parents], ids=name_of)
def test_links_of_pages_outside_the_site_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", read(page))):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = page.parent / target if target else page
        assert file.exists(), link
        if anchor:
            assert anchor in anchors_of(file), link


# ---------------------------------------------------------------- files
@cache
def names_of_files() -> frozenset[str]:
    return frozenset(path.name for folder in ("models", "streams", "tests", "scripts", "docs") for path in (ROOT / folder).rglob("*"))  # fmt: skip


@cache
def exists(named: str, beside: Path) -> bool:
    """Whether there is such a file in the repository, or beside the one that names it."""
    return any(any(base.glob(named)) if "*" in named else (base / named).exists() for base in (ROOT, beside))


def test_every_file_that_pages_code_and_comments_name_exists() -> None:
    missing = [
        f"{name_of(path)}: {named}"
        for path in [*PAGES, *CODE, *LOOSE, *OBSERVABILITY, *CHART]
        for named in NAMED_PATH.findall(read(path))
        if not exists(named, path.parent)
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_module_that_a_page_names_in_short_exists(page: Path) -> None:
    assert set(BARE_MODULE.findall(FENCE.sub("", read(page)))) <= names_of_files()


@cache
def names_of_tests() -> frozenset[str]:
    return frozenset(name for path in CODE if path.name.startswith("test_") for name in re.findall(r"^def (test_\w+)", read(path), re.MULTILINE))  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"\b(test_\w+)(?!\w|\.py)(…?)", read(page))
    assert [
        name
        for name, rest in named
        if not any(one == name or (rest and one.startswith(name)) for one in names_of_tests())
    ] == []


# ---------------------------------------------------------------- commands
def commands_in(page: Path) -> Iterator[list[str]]:
    for words in COMMAND.findall(read(page).replace("\\\n", " ")):
        yield re.sub(r"'[^']*'|\"[^\"]*\"", "TEXT", words).split()


@cache
def command_named(name: str) -> Any:
    """The command, or group of commands, of a name such as `policy diff`; None if there is none."""
    if not name:
        return typer.main.get_command(app)
    before, _, last = name.rpartition(" ")
    group = command_named(before)
    return group.get_command(typer.Context(group), last) if hasattr(group, "get_command") else None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_that_a_page_shows_exists_with_its_options(page: Path) -> None:
    for words in commands_in(page):
        rest = words
        name = ""
        while rest and hasattr(command_named(name), "get_command") and re.fullmatch(r"[a-z][a-z\-]+", rest[0]):
            name, rest = f"{name} {rest[0]}".strip(), rest[1:]
            assert command_named(name) is not None, " ".join(words)
        known = {option for one in command_named(name).params for option in (*one.opts, *one.secondary_opts)}
        for word in rest:
            if word in ("&&", ";", ">", "2>"):
                break
            option = re.match(r"--?[a-z][a-z\-]*", word)
            if name and option and option[0] != "--help":
                assert option[0] in known, f"{option[0]} of {' '.join(words)}"


# ---------------------------------------------------------------- lists that the program has, too
def test_every_setting_of_a_worker_is_on_the_page_of_settings() -> None:
    text = read(DOCS / "settings.md")
    names = {name.upper() for name in Settings.model_fields}
    assert {name for name in names if f"`TIERSTREAM_{name}`" not in text and f"`_{name}`" not in text} == set()


def test_every_reason_code_is_on_the_page_of_failures() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", read(DOCS / "failures.md").partition("### Reason codes")[2], re.MULTILINE))  # fmt: skip
    assert rows == REASONS


def test_the_glossary_is_sorted_and_gives_each_word_one_meaning() -> None:
    words = re.findall(r"^\*\*(.+?)\*\*", read(DOCS / "glossary.md"), re.MULTILINE)
    assert len(words) > 40
    assert words == sorted(set(words), key=str.casefold)


def test_the_index_leads_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall(read(DOCS / "index.md"))}
    assert {path.name for path in DOCS.glob("*.md")} - linked == {"index.md"}


def test_prose_wraps_at_120_columns() -> None:
    long = [
        f"{name_of(page)}:{number}"
        for page in PAGES
        for number, line in enumerate(
            re.sub(FENCE, lambda block: "\n" * block[0].count("\n"), read(page)).split("\n"), 1
        )
        if len(line) > 120 and " " in line and not re.match(r"\||    | *<|.*\]\(", line)
    ]
    assert long == []


def test_the_rooms_of_the_architecture_page_are_the_layers_of_the_linter() -> None:
    contracts = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = (one["layers"] for one in contracts if one.get("containers") == ["streams"])
    named: list[set[str]] = []
    for level, rooms in re.findall(
        r"^\| (\d?) ?\| ((?:`\w+`(?:, )?)+) \|", read(DOCS / "architecture.md"), re.MULTILINE
    ):
        if level:
            named.append(set())
        named[-1] |= set(re.findall(r"\w+", rooms))
    assert named == [set(layer.split(" | ")) for layer in layers]


def test_every_room_says_what_it_is_for_and_names_public_things_that_exist() -> None:
    """A docstring names them as `Name` (file.py), several of one file with commas."""
    missing = []
    for init in (ROOT / "streams").rglob("__init__.py"):
        docstring = ast.get_docstring(ast.parse(read(init))) or ""
        assert docstring.split("\n")[0].endswith("."), name_of(init)
        for names, file in re.findall(r"((?:`\w+`(?:,| and)?\s+)+)\((\w+\.py)\)", docstring):
            defined = read(init.parent / file)
            missing += [
                f"{name_of(init)}: {name}"
                for name in re.findall(r"\w+", names.replace(" and ", " "))
                if not re.search(rf"^(?:async def|def|class) {name}\b|^{name}\b.*=", defined, re.MULTILINE)
            ]
    assert missing == []
