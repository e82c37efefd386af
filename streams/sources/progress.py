"""The progress bar of commands that read logs: bytes on disk, events per second, the time that is left."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from streams.sources.logs import Log


class ReadProgress:
    """Takes reports of progress and shows nothing."""

    def on_bytes(self, count: int) -> None:
        """Report that `count` more bytes were read."""

    def on_events(self, count: int) -> None:
        """Report that `count` more events were processed."""


class _Bar(ReadProgress):
    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task
        self._started = time.monotonic()
        self._events = 0

    def on_bytes(self, count: int) -> None:
        self._bar.advance(self._task, count)

    def on_events(self, count: int) -> None:
        self._events += count
        seconds = max(time.monotonic() - self._started, 0.001)
        self._bar.update(self._task, rate=f"{self._events / seconds:,.0f} events/s")


@contextmanager
def progress_over(
    logs: Sequence[Log], shown: bool, what: str = "replaying", console: Console | None = None
) -> Iterator[ReadProgress]:
    """A progress bar over the bytes of the logs, or nothing."""
    if not shown:
        yield ReadProgress()
        return
    sizes = [log.bytes for log in logs]
    # The size of a topic in bytes is not known before it is read.
    total = None if None in sizes else sum(size or 0 for size in sizes)
    columns = (
        TextColumn(what), BarColumn(), DownloadColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=console or Console(stderr=True)) as bar:
        yield _Bar(bar, bar.add_task("", total=total, rate=""))
