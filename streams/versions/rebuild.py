"""A new app version from the beginning, beside the one that serves; compared; and the cut at which readers go over.

The cut is a position in the inputs that both tables are taken to once no worker is left: the same records and the same time.
So all that came before it has been announced on the old version's topics, and what the new version announces from there on
is what comes after it. Where the new version's outputs end at the cut is where readers go on: nothing is missing, nothing
comes twice. It is kept in one request (streams.versions.app_versions); until then all of this can be done again, and finds what was done.
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
from streams.topics import changelog_topic, topics_of
from streams.versions.app_versions import Positions, VersionError, Versions, output_topics
from streams.versions.offline_partition import OfflinePartition, read_marker
from streams.versions.two_tables import Difference, Found, Version, compare_partition, reach

CLOSE_SECONDS: Final = 15.0
"""Who is never further behind than what came in this time has caught up."""
POLL_SECONDS: Final = 0.5
STOP_SECONDS: Final = 40.0
LAST_LINES: Final = 20


class Progress(NamedTuple):
    """How far the new version is."""

    left: int
    records_per_second: float
    seconds_left: float | None
    """None while it is not known."""


async def check(versions: Versions, old: Version, new: Version) -> bool:
    """Whether the new version was begun before. Raises VersionError if this can't be done with these two."""
    if new.number <= old.number:
        raise VersionError(
            f"version {new.number} is no next one: TIERSTREAM_APP_VERSION is {old.number}; give a larger --to-version"
        )
    if not versions.own_topics(old.settings):
        raise VersionError(
            f"there is no version {old.number} at {old.settings.broker}: nothing to rebuild. Start workers, or look at "
            "TIERSTREAM_TOPIC_PREFIX, TIERSTREAM_APP_ID and TIERSTREAM_APP_VERSION"
        )
    if old.policy.ref != new.policy.ref and (old.policy.relative or new.policy.relative):
        raise VersionError(
            "the lines of a policy that follows the base go to `commands`, which both versions read: copy the inputs to topics "
            "of their own (tierstream topics migrate) and start workers there"
        )
    await _check_policy(versions, old, "set TIERSTREAM_POLICY to it")
    if not versions.own_topics(new.settings):
        return False
    create_topics(new.settings, topics_of(new.settings))  # what is missing of them
    await _check_policy(
        versions, new, f"give it by --policy, another --to-version, or delete version {new.number} by --abort"
    )
    return True


async def _check_policy(versions: Versions, version: Version, do: str) -> None:
    ends = versions.ends([changelog_topic(version.settings)])
    markers = [await read_marker(version.settings, number, end) for (_, number), end in ends.items()]
    others = {one.policy for one in markers} - {"", version.policy.ref}
    if others:
        raise VersionError(
            f"version {version.number} is made under {', '.join(sorted(others))}, not {version.policy.ref}: {do}"
        )


# ---------------------------------------------------------------- building
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
            # Ctrl-C is ours: we stop the worker, and it finishes its batch.
            start_new_session=True,
        )
        self._log = log
        self._said: deque[str] = deque(maxlen=LAST_LINES)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.append(line.decode(errors="replace").rstrip())
            if self._log is not None:
                self._log.write(line)

    def check(self) -> None:
        """Raises VersionError if it has stopped."""
        if self._process.poll() is not None:
            self._listener.join(1)
            said = "\n".join(self._said)
            raise VersionError(f"the worker of the new version stopped; its last words were:\n{said}")

    def stop(self) -> None:
        """Have it finish the batch in hand, and wait."""
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
def building(version: Version, own_worker: bool, log: IO[bytes] | None) -> Iterator[Callable[[], None]]:
    """With a worker of the version, if there is to be one; gives what raises VersionError once it has stopped."""
    if not own_worker:
        yield lambda: None
        return
    worker = BuildingWorker(version, log)
    # However we are told to stop, the worker stops with us.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield worker.check
    finally:
        worker.stop()
        signal.signal(signal.SIGTERM, before)


