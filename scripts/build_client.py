"""Builds `tierstream-client`, the small distribution for programs that follow the topics or look customers up.

Its package `tierstream_client` has, in one folder, streams/client and the modules of models/ that it imports; imports
among them become relative. It may need three other packages.
"""

from __future__ import annotations

import argparse
import ast
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from scripts.requirements import normalized

ROOT: Final = Path(__file__).resolve().parent.parent
CLIENT: Final = "streams.client"
CORE: Final = "models"
PACKAGE: Final = "tierstream_client"
DISTRIBUTION: Final = "tierstream-client"
REQUIREMENTS: Final = {"confluent_kafka": "confluent-kafka", "httpx": "httpx", "msgspec": "msgspec"}
"""The packages that the client may need, by the names under which they are imported."""
PROJECT: Final = """\
[build-system]
requires = ["setuptools>=75"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "{version}"
description = "Follow the tier changes and churn alerts of Tierstream, and look customers up"
readme = "README.md"
requires-python = "{python}"
license = "Apache-2.0"
license-files = ["LICENSE"]
dependencies = [
{dependencies}
]

[tool.setuptools]
packages = ["{package}"]

[tool.setuptools.package-data]
{package} = ["py.typed"]
"""


class BuildError(Exception):
    """The client can't be built; the message says what to change."""


def path_of(module: str) -> Path:
    """The file of one of our modules or packages."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imported(module: str) -> set[str]:
    """The modules that a module imports, also within functions and for type checking: our modules by their full names,
    others by their top names.
    """
    found = set()
    for node in ast.walk(ast.parse(path_of(module).read_text())):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= _from(str(node.module), node)
        elif isinstance(node, ast.ImportFrom):
            if node.level > 1:
                raise BuildError(
                    f"{module}, line {node.lineno}: a relative import of the client may name only its own folder"
                )
            found |= _from(f"{CLIENT}.{node.module}" if node.module else CLIENT, node)
    return {one if one.split(".")[0] in (CORE, "streams") else one.split(".")[0] for one in found}


def _from(base: str, node: ast.ImportFrom) -> set[str]:
    if base.split(".", 1)[0] not in (CORE, "streams"):
        return {base}
    inner = {f"{base}.{one.name}" for one in node.names}
    return {name if path_of(name).exists() else base for name in inner}


def modules() -> dict[str, str]:
    """The modules of the client, each with its name in the package. Raises BuildError."""
    found = {f"{CLIENT}.{path.stem}" for path in path_of(CLIENT).parent.glob("*.py") if path.stem != "__init__"}
    found.add(CLIENT)
    left, needed = sorted(found), set()
    while left:
        module = left.pop()
        for name in imported(module) - found:
            if name.split(".")[0] in (CORE, "streams"):
                if name == CORE or name.startswith("streams."):
                    raise BuildError(f"{module} imports {name}, which is not for clients")
                found.add(name)
                left.append(name)
            elif name not in sys.stdlib_module_names:
                needed.add(name)
                if name not in REQUIREMENTS:
                    raise BuildError(
                        f"{module} imports {name}; the client needs no more than {', '.join(REQUIREMENTS)}"
                    )
    if unused := REQUIREMENTS.keys() - needed:
        raise BuildError(f"nothing imports {', '.join(sorted(unused))} any more: leave it out of REQUIREMENTS")
    names = {module: "" if module == CLIENT else module.rpartition(".")[2] for module in found}
    if len(set(names.values())) < len(names):
        raise BuildError(f"two modules of the client have the same name: {', '.join(sorted(names))}")
    return names


def rewritten(source: str, names: dict[str, str]) -> str:
    """A module's source, in which our modules have their names in the package, in docstrings too.

    >>> names = {"streams.client": "", "streams.client.changes": "changes", "models.contracts": "contracts"}
    >>> rewritten("from models import contracts", names)
    'from . import contracts'
    >>> rewritten("from models.contracts import Erasure", names)
    'from .contracts import Erasure'
    """
    source = re.sub(rf"^(\s*)from {CORE} import ", r"\1from . import ", source, flags=re.MULTILINE)
    for module in sorted(names, key=len, reverse=True):
        whole = f"{PACKAGE}.{names[module]}".rstrip(".")
        statement = rf"^(from ){re.escape(module)}(?= import )"
        source = re.sub(statement, rf"\1.{names[module]}", source, flags=re.MULTILINE)
        source = re.sub(rf"\b{re.escape(module)}\b(?!/)", whole, source)
    return source


def leftovers(source: str) -> Iterator[str]:
    """The names, in imports or text, of our packages that the client does not have."""
    yield from re.findall(rf"\b(?:{CORE}|streams)\.[a-z_]\w+", source)
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [str(node.module)]
        yield from (name for name in names if name.split(".")[0] in (CORE, "streams", "scripts", PACKAGE))


def assemble(folder: Path) -> None:
    """Write the sources of the distribution into a folder. Raises BuildError."""
    names = modules()
    package = folder / PACKAGE
    package.mkdir(parents=True)
    for module, name in names.items():
        source = rewritten(path_of(module).read_text(), names)
        if left := sorted(leftovers(source)):
            raise BuildError(f"{module} still names {', '.join(left)}")
        (package / f"{name or '__init__'}.py").write_text(source)
    (package / "py.typed").touch()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (folder / "pyproject.toml").write_text(_project(project))
    shutil.copy(path_of(CLIENT).parent / "README.md", folder)
    shutil.copy(ROOT / "LICENSE", folder)


def _project(project: dict[str, Any]) -> str:
    wanted = [one for one in project["dependencies"] if normalized(one) in REQUIREMENTS.values()]
    return PROJECT.format(
        name=DISTRIBUTION,
        version=project["version"],
        python=project["requires-python"],
        dependencies="\n".join(f'    "{one}",' for one in wanted),
        package=PACKAGE,
    )


def build(out: Path) -> Path:
    """Build the wheel into a folder; returns its path. Raises BuildError."""
    with tempfile.TemporaryDirectory() as work:
        assemble(Path(work) / "sources")
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        subprocess.run([*command, "--wheel-dir", f"{work}/built", f"{work}/sources"], check=True)
        (wheel,) = Path(work, "built").glob("*.whl")
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(wheel, out))


def main() -> None:
    """Build the wheel of `tierstream-client`."""
    parser = argparse.ArgumentParser(prog="build-client", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder for the wheel (default: dist)")
    try:
        print(build(parser.parse_args().out))
    except (BuildError, subprocess.CalledProcessError) as error:
        sys.exit(f"build-client: {error}")


if __name__ == "__main__":
    main()
