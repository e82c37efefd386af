"""The compose file's Kafka, with the compose file's settings, in a container that testcontainers starts and removes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from tests.builders import ROOT
from tests.containers.compose_cli import compose_command
from tests.integration.harness import free_port

ON_HOST = "127.0.0.1:29092"
"""Where the compose file's Kafka is reached from the machine that it runs on."""


def composed() -> dict[str, Any]:
    """The services of docker-compose.yml, as Docker Compose reads them."""
    read = [*compose_command(), "--file", str(ROOT / "docker-compose.yml"), "config", "--format", "json"]
    said = subprocess.run(read, check=True, capture_output=True, text=True, timeout=120).stdout
    return dict(json.loads(said)["services"])


def kafka_settings(service: Mapping[str, Any], address: str, port: int) -> dict[str, str]:
    """The environment of the compose file's Kafka, if it is reached at this address from the machine that it runs on."""
    settings: dict[str, str] = dict(service["environment"])
    assert ON_HOST in settings["KAFKA_ADVERTISED_LISTENERS"], f"docker-compose.yml has no {ON_HOST} any more"
    settings["KAFKA_ADVERTISED_LISTENERS"] = settings["KAFKA_ADVERTISED_LISTENERS"].replace(ON_HOST, address)
    settings["KAFKA_LISTENERS"] = settings["KAFKA_LISTENERS"].replace(ON_HOST.partition(":")[2], str(port))
    return settings


@contextmanager
def running_compose_kafka(image: str | None = None) -> Iterator[str]:
    """Run the compose file's Kafka on a free port, or an image that stands in for its own, and yield its address."""
    service, port = composed()["kafka"], free_port()
    container = DockerContainer(image or service["image"], hostname="kafka").with_bind_ports(port, port)
    address = f"{container.get_docker_client().host()}:{port}"
    container.with_envs(**kafka_settings(service, address, port))
    container.waiting_for(LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(120))
    # An engine need not have a network of its own for containers that name none.
    with Network() as network, container.with_network(network):
        yield address
