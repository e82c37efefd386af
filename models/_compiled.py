"""Finds the compiled form of the core, if one exists for exactly these sources; `scripts/compile` makes it, and the
wheels for a platform have it.

mypyc compiles the same Python. Without a compiled form, or once a source has changed, the Python itself runs: the
results are the same, it is slower. `TIERSTREAM_COMPILED=no` asks for plain Python.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from xxhash import xxh3_128_hexdigest

ROOT: Final = Path(__file__).resolve().parent.parent
PACKED: Final = "compiled"
"""The folder beside this file, within a wheel."""
MODULES: Final = {
    "models": (
        "alerts", "buckets", "customer", "events", "explain", "facts", "fold", "gamma_gamma", "life", "mbg_nbd",
        "outputs", "placement", "profile", "risk", "state", "tiers", "units", "value",
    ),
    "models.policy": ("policy",),
    "streams.engine": ("batch", "envelope", "merge", "plan", "schedule"),
}  # fmt: skip
"""The compiled modules, by package: the hot path. Modules with classes that msgspec reads are not compiled, since
msgspec needs their annotations.
"""


def _inside(package: str) -> Path:
    return Path(*package.split("."))


def sources() -> list[Path]:
    """The source files of the compiled modules."""
    return [ROOT / _inside(package) / f"{module}.py" for package, modules in MODULES.items() for module in modules]


def folder() -> Path:
    """The folder for the compiled form of the present sources and this Python; it may not exist."""
    together = b"\n".join(path.read_bytes() for path in sources())
    name = f"{sys.implementation.cache_tag}-{xxh3_128_hexdigest(together)}"
    packed = Path(__file__).with_name(PACKED) / name
    return packed if packed.is_dir() else ROOT / ".cache" / "compiled" / name


def find(package: str) -> Iterable[str]:
    """What to put before a package's own path: the folder with its compiled modules, if it exists and is wanted."""
    if os.environ.get("TIERSTREAM_COMPILED", "yes") == "no":
        return []
    compiled = folder()
    if not compiled.is_dir():
        return []
    if str(compiled) not in sys.path:
        sys.path.append(str(compiled))  # the shared library of the modules is there
    return [str(compiled / _inside(package))]


def is_in_use() -> bool:
    """Whether the running core is compiled."""
    fold = sys.modules.get("models.fold")
    return fold is not None and not str(fold.__file__).endswith(".py")
