"""One real Kafka broker (one KRaft node) on this machine, for development and tests."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from streams.local.children import HOST, POLL_SECONDS, STOP_SECONDS, Child, Children, free_port, is_taken

PORT: Final = 9092
POM: Final = Path(__file__).with_name("kafka.pom.xml")
TOOL_SECONDS: Final = 900.0
START_SECONDS: Final = 60.0
JAVA_NEEDED: Final = 17
TO_INSTALL: Final = "apt-get install default-jre-headless maven"

# Kafka logs to standard error, here its log file; "config" would dump all settings at each start.
LOG: Final = "-Dorg.slf4j.simpleLogger."
JVM_FLAGS: Final = (
    "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
    f"{LOG}showDateTime=true", f"{LOG}dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ", f"{LOG}log.org.apache.kafka.common.config=warn",
)  # fmt: skip
SERVER_SETTINGS: Final = (
    "process.roles=broker,controller node.id=1 controller.listener.names=CONTROLLER "
    "listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port} "
    "advertised.listeners=PLAINTEXT://{advertise} "
    # log.dirs is relative to the broker's working directory, its data folder: nothing to escape.
    "controller.quorum.voters=1@{host}:{controller_port} log.dirs=storage "
    # Topics are created on purpose, with a chosen number of partitions, and never by a misspelt name.
    "auto.create.topics.enable=false "
    # One node, so no second replica; a small machine, so few partitions, threads and buffers.
    "offsets.topic.replication.factor=1 transaction.state.log.replication.factor=1 "
    "transaction.state.log.min.isr=1 share.coordinator.state.topic.replication.factor=1 "
    "share.coordinator.state.topic.min.isr=1 share.coordinator.state.topic.num.partitions=4 "
    "offsets.topic.num.partitions=4 transaction.state.log.num.partitions=4 "
    "num.network.threads=2 num.io.threads=4 log.cleaner.dedupe.buffer.size=4194304 "
    # So that nobody need wait: groups form at once, and dead members and timed-out transactions are removed soon.
    "group.initial.rebalance.delay.ms=0 group.min.session.timeout.ms=1000 "
    "transaction.abort.timed.out.transaction.cleanup.interval.ms=1000 "
    "message.max.bytes=8388608 replica.fetch.max.bytes=8388608"
)

Say = Callable[[str], None]


class KafkaError(Exception):
    """A failure. Its text says what happened and what to do."""


# ------------------------------------------------------------ what is run
@dataclass(frozen=True)
class Kafka:
    """An Apache Kafka that can be started."""

    version: str
    server: Sequence[str | Path]
    """The command of the broker, but for its settings' file."""
    storage_tool: Sequence[str | Path]
    environment: dict[str, str] = field(default_factory=dict)


def find_kafka(children: Children, say: Say) -> Kafka:
    """The Kafka of KAFKA_HOME, or the one on PATH, or else the one that Maven fetches. Raises KafkaError with what is
    missing.
    """
    if home := os.environ.get("KAFKA_HOME"):
        return _installed(Path(home))
    if found := shutil.which("kafka-server-start.sh"):
        return _installed(Path(found).resolve().parents[1])
    return from_maven(children, say)


def _installed(home: Path) -> Kafka:
    """The Kafka in a folder, as it is unpacked from Apache's archive."""
    start, storage = (home / "bin" / f"kafka-{name}.sh" for name in ("server-start", "storage"))
    jars = sorted(home.glob("libs/kafka_*.jar"))
    if not (start.exists() and storage.exists() and jars):
        raise KafkaError(f"{home} is no Kafka with KRaft: set KAFKA_HOME to an unpacked Apache Kafka 3.3 or newer")
    if not shutil.which("java") and "JAVA_HOME" not in os.environ:
        raise KafkaError(f"the Kafka in {home} needs Java: apt-get install default-jre-headless")
    environment = {"KAFKA_HEAP_OPTS": "-Xms256m -Xmx512m", "LOG_DIR": "logs"}
    return Kafka(jars[0].stem.rpartition("-")[2], [start], [storage], environment)


def from_maven(children: Children, say: Say) -> Kafka:
    """The Kafka that kafka.pom.xml names. Raises KafkaError, and ChildError if Maven fails."""
    java, jars = _java(children), fetch_jars(children, say)
    command = [java, *JVM_FLAGS, "-cp", str(jars / "*")]
    return Kafka(jars.name, [*command, "kafka.Kafka"], [*command, "kafka.tools.StorageTool"])


def _java(children: Children) -> str:
    """The java command. Raises KafkaError without one, or if it is too old."""
    needs = f"Kafka needs Java {JAVA_NEEDED} or newer, and Maven: {TO_INSTALL}"
    if not (java := shutil.which("java")):
        raise KafkaError(f"no java found. {needs}")
    version = re.search(r'version "(\d+)', children.run("java", [java, "-version"], seconds=TOOL_SECONDS))
    if version and int(version[1]) < JAVA_NEEDED:
        raise KafkaError(f"{java} is Java {version[1]}: too old. {needs}")
    return java


