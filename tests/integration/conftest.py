"""The broker and the Redis of the integration tests. The summary of a run says which broker it used.

The broker is the one at TIERSTREAM_KAFKA if that is set, else the compose file's Kafka in a container where a Docker
engine answers, else a real Kafka started by scripts/kafka. The embedded broker is used only if none of them can run; in
CI that is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from streams.broker.embedded import EmbeddedBroker, EmbeddedRedis
from tests.integration.harness import running_kafka

ROOT = Path(__file__).parents[2]


class Broker(NamedTuple):
    address: str
    kind: str
    is_real: bool


def _docker_answers() -> bool:
    if not shutil.which("docker"):
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    if address := os.environ.get("TIERSTREAM_KAFKA"):
        yield Broker(address, "TIERSTREAM_KAFKA", True)
    elif _docker_answers():
        from tests.containers.broker import running_compose_kafka

        with running_compose_kafka() as address:
            yield Broker(address, "the compose file's Kafka, by testcontainers", True)
    elif shutil.which("java") and shutil.which("mvn"):
        with running_kafka(tmp_path_factory.mktemp("kafka")) as address:
            yield Broker(address, "scripts/kafka", True)
    else:
        assert not os.environ.get("CI"), "CI needs a real Kafka: install Java 17 and Maven, or set TIERSTREAM_KAFKA"
        print(
            "\nNO REAL KAFKA: neither TIERSTREAM_KAFKA, Docker, nor Java with Maven; the embedded broker is used instead",
            file=sys.stderr,
        )
        with EmbeddedBroker() as embedded:
            yield Broker(embedded.address, "embedded", False)


@pytest.fixture
def real_broker(broker: Broker) -> Broker:
    """A real Kafka. Without one the test is skipped; in CI the fixture `broker` has failed before that."""
    if not broker.is_real:
        pytest.skip("needs a real Kafka: install Java 17 and Maven, or set TIERSTREAM_KAFKA")
    return broker


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A real Redis server for one test."""
    with EmbeddedRedis(tmp_path) as server:
        yield server


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for item in terminalreporter.stats.get("passed", []):
        if "tests/integration" in item.nodeid:
            kinds = {value for name, value in item.user_properties if name == "broker"}
            for kind in kinds:
                terminalreporter.write_line(f"integration tests ran on: {kind}")
            if kinds:
                return


@pytest.fixture(autouse=True)
def _record_broker(request: pytest.FixtureRequest, record_property: object) -> None:
    if "real_broker" in request.fixturenames or "broker" in request.fixturenames:
        kind = request.getfixturevalue("broker").kind
        record_property("broker", kind)  # type: ignore[operator]
