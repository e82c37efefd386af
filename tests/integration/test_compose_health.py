"""The health check that docker-compose.yml has for Kafka, on a real one."""

from __future__ import annotations

import pytest

from tests.containers.test_compose_file import check, page, services
from tests.integration.conftest import Broker


@pytest.mark.kafka
def test_kafka_is_healthy_if_a_broker_answers_and_not_if_anything_else_does(real_broker: Broker) -> None:
    kafka = services()["kafka"]
    assert check(kafka, 9092, int(real_broker.address.rpartition(":")[2])) == 0
    with page(200) as other:
        assert check(kafka, 9092, other.server_port) != 0
    assert check(kafka, 9092, other.server_port) != 0  # nobody listens there any more
    command = str(kafka["healthcheck"]["test"])
    assert not any(of_java in command for of_java in ("java", ".sh"))
