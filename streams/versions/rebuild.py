"""The steps of a rebuild: a new app version is built from the first record, beside the old one; compared; and cut over
to.

The cut is a position in the inputs and a time up to which both tables are folded once no worker runs. So everything
before the cut has been announced on the old version's topics, and the new version announces what comes after it.
Readers continue where the new version's outputs end at the cut: nothing is missing and nothing is repeated. The cut is
recorded in one request (streams.versions.app_versions); until then all steps can be repeated, and find what was done
before.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, NamedTuple

import streams
from streams.broker.topic_creation import create_topics
from streams.engine.table import Marker
from streams.settings import CARRIED
from streams.topics import changelog_topic, topics_of
from streams.versions.app_versions import AppVersions, Positions, VersionError, output_topics
from streams.versions.offline_partition import TO_THE_END, OfflinePartition, read_marker
from streams.versions.table_comparison import (
    Difference,
    Strays,
    TableComparison,
    Version,
    compare_partition,
    furthest,
    strays_on_their_way,
)

CLOSE_SECONDS: Final = 15.0
"""Workers have caught up once they never lag by more than the records of so many seconds."""
POLL_SECONDS: Final = 0.5
STOP_SECONDS: Final = 40.0
LAST_LINES: Final = 20


class Progress(NamedTuple):
    """How far the workers of the new version are."""

    left: int
    records_per_second: float
    seconds_left: float | None
    """None while the rate is not known."""


async def check(versions: AppVersions, old: Version, new: Version) -> bool:
    """Whether the new version was begun before. Raises VersionError if these two versions allow no rebuild."""
    if new.number <= old.number:
        raise VersionError(
            f"version {new.number} is not a later one: TIERSTREAM_APP_VERSION is {old.number}; give a larger --to-version"
        )
    if not versions.own_topics(old.settings):
        raise VersionError(
            f"there is no version {old.number} at {old.settings.broker}: nothing to rebuild. Start workers, or look at "
            "TIERSTREAM_TOPIC_PREFIX, TIERSTREAM_APP_ID and TIERSTREAM_APP_VERSION"
        )
    if old.policy.ref != new.policy.ref and (old.policy.relative or new.policy.relative):
        raise VersionError(
            "thresholds that depend on all customers are sent to `commands`, which both versions read: copy the inputs to "
            "other topics (tierstream topics migrate) and start workers there"
        )
    await _check_policy(versions, old, "set TIERSTREAM_POLICY to it")
    if not versions.own_topics(new.settings):
        return False
    create_topics(new.settings, topics_of(new.settings))  # those that are missing
    await _check_policy(
        versions, new, f"give it by --policy, another --to-version, or delete version {new.number} by --abort"
    )
    return True


async def _check_policy(versions: AppVersions, version: Version, do: str) -> None:
    others = {one.policy for one in await _markers(versions, version)} - {"", version.policy.ref}
    if others:
        raise VersionError(
            f"version {version.number} is made under {', '.join(sorted(others))}, not {version.policy.ref}: {do}"
        )


async def _markers(versions: AppVersions, version: Version) -> list[Marker]:
    """The latest marker of each partition's table."""
    ends = versions.ends([changelog_topic(version.settings)])
    return [await read_marker(version.settings, number, end) for (_, number), end in sorted(ends.items())]


# ---------------------------------------------------------------- build
class BuildingWorker:
    """A worker of the new version, in a process of its own."""

    def __init__(self, version: Version, log: IO[bytes] | None) -> None:
        here = str(Path(streams.__file__).parents[1])
        path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
        own = {"PYTHONPATH": path, "TIERSTREAM_WEB_HOST": "127.0.0.1", "TIERSTREAM_WEB_PORT": str(_free_port())}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "streams.cli", "worker"],
            env=dict(os.environ) | version.settings.environment() | own,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C stops this process, which stops the worker, which finishes its batch.
            start_new_session=True,
        )
        self._log = log
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._last_lines.append(line.decode(errors="replace").rstrip())
            if self._log is not None:
                self._log.write(line)

    def check(self) -> None:
        """Raises VersionError if the worker has stopped."""
        if self._process.poll() is not None:
            self._listener.join(1)
            lines = "\n".join(self._last_lines)
            raise VersionError(f"the worker of the new version stopped; its last lines were:\n{lines}")

    def stop(self) -> None:
        """Have the worker finish its batch, and wait until it has stopped."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(1)
        if self._process.stdout is not None:
            self._process.stdout.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def run_building_worker(version: Version, own_worker: bool, log: IO[bytes] | None) -> Iterator[Callable[[], None]]:
    """Run a worker of the version, if wanted; yields a function that raises VersionError once the worker has
    stopped.
    """
    if not own_worker:
        yield lambda: None
        return
    worker = BuildingWorker(version, log)
    # Whichever signal stops this process, the worker is stopped with it.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield worker.check
    finally:
        worker.stop()
        signal.signal(signal.SIGTERM, before)


def catch_up(
    versions: AppVersions, version: Version, check_worker: Callable[[], None], on_progress: Callable[[Progress], None]
) -> None:
    """Wait until the version's workers lag by no more than the records of the last seconds. Raises VersionError."""
    began, ends = time.monotonic(), versions.input_ends()
    looked, first = began, versions.count_left(version.settings, ends)
    while True:
        check_worker()
        # Records that arrived in the meantime count as well, so that the number shown is what is really left.
        left = versions.count_left(version.settings, versions.input_ends())
        seconds = time.monotonic() - began
        rate = max(0, first - left) / max(seconds, 1e-9)
        on_progress(Progress(left, rate, left / rate if rate else None))
        if not versions.count_left(version.settings, ends):
            if time.monotonic() - looked <= CLOSE_SECONDS:
                return
            looked, ends = time.monotonic(), versions.input_ends()
        time.sleep(POLL_SECONDS)