def catch_up(
    versions: Versions, version: Version, check_worker: Callable[[], None], on_progress: Callable[[Progress], None]
) -> None:
    """Wait until the version's workers have folded all but what came in the last seconds. Raises VersionError."""
    began, ends = time.monotonic(), versions.input_ends()
    noted, first = began, versions.left(version.settings, ends)
    while True:
        check_worker()
        # Of what came meanwhile too: so that what is left is what is left, and not ever the same.
        left = versions.left(version.settings, versions.input_ends())
        seconds = time.monotonic() - began
        rate = max(0, first - left) / max(seconds, 1e-9)
        on_progress(Progress(left, rate, left / rate if rate else None))
        if not versions.left(version.settings, ends):
            if time.monotonic() - noted <= CLOSE_SECONDS:
                return
            noted, ends = time.monotonic(), versions.input_ends()
        time.sleep(POLL_SECONDS)


# ---------------------------------------------------------------- comparing
async def compare(old: Version, new: Version, on_partition: Callable[[], None]) -> tuple[Found, list[Difference]]:
    """Compare the two tables, partition by partition, while whoever works on them goes on."""
    found, differences = Found(), []
    for number in range(old.settings.partitions):
        differences += await compare_partition(old, new, number, found)
        on_partition()
    return found, differences


# ---------------------------------------------------------------- switching
def wait_for_workers_to_stop(versions: Versions, version: Version, seconds: float) -> None:
    """Wait until nobody works on a version. Raises VersionError, with who does, once it took too long."""
    deadline = time.monotonic() + seconds
    while versions.members(version.settings.table_app_id) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    versions.refuse_workers(version.settings, "Stop them, then run this again; nothing was switched")


async def cut(versions: Versions, old: Version, new: Version, on_partition: Callable[[], None]) -> Positions:
    """Take both tables to the same point, and keep where the new outputs end there. Raises VersionError and what folding raises.

    Whatever a crash leaves of it is as good as not begun: both tables are whole wherever they are, and doing it again takes
    them to the point that the further one is at.
    """
    _refuse_workers(versions, old, new)
    for number in range(old.settings.partitions):
        await _take_to_one_point(old, new, number)
        on_partition()
    _refuse_workers(versions, old, new)
    return versions.keep_cut(new.settings)


def _refuse_workers(versions: Versions, old: Version, new: Version) -> None:
    for one in (old, new):
        versions.refuse_workers(one.settings, "Stop them, then run this again; nothing was switched")


async def _take_to_one_point(old: Version, new: Version, number: int) -> None:
    """One partition of both, announcing on either version's topics what it had not announced yet."""
    sides = [OfflinePartition(one.settings, one.policy, number) for one in (old, new)]
    try:
        first, second = [await side.become_owner() for side in sides]
        offsets, until_ms = reach((first, second))
        for side in sides:
            await side.fold_up_to(offsets, until_ms)
    finally:
        for side in sides:
            await side.release()


class Reader(NamedTuple):
    """A group that reads a version's outputs, and what came of having it go over."""

    group: str
    to_group: str
    has_gone_over: bool
    what: str


def move_reader(versions: Versions, old: Version, new: Version, group: str, to_group: str) -> Reader:
    """Have a group that has read all of the old version's outputs go on at the cut in those of the new one."""
    renamed = dict(zip(output_topics(old.settings), output_topics(new.settings), strict=True))
    committed = versions.committed(group, renamed)
    if not committed:
        return Reader(
            group, to_group, False, f"has no positions in the outputs of version {old.number}: is that its name?"
        )
    if versions.committed(to_group, renamed.values()):
        return Reader(group, to_group, True, f"has positions in version {new.number} already; left as they are")
    members = sorted({*versions.members(group), *versions.members(to_group)})
    if members:
        return Reader(group, to_group, False, f"is at work ({', '.join(members)}): stop it once it has read everything")
    topics = {topic for topic, _ in committed}
    begin = {tp: committed.get(tp, 0) for tp in versions.ends(topics)}
    left = versions.between(begin, versions.ends(topics))
    if left:
        return Reader(group, to_group, False, f"has about {left:,} records of version {old.number} still to read")
    positions = versions.cut(new.settings)
    wanted = {renamed[topic] for topic in topics}
    versions.set_committed(to_group, {tp: offset for tp, offset in positions.items() if tp[0] in wanted})
    return Reader(group, to_group, True, f"goes on in version {new.number} where it was in version {old.number}")
