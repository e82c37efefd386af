"""The engine and the images of the tests. The summary of a run says which engine it was, and what the image weighs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.engine import Engine, NoEngine, running_engine
from tests.containers.stand_ins import build_image, make_stand_ins

MEASURED = "containers"
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker engine with the base images. Without one the tests are skipped; on Debian, in CI, they fail."""
    try:
        with running_engine() as running:
            if running.tools:
                make_stand_ins(running)
            yield running
    except NoEngine as error:
        assert not (os.environ.get("CI") and Path("/etc/debian_version").exists()), str(error)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def build_log(engine: Engine) -> str:
    """What the engine said while it built the image."""
    started = time.monotonic()
    said = build_image(engine, REVISION)
    return f"{said}\nbuilt in {time.monotonic() - started:.0f} s"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests measured."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == MEASURED:
                terminalreporter.write_line(f"containers: {value}")
