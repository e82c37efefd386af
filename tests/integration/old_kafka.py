"""One Kafka of any version from 2.5 on, as Maven has it: before 3.3 beside ZooKeeper, afterwards alone (KRaft).

    python -m tests.integration.old_kafka 3.9.2      runs one until Ctrl-C, and prints its two addresses

It has two listeners. At the first nobody signs in, and everybody may do everything; at the second users sign in by name and
password (SASL PLAIN), and only `boss` may do anything.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.local.kafka import POM
from tests.integration.harness import ROOT, free_port, wait_until
from tests.integration.maven import fetched

OLDEST = "2.5.1"
"""The oldest that the documentation promises."""
KRAFT_SINCE = (3, 3)
START_SECONDS = 120
JVM = ["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
PASSWORDS = {"boss": "knows-all", "shy": "may-nothing"}

SETTINGS = """\
listeners=PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{sasl_port}
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config={users}
authorizer.class.name={authorizer}
super.users=User:ANONYMOUS;User:boss
allow.everyone.if.no.acl.found=false
log.dirs=storage
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=4194304
"""
WITH_ZOOKEEPER = """\
broker.id=1
zookeeper.connect=127.0.0.1:{other_port}
"""
ALONE = """\
node.id=1
process.roles=broker,controller
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{other_port}
"""
ZOOKEEPER = """\
dataDir=zookeeper
clientPort={other_port}
clientPortAddress=127.0.0.1
admin.enableServer=false
"""


class Addresses(NamedTuple):
    """Where a Kafka answers everybody, and where users."""

    address: str
    for_users: str


@contextmanager
def running_old_kafka(version: str, folder: Path) -> Iterator[Addresses]:
    """Run a Kafka of a version in an empty folder, and yield its addresses."""
    jars = fetched(
        POM, ROOT / ".cache" / "kafka-of-any-version" / version, "copy-dependencies", f"kafka.version={version}"
    )
    is_alone = tuple(int(part) for part in version.split(".")[:2]) >= KRAFT_SINCE
    port, sasl_port, other_port = free_port(), free_port(), free_port()
    users = " ".join(f'user_{name}="{password}"' for name, password in PASSWORDS.items())
    settings = (SETTINGS + (ALONE if is_alone else WITH_ZOOKEEPER)).format(
        port=port,
        sasl_port=sasl_port,
        other_port=other_port,
        users=f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};",
        authorizer="org.apache.kafka.metadata.authorizer.StandardAuthorizer"
        if is_alone
        else "kafka.security.authorizer.AclAuthorizer",
    )
    if is_alone:
        settings = settings.replace("listeners=", f"listeners=CONTROLLER://127.0.0.1:{other_port},", 1)
        names = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT"
        settings += f"listener.security.protocol.map={names}\n"
    (folder / "server.properties").write_text(settings)
    java = [*JVM, "-cp", str(jars / "*")]
    with ExitStack() as running:
        if is_alone:
            tool = ["kafka.tools.StorageTool", "format", "-c", "server.properties", "-t", "cQ2vh8cPQ5mWvXgqkz5Zgg"]
            subprocess.run([*java, *tool], cwd=folder, check=True, capture_output=True)
        else:
            (folder / "zoo.cfg").write_text(ZOOKEEPER.format(other_port=other_port))
            keeper = [*java, "org.apache.zookeeper.server.quorum.QuorumPeerMain", "zoo.cfg"]
            running.enter_context(_process(keeper, folder, "zookeeper.log"))
        kafka = running.enter_context(_process([*java, "kafka.Kafka", "server.properties"], folder, "kafka.log"))
        with AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0}) as admin:

            def answers() -> bool:
                assert kafka.poll() is None, (folder / "kafka.log").read_text("utf-8", "replace")[-3000:]
                try:
                    return bool(admin.list_topics(timeout=1).brokers)
                except KafkaException:
                    return False

            wait_until(answers, START_SECONDS, f"Kafka {version} answers")
        yield Addresses(f"127.0.0.1:{port}", f"127.0.0.1:{sasl_port}")


@contextmanager
def _process(command: list[str], folder: Path, log: str) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / log).open("wb") as sink:
        process = subprocess.Popen(command, cwd=folder, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as data, running_old_kafka(sys.argv[1], Path(data)) as found:
        print(f"{found.address} for everybody, {found.for_users} for {' and '.join(PASSWORDS)}; Ctrl-C ends it")
        try:
            sys.stdin.read()
        except KeyboardInterrupt:
            print("ended")
