"""A real worker on a real broker, driven from outside as users do: by environment, topics, signals and pages."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import confluent_kafka
from prometheus_client.parser import text_string_to_metric_families

from streams.broker.topic_creation import create_topics
from streams.settings import Settings, load_settings
from streams.topics import topics_of

ROOT = Path(__file__).parents[2]
InputRecord = tuple[str, dict[str, Any] | bytes]
"""A topic and a body; or bytes, which need not be a valid body."""


PATIENCE_SECONDS = 60.0
"""How long anything may take at the least: a machine may be busy with other tests, or with more than them."""
PATIENT_MS = 60_000
"""For tests that compare announcements with a replay: workers and ingests wait so long for a slow input. If they went on
without it, as they otherwise might on a busy machine, announcements would have another order.
"""
PORTS = range(15_000, 20_000)
"""Below those that the system gives to clients, and that scripts/kafka chooses from: nobody takes one of them meanwhile."""
_given_ports: set[int] = set()


def wait_until(condition: Callable[[], bool], seconds: float, what: str | Callable[[], str]) -> None:
    """Wait until a condition holds; fail with `what` if it does not within `seconds`, or PATIENCE_SECONDS if that is longer."""
    seconds = max(seconds, PATIENCE_SECONDS)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for: {what() if callable(what) else what}"
        time.sleep(0.1)


def free_port() -> int:
    """A port that nothing listens on, and that no other call in this process has returned."""
    while True:
        port = PORTS.start + secrets.randbelow(len(PORTS))
        with socket.socket() as probe:
            is_free = port not in _given_ports and probe.connect_ex(("127.0.0.1", port)) != 0
        if is_free:
            _given_ports.add(port)
            return port


@dataclass
class Worker:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def page(self, name: str) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{name}", timeout=PATIENCE_SECONDS) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            return 0, {}

    def stats(self) -> dict[str, Any]:
        assert self.process.poll() is None, f"the worker stopped:\n{self.log_tail()}"
        return self.page("stats")[1]

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Its page /metrics: values by the metric's name and the labels' values, in the order of the labels' names."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE_SECONDS) as answer:
            text = answer.read().decode()
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def log_tail(self) -> str:
        """The end of its log, 4,000 characters."""
        return self.log.read_text("utf-8")[-4000:]

    def stop(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Send SIGTERM, as an orchestrator does; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


def start_worker(
    settings: Settings, log: Path, module: str = "streams.cli", command: Sequence[str] = ("worker",), **environment: str
) -> Worker:
    """Start a worker, or another command, as a process in the folder of its log; `module` is the one that Python runs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TIERSTREAM_")}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *command],
            env=inherited | settings.environment() | {"PYTHONPATH": str(ROOT)} | environment,
            stdout=sink,
            stderr=sink,
            cwd=log.parent,
        )
    return Worker(process, settings.web_port, log)


@contextmanager
def running_kafka(data: Path) -> Iterator[str]:
    """Run a real Kafka by scripts/kafka, and yield its address."""
    command = [sys.executable, str(ROOT / "scripts" / "kafka")]
    up = [*command, "up", "--port", "0", "--data", str(data), "--json"]
    answer = subprocess.run(up, stdout=subprocess.PIPE, check=True).stdout
    try:
        yield json.loads(answer.splitlines()[-1])["bootstrap"]
    finally:
        subprocess.run([*command, "down", "--data", str(data)], check=True, stdout=subprocess.DEVNULL)


