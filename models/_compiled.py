"""Uses the compiled form of the core where there is one for exactly these sources; `scripts/compile` makes it.

It is the same Python, through mypyc. Without it, or with sources that have changed since, the Python itself runs: the same
results, slower. `TIERSTREAM_COMPILED=no` asks for that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from xxhash import xxh3_128_hexdigest

ROOT: Final = Path(__file__).resolve().parent.parent
MODULES: Final = {
    "models": (
        "alerts", "buckets", "customer", "events", "explain", "facts", "fold", "gamma_gamma", "life", "mbg_nbd", "outputs", "policy", "profile",
        "risk", "state", "tiers", "units", "value",
    ),
    "streams.engine": ("batch", "envelope", "merge", "plan", "schedule"),
}  # fmt: skip
"""What is compiled: the way of an event. Classes that msgspec reads keep their annotations, so they are not."""


def _inside(package: str) -> Path:
    return Path(*package.split("."))


def sources() -> list[Path]:
    """The files that are compiled."""
    return [ROOT / _inside(package) / f"{module}.py" for package, modules in MODULES.items() for module in modules]


def folder() -> Path:
    """Where the compiled form of the present sources is, or would be, for this Python."""
    together = b"\n".join(path.read_bytes() for path in sources())
    return ROOT / ".cache" / "compiled" / f"{sys.implementation.cache_tag}-{xxh3_128_hexdigest(together)}"


def find(package: str) -> Iterable[str]:
    """What goes before a package's own path: the folder with its compiled modules, if they are wanted and there."""
    if os.environ.get("TIERSTREAM_COMPILED", "yes") == "no":
        return []
    compiled = folder()
    if not compiled.is_dir():
        return []
    if str(compiled) not in sys.path:
        sys.path.append(str(compiled))  # what the modules share lies beside them
    return [str(compiled / _inside(package))]


def is_in_use() -> bool:
    """Whether the core that runs is compiled."""
    fold = sys.modules.get("models.fold")
    return fold is not None and not str(fold.__file__).endswith(".py")
