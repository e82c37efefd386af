"""What the sources import, read from their syntax trees: also what is imported only when a function runs."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
OURS = ("models", "streams")


class Import(NamedTuple):
    """An import statement's module."""

    name: str
    is_lazy: bool
    """Whether it is imported only when a function runs."""


def module_of(path: Path) -> str:
    """The dotted name of a source file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def sources() -> dict[str, Path]:
    """Every module of ours, and its file."""
    return {module_of(path): path for room in OURS for path in (ROOT / room).rglob("*.py")}


@cache
def imports(path: Path) -> frozenset[Import]:
    """What a file imports, without what is only for type checking."""
    return frozenset(_imports(ast.parse(path.read_text()), path, is_lazy=False))


def _imports(node: ast.AST, path: Path, is_lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from (Import(one.name, is_lazy) for one in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (Import(name, is_lazy) for name in _from(child, path))
        else:
            yield from _imports(child, path, is_lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


def _from(statement: ast.ImportFrom, path: Path) -> Iterator[str]:
    base = statement.module or ""
    if statement.level:
        package = path.relative_to(ROOT).parent.parts
        above = package[: len(package) - statement.level + 1]
        base = ".".join([*above, *([base] if base else [])])
    for one in statement.names:
        whole = f"{base}.{one.name}"
        yield whole if whole in sources() else base


def reached(starts: Iterable[Path]) -> set[Path]:
    """Our files that these import, directly or by way of others, and these themselves. An import of a module imports its
    packages, too.
    """
    found: set[Path] = set()
    left = list(starts)
    while left:
        path = left.pop()
        if path in found:
            continue
        found.add(path)
        names = {one.name for one in imports(path)}
        if ROOT / "scripts" not in path.parents:
            names.add(module_of(path))
        for name in names:
            parts = name.split(".")
            packages = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
            left += [sources()[package] for package in packages if package in sources()]
    return found


def third_party(paths: Iterable[Path]) -> dict[str, set[tuple[str, bool]]]:
    """By top-level name the packages of others that the files import, and which files do, and whether lazily."""
    found: dict[str, set[tuple[str, bool]]] = {}
    for path in paths:
        for one in imports(path):
            top = one.name.partition(".")[0]
            if top not in OURS and top not in sys.stdlib_module_names and not (ROOT / "scripts" / f"{top}.py").exists():
                found.setdefault(top, set()).add((str(path.relative_to(ROOT)), one.is_lazy))
    return found