@dataclass
class Site:
    """One installation: its settings, topics under a prefix that no other has, and its workers."""

    settings: Settings
    folder: Path
    workers: list[Worker] = field(default_factory=list)

    # ------------------------------------------------------------ inputs
    def produce(self, inputs: Iterable[InputRecord], keys: Iterable[str | None] | None = None) -> None:
        """Produce in order, keyed by customer with Kafka's own partitioner."""
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": self.settings.broker, "partitioner": "murmur2_random", "linger.ms": 5}
        )
        keys_left = iter(keys) if keys is not None else None
        for topic, body in inputs:
            if isinstance(body, bytes):
                key, value = "0001", body
            else:
                key, value = body["customer_id"], json.dumps(body).encode()
            if keys_left is not None:
                key = next(keys_left) or key
            while True:
                try:
                    producer.produce(self.settings.topic(topic), key=key, value=value)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(PATIENCE_SECONDS) == 0

    # ------------------------------------------------------------ the worker
    def start(self, module: str = "streams.cli", environment: Mapping[str, str] = {}, **settings: Any) -> Worker:
        port = free_port()
        chosen = load_settings(
            **self.settings.model_dump(include=self.settings.model_fields_set) | {"web_port": port} | settings
        )
        worker = start_worker(chosen, self.folder / f"worker-{len(self.workers)}.log", module, **environment)
        self.workers.append(worker)
        return worker

    def wait_until_drained(self, events: int, seconds: float = 120) -> None:
        """Wait until the running workers have folded so many events, and have announced and published everything. It fails
        if none of them has done anything for `seconds`: how long the whole takes depends on how busy the machine is.
        """
        running = [worker for worker in self.workers if worker.process.poll() is None]
        found: list[dict[str, Any]] = []

        def drained() -> bool:
            return all(one.get("drained") for one in found) and sum(one["events"] for one in found) >= events

        def has_gone_on() -> bool:
            before = [(one.get("batches"), one.get("profiles")) for one in found]
            found[:] = [worker.stats() for worker in running]
            return drained() or before != [(one.get("batches"), one.get("profiles")) for one in found]

        while True:
            wait_until(has_gone_on, seconds, lambda: f"{events} events drained; {found}")
            if drained():
                return
            time.sleep(0.1)

    def stop(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()

    # ------------------------------------------------------------ outputs
    def read(self, name: str) -> list[confluent_kafka.Message]:
        """All committed records of one of the installation's topics, partition by partition."""
        return self.read_topic(self.settings.topic(name))

    def read_topic(self, topic: str, count: int | None = None) -> list[confluent_kafka.Message]:
        """All committed records of a topic, partition by partition; `count` is its number of partitions, if another than
        that of the installation's topics.
        """
        consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": self.settings.broker,
                "group.id": f"reader-{uuid.uuid4()}",
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
            }
        )
        partitions = range(count or self.settings.partitions)
        consumer.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in partitions])
        found: list[confluent_kafka.Message] = []
        ended: set[int] = set()
        while len(ended) < len(partitions):
            message = consumer.poll(PATIENCE_SECONDS)
            assert message is not None, f"{topic} sent nothing for {PATIENCE_SECONDS} s"
            error = message.error()
            if error is None:
                found.append(message)
            elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                raise AssertionError(str(error))
        consumer.close()
        return sorted(found, key=lambda message: (message.partition(), message.offset()))

    def by_customer(self, name: str) -> dict[str, list[bytes]]:
        """The bodies of a topic per customer, in order."""
        found: dict[str, list[bytes]] = defaultdict(list)
        for message in self.read(name):
            found[message.key().decode()].append(message.value())
        return dict(found)

    def latest(self, name: str) -> dict[str, bytes]:
        """The last body of each key; without keys whose last record is a tombstone."""
        found: dict[str, bytes] = {}
        for message in self.read(name):
            found[message.key().decode()] = message.value()
        return {key: value for key, value in found.items() if value is not None}

    def committed_equals_ends(self, names: Iterable[str]) -> bool:
        consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": self.settings.broker, "group.id": self.settings.table_app_id}
        )
        try:
            for name in names:
                for number in range(self.settings.partitions):
                    tp = confluent_kafka.TopicPartition(self.settings.topic(name), number)
                    end = consumer.get_watermark_offsets(tp, timeout=PATIENCE_SECONDS)[1]
                    committed = consumer.committed([tp], timeout=PATIENCE_SECONDS)[0].offset
                    if max(committed, 0) != end:
                        return False
            return True
        finally:
            consumer.close()


@contextmanager
def site(broker: str, folder: Path, *, embedded: bool = False, **settings: Any) -> Iterator[Site]:
    """A new installation on the broker; its workers are killed at the end of the block."""
    name = f"t{uuid.uuid4().hex[:10]}"
    values = {
        "broker": broker, "topic_prefix": f"{name}-", "app_id": name, "session_timeout": 6_000, "profile_interval": 300,
        "create_topics": not embedded, "delivery": "at-least-once" if embedded else "exactly-once",
    } | settings  # fmt: skip
    created = Site(load_settings(**values), folder)
    if created.settings.create_topics:
        create_topics(created.settings, topics_of(created.settings))
    try:
        yield created
    finally:
        created.stop()
