"""The contenders: how each is started, and where its progress is seen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from scripts.benchmarks.cluster import BenchError, Cluster, say
from scripts.benchmarks.machine import CACHE, ROOT
from scripts.benchmarks.running import Running, Site, other_policy, running

PEERS = ROOT / "scripts" / "peers"
BUILT = CACHE.parent / "peers"
"""The output of scripts/peers/build."""


@dataclass
class Turn:
    """One contender's turn on a source."""

    site: Site
    """The source, and Tierstream's settings for it."""
    number: int
    """From 1, and unique among the turns on the source."""

    @property
    def cluster(self) -> Cluster:
        """The broker."""
        return self.site.cluster


@dataclass
class Started:
    """A contender that is running."""

    running: Running
    group: str
    """Its consumer group, which commits its progress."""
    output: str
    """The topic of its announcements."""


@dataclass(frozen=True)
class Contender:
    """A program under measurement; `started` runs it for a turn and then cleans up."""

    name: str
    started: Callable[[Turn], AbstractContextManager[Started]]
    is_extra: bool = False
    """Left out of a quick run."""


def tierstream(
    name: str, *, output: str = "tier-changes", is_extra: bool = False, with_shadow: bool = False, **settings: object
) -> Contender:
    """Our worker with default settings except `settings`, optionally with a shadow policy that has other thresholds.

    Every turn is a new version of the app, so it begins with empty topics.
    """

    @contextmanager
    def started(turn: Turn) -> Iterator[Started]:
        given = {"shadow": other_policy(CACHE)} if with_shadow else {}
        site = replace(turn.site, version=turn.number + 1, settings={**settings, **given})
        try:
            with site.worker() as worker:
                yield Started(worker.running, site.group, site.topic(output))
        finally:
            own = f"-v{site.version}"
            turn.cluster.delete_topics(lambda topic: topic.endswith(own) or topic.startswith(f"{site.group}-"))

    return Contender(name, started, is_extra)


def peer(name: str, *command: str, output: str = "tier-changes", is_extra: bool = False) -> Contender:
    """A program of scripts/peers."""

    @contextmanager
    def started(turn: Turn) -> Iterator[Started]:
        group = f"{name.replace('_', '-')}-{turn.number}"
        cluster, source = turn.cluster, turn.site.purchases
        cluster.create_topic(f"{group}-{output}", turn.site.partitions)
        arguments = ["--broker", cluster.address, "--source", source, "--name", group]
        try:
            with running(name, [*command, *arguments], {}, cluster.folder / group) as process:
                yield Started(process, group, f"{group}-{output}")
        finally:
            cluster.delete_topics(lambda topic: group in topic)

    return Contender(name, started, is_extra)


def _python(program: str, python: str = sys.executable) -> list[str]:
    return [python, str(PEERS / program)]


_classes = f"{BUILT}/kafka-streams/peer.jar:{BUILT}/kafka-streams/lib/*"
_kafka_streams = [
    "java",
    "-XX:+UseSerialGC",
    "-Xms1g",
    "-Xmx1g",
    "-cp",
    _classes,
    "peers.Main",
    "--fold",
    str(PEERS / "fold.json"),
]
CONTENDERS = (
    tierstream("tierstream"),
    tierstream("tierstream_at_least_once", delivery="at-least-once"),
    tierstream("tierstream_with_shadow", with_shadow=True, is_extra=True),
    peer("idiomatic_faust", *_python("idiomatic_faust.py")),
    peer("quix_streams", *_python("quix_streams.py", f"{BUILT}/venv/bin/python")),
    peer("kafka_streams", *_kafka_streams),
    peer("kafka_streams_exactly_once", *_kafka_streams, "--exactly-once", is_extra=True),
    peer("limit", *_python("bare_aiokafka.py"), output="copy"),
    peer("bare_confluent", *_python("bare_confluent.py"), output="copy", is_extra=True),
)
"""In the order of the table; the others are compared with the first."""


def prepare_peers() -> None:
    """Build the peers. Raises BenchError if that fails."""
    say("preparing the peers")
    if subprocess.run([str(PEERS / "build")], stdout=sys.stderr, check=False).returncode:
        raise BenchError("scripts/peers/build failed; see above. To do without: --contenders tierstream,limit")