# ---------------------------------------------------------------- compare
async def compare(
    versions: AppVersions, old: Version, new: Version, on_partition: Callable[[], None]
) -> tuple[TableComparison, list[Difference]]:
    """Compare the two tables, partition by partition, while workers continue on both."""
    found, differences = TableComparison(), []
    strays: tuple[Strays, Strays] = ({}, {})
    if versions.has_strays(old.settings, new.settings):
        strays = strays_on_their_way(old, new, await _markers(versions, old), await _markers(versions, new))
    for number in range(old.settings.partitions):
        differences += await compare_partition(old, new, number, found, strays)
        on_partition()
    return found, differences


# ---------------------------------------------------------------- switch
def wait_for_workers_to_stop(versions: AppVersions, version: Version, seconds: float) -> None:
    """Wait until no worker of a version runs. Raises VersionError, which names those that do, after so many seconds."""
    deadline = time.monotonic() + seconds
    while versions.members(version.settings.table_app_id) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    versions.refuse_workers(version.settings, "Stop them, then run this again; nothing was switched")


async def cut_over(versions: AppVersions, old: Version, new: Version, on_partition: Callable[[], None]) -> Positions:
    """Fold both tables up to the same point, and record where the new outputs end there. Raises VersionError, and the
    errors of folding.

    After a crash it can simply be repeated: each table is consistent at any point, and both are folded up to the point
    that one of them has reached.
    """
    _refuse_workers(versions, old, new)
    for number in range(old.settings.partitions):
        await _fold_to_same_point(old, new, number)
        on_partition()
    # Whichever partition was folded first, strays may have been carried to it since.
    for one in (old, new):
        await _fold_carried(versions, one)
    _refuse_workers(versions, old, new)
    return versions.record_cut(new.settings)


def _refuse_workers(versions: AppVersions, old: Version, new: Version) -> None:
    for one in (old, new):
        versions.refuse_workers(one.settings, "Stop them, then run this again; nothing was switched")


async def _fold_to_same_point(old: Version, new: Version, number: int) -> None:
    """Fold one partition of both versions; each announces the rest on its own topics."""
    sides = [OfflinePartition(one.settings, one.policy, number) for one in (old, new)]
    try:
        first, second = [await side.become_owner() for side in sides]
        offsets, until_ms = furthest((first, second))
        for side in sides:
            await side.fold_up_to(offsets, until_ms)
    finally:
        for side in sides:
            await side.release()


async def _fold_carried(versions: AppVersions, version: Version) -> None:
    """Fold the strays that were carried to partitions after these were folded."""
    for number, marker in enumerate(await _markers(versions, version)):
        if not versions.carried_left(version.settings, number, marker.offsets.get(CARRIED, -1)):
            continue
        side = OfflinePartition(version.settings, version.policy, number)
        try:
            await side.become_owner()
            await side.fold_up_to(marker.offsets | {CARRIED: TO_THE_END}, marker.clock_ms)
        finally:
            await side.release()


class Reader(NamedTuple):
    """A group that reads a version's outputs, and whether it was moved to the new version."""

    group: str
    to_group: str
    has_gone_over: bool
    what: str


def move_reader(versions: AppVersions, old: Version, new: Version, group: str, to_group: str) -> Reader:
    """Have a group that has read all outputs of the old version continue at the cut in those of the new one."""
    renamed = dict(zip(output_topics(old.settings), output_topics(new.settings), strict=True))
    committed = versions.committed(group, renamed)
    if not committed:
        return Reader(
            group, to_group, False, f"has no offsets in the outputs of version {old.number}: is the name right?"
        )
    if versions.committed(to_group, renamed.values()):
        return Reader(group, to_group, True, f"has offsets in version {new.number} already; they were not changed")
    members = sorted({*versions.members(group), *versions.members(to_group)})
    if members:
        return Reader(
            group, to_group, False, f"has members ({', '.join(members)}): stop them once they have read everything"
        )
    topics = {topic for topic, _ in committed}
    begin = {tp: committed.get(tp, 0) for tp in versions.ends(topics)}
    left = versions.count_between(begin, versions.ends(topics))
    if left:
        return Reader(group, to_group, False, f"has about {left:,} records of version {old.number} still to read")
    positions = versions.read_cut(new.settings)
    wanted = {renamed[topic] for topic in topics}
    versions.set_committed(to_group, {tp: offset for tp, offset in positions.items() if tp[0] in wanted})
    return Reader(group, to_group, True, f"continues in version {new.number} where it was in version {old.number}")