def _cache() -> Path:
    """Where the jars are kept: in a checkout within it; else where programs of this user keep what can be fetched anew."""
    root = POM.parents[2]
    if (root / "pyproject.toml").exists():
        return root / ".cache" / "kafka"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tierstream" / "kafka"


def fetch_jars(children: Children, say: Say) -> Path:
    """The folder with Kafka's jars; Maven fetches them unless those of this pom are there."""
    pom, cache = POM.read_text("utf-8"), _cache()
    version = re.search(r"<kafka\.version>(.+?)</kafka\.version>", pom)
    assert version is not None
    jars = cache / version[1]
    with locked(children, cache):
        # The copy of the pom beside the jars says which pom they were fetched for.
        if (jars / POM.name).exists() and (jars / POM.name).read_text("utf-8") == pom:
            return jars
        if not (mvn := shutil.which("mvn")):
            raise KafkaError(f"no mvn found: Kafka {version[1]} is fetched by Maven, once: {TO_INSTALL}")
        say(f"fetching Kafka {version[1]} with Maven, once (about 45 MB) ...")
        # A fetch gets its final name only when it is complete; leftovers of killed ones are removed.
        for leftover in cache.glob("partial-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        partial = cache / f"partial-{os.getpid()}"
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
        try:
            children.run("Maven", [mvn, "-q", "-B", "-f", POM, *goal], seconds=TOOL_SECONDS, folder=cache)
            (partial / POM.name).write_text(pom, "utf-8")
            shutil.rmtree(jars, ignore_errors=True)
            partial.rename(jars)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return jars


def locked(children: Children, folder: Path, failure: Exception | None = None) -> IO[str]:
    """Wait for the lock of a folder, or raise `failure` if somebody has it; returns the lock's file. The lock ends when
    the file is closed or the process ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return locked_file(children, (folder / ".lock").open("w", encoding="utf-8"), failure)


def locked_file(children: Children, lock: IO[str], failure: Exception | None = None) -> IO[str]:
    """The same for a file, which is closed if it can't be had."""

    def is_ours() -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if failure is not None:
                raise failure from None
            return False
        return True

    try:
        children.wait_until(is_ours, TOOL_SECONDS, lambda: KafkaError(f"another process keeps {lock.name} locked"))
    except BaseException:
        lock.close()
        raise
    return lock


# ------------------------------------------------------------ the broker
def is_ready(log: Path, port: int) -> bool:
    """Whether the very broker that writes this log, and no other on its port, serves requests."""
    return b"Kafka Server started" in log.read_bytes() and is_taken(port)


class Broker:
    """The broker of one data folder: its files, and its process if it runs."""

    def __init__(self, data: Path) -> None:
        self.data, self.storage, self.record = data, data / "storage", data / "kafka.json"
        self.properties = data / "server.properties"

    def running(self) -> dict[str, Any] | None:
        """The recorded process, if it is alive and is the broker's: its pid may have been reused."""
        try:
            state: dict[str, Any] = json.loads(self.record.read_text("utf-8"))
            command = Path("/proc", str(state["pid"]), "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError, LookupError):
            return None
        return state if os.fsencode(self.properties) in command else None

    def start(self, children: Children, kafka: Kafka, port: int, advertise: str | None = None) -> Child:
        """Format the storage if it is new, start the process, and wait for its answer. Raises ChildError and Stopped."""
        settings = SERVER_SETTINGS.format(
            host=HOST, port=port, advertise=advertise or f"{HOST}:{port}", controller_port=free_port()
        )
        self.properties.write_text("\n".join(settings.split()), "utf-8")
        options: dict[str, Any] = {"folder": self.data, "environment": kafka.environment}
        if not (self.storage / "meta.properties").exists():
            cluster_id = "c" + secrets.token_urlsafe(16)[1:]  # in front, "-" is for options
            tool = [*kafka.storage_tool, "format", "-c", self.properties, "-t", cluster_id]
            children.run("Kafka's storage", tool, seconds=TOOL_SECONDS, **options)
        child = children.start("Kafka", [*kafka.server, self.properties], **options)
        state = {"pid": child.process.pid, "port": port, "version": kafka.version}
        self.record.write_text(json.dumps(state), "utf-8")
        children.wait_for(child, lambda: is_ready(child.log, port), START_SECONDS)
        return child

    def stop(self) -> bool:
        """Stop a broker of another process, with SIGKILL if it does not end in time; returns whether it ran."""
        state = self.running()
        for wake in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + STOP_SECONDS
            if state and self.running():
                os.kill(state["pid"], wake)
            while self.running() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        self.record.unlink(missing_ok=True)
        return state is not None
