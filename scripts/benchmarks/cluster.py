"""The broker of the benchmarks, its topics, and the progress of consumer groups."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import confluent_kafka
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from scripts.benchmarks import machine
from scripts.benchmarks.machine import ROOT

BROKER_FLAGS = "-Xms1g -Xmx1g -XX:TieredStopAtLevel=4"
"""The heap size of Kafka's own scripts, and the optimizing compiler, which tests switch off."""
REQUEST_SECONDS = 30
PRODUCER = {
    "partitioner": "murmur2_random", "acks": "all", "enable.idempotence": True, "compression.type": "none", "log_level": 0,
}  # fmt: skip
"""Kafka's default partitioner, by librdkafka's name; idempotence keeps records in order when requests are retried."""


class BenchError(RuntimeError):
    """A benchmark that can't be done; the message says why."""


def say(message: str) -> None:
    """Print progress to standard error."""
    print(message, file=sys.stderr, flush=True)


@dataclass
class Cluster:
    """A broker, and a folder for the processes that use it."""

    address: str
    version: str
    folder: Path

    def __post_init__(self) -> None:
        self._admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})

    # ------------------------------------------------------------ topics
    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic that keeps records of any age."""
        topic = NewTopic(name, partitions, 1, config={"retention.ms": "-1"})
        for created in self._admin.create_topics([topic]).values():
            created.result(REQUEST_SECONDS)

    def delete_topics(self, is_gone: Callable[[str], bool]) -> None:
        """Delete the topics for which `is_gone` holds, if the broker still answers."""
        with suppress(KafkaException):
            names = [name for name in self._admin.list_topics(timeout=REQUEST_SECONDS).topics if is_gone(name)]
            if names:
                for deleted in self._admin.delete_topics(names).values():
                    deleted.result(REQUEST_SECONDS)

    def size(self, topic: str) -> int:
        """The number of records ever appended to a topic, including transaction markers."""
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.address, "group.id": "sizes", "log_level": 0})
        try:
            known = consumer.list_topics(topic, timeout=REQUEST_SECONDS).topics[topic].partitions
            return sum(
                consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=REQUEST_SECONDS)[1]
                for number in known
            )
        finally:
            consumer.close()

    @contextmanager
    def progress(self, group: str, topic: str) -> Iterator[Callable[[], int]]:
        """A function that returns how many of a topic's records a group has committed; a call is one cheap request."""
        options = {"bootstrap.servers": self.address, "group.id": group, "log_level": 0}
        consumer = confluent_kafka.Consumer(options)  # it does not join the group
        known = consumer.list_topics(topic, timeout=REQUEST_SECONDS).topics[topic].partitions
        partitions = [TopicPartition(topic, number) for number in known]
        last = 0

        def done() -> int:
            nonlocal last
            with suppress(KafkaException):  # there may be no coordinator yet
                last = sum(max(one.offset, 0) for one in consumer.committed(partitions, timeout=REQUEST_SECONDS))
            return last

        try:
            yield done
        finally:
            consumer.close()

    def warm_up(self, seconds: float) -> None:
        """Have the broker's JVM compile the code for small requests, transactions and committed reads."""
        say(f"warming Kafka up for {seconds:.0f} s")
        topic, began = "warm-up", time.monotonic()
        self.create_topic(topic, 2)
        options = {"bootstrap.servers": self.address, **PRODUCER, "linger.ms": 0}
        single = confluent_kafka.Producer(options | {"batch.num.messages": 1})  # a request each
        together = confluent_kafka.Producer(options | {"transactional.id": topic})
        together.init_transactions(REQUEST_SECONDS)
        with self.tail(topic):
            while time.monotonic() - began < seconds:
                together.begin_transaction()
                for number in range(50):
                    for producer in (single, together):
                        producer.produce(topic, bytes(300), str(number).encode())
                together.commit_transaction(REQUEST_SECONDS)
                single.flush(REQUEST_SECONDS)
        self.delete_topics(lambda name: name == topic)

    # ------------------------------------------------------------ records
    def producer(self, **options: object) -> Producer:
        """A producer that waits when its buffer is full."""
        return Producer({"bootstrap.servers": self.address, **PRODUCER, **options})

    @contextmanager
    def tail(self, topic: str) -> Iterator[Tail]:
        """A reader of the records that are committed to a topic from now on."""
        tail = Tail(self.address, topic)
        try:
            yield tail
        finally:
            tail.close()


class Producer:
    """Produces records as fast as the broker accepts them."""

    def __init__(self, options: dict[str, object]) -> None:
        bulk = {"linger.ms": 20, "batch.size": 512 * 1024, "queue.buffering.max.messages": 200_000}
        self._producer = confluent_kafka.Producer(bulk | options)

    def send(self, topic: str, key: bytes, value: bytes, **where: int) -> None:
        """Append a record; waits while the buffer is full."""
        while True:
            try:
                self._producer.produce(topic, value, key, **where)
                return
            except BufferError:
                self._producer.poll(0.1)

    def flush(self) -> None:
        """Wait until the broker has all records. Raises BenchError if it takes too long."""
        if left := self._producer.flush(120):
            raise BenchError(f"the broker did not take {left} records within two minutes")


class Tail:
    """Records when a consumer of committed records first sees each key, in monotonic seconds; it runs in a thread."""

    def __init__(self, address: str, topic: str) -> None:
        self._consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": address, "group.id": "tail", "isolation.level": "read_committed",
                "fetch.wait.max.ms": 10, "log_level": 0,
            }
        )  # fmt: skip
        partitions = self._consumer.list_topics(topic, timeout=REQUEST_SECONDS).topics[topic].partitions
        ends = [TopicPartition(topic, number) for number in partitions]
        for tp in ends:
            tp.offset = self._consumer.get_watermark_offsets(tp, timeout=REQUEST_SECONDS)[1]
        self._consumer.assign(ends)
        self.seen_at: dict[bytes, float] = {}
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._is_stopped.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                self.seen_at.setdefault(message.key(), time.monotonic())

    def close(self) -> None:
        self._is_stopped.set()
        self._thread.join()
        self._consumer.close()


@contextmanager
def running_cluster(warm_up_seconds: float) -> Iterator[Cluster]:
    """Start a real broker with a temporary folder; both are removed at the end.

    The broker is warmed up on two cores, so that its compiler finishes, and then pinned to one.
    """
    with tempfile.TemporaryDirectory(prefix="tierstream-bench-", ignore_cleanup_errors=True) as folder:
        data = Path(folder, "kafka")
        command = [sys.executable, str(ROOT / "scripts" / "kafka")]
        # The JVM prefers these to the flags of its command line.
        environment = os.environ | {"_JAVA_OPTIONS": BROKER_FLAGS}
        up = [*command, "up", "--port", "0", "--data", str(data), "--json"]
        try:
            with machine.on_cores(*machine.CORES[:2]):
                done = subprocess.run(up, env=environment, stdout=subprocess.PIPE, check=False)
            if done.returncode:
                raise BenchError("Kafka could not be started; see above")
            state = json.loads(done.stdout.splitlines()[-1])
            cluster = Cluster(state["bootstrap"], state["version"], Path(folder))
            cluster.warm_up(warm_up_seconds)
            machine.pin(state["pid"])
            yield cluster
        finally:
            down = [*command, "down", "--data", str(data)]
            subprocess.run(down, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
