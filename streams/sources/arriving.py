"""Lines that are still being written: a file that is followed as it grows, and standard input."""

from __future__ import annotations

import io
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, cast

from streams.sources.compression import CHUNK_BYTES
from streams.sources.file_rows import csv_rows, json_rows
from streams.sources.logs import JSONL, Log, LogError, LogFile
from streams.sources.mapped_log import MappedLog
from streams.sources.named_logs import CSV, Mappings, kind_of

STDIN: Final = "-"
_STDIN_PATH: Final = Path("/dev/stdin")
WAIT_SECONDS: Final = 0.1

Wait = Callable[[], None]
"""Called again and again while there is nothing to read. What it raises ends the reading."""


def arriving_log(name: str, maps: Sequence[str], wait: Wait) -> Log:
    """Standard input (`-`, of JSON lines), or a plain file that is followed. Raises LogError.

    The stream of standard input ends with it. That of a file ends when another file has taken its name, or when it was cut
    off; then a new stream of the log begins with the new content.
    """
    mappings, is_stdin = Mappings(maps), name == STDIN
    path = _STDIN_PATH if is_stdin else Path(name)
    mapping = mappings.of(path)
    mappings.check_all_used()
    if mapping is not None and mapping.needs_event_ids:
        raise LogError(
            f"{name}: the ids of its events would be made from their lines' numbers, which begin again with another "
            "file or another run, so that new events would be taken for repeats; map event_id"
        )
    kind = JSONL if is_stdin else kind_of(path)
    open_file = partial(_open, wait=wait, is_followed=not is_stdin)
    try:
        is_plain = is_stdin or (kind in (JSONL, CSV) and path.suffix in kind and stat.S_ISREG(path.stat().st_mode))
    except OSError as error:
        raise LogError(f"{name}: {error.strerror}; give a file that exists") from None
    if not is_plain:
        raise LogError(f"{name}: only a plain file can be followed as it grows: JSONL, or CSV with --map")
    if mapping is not None:
        return MappedLog(path, mapping, partial(csv_rows if kind is CSV else json_rows, open_file=open_file))
    if kind is CSV:
        raise LogError(f"{name}: it needs --map, which says which column is which field")
    return LogFile(path, open_file=open_file, lines_at_once=1)


@contextmanager
def _open(path: Path, wait: Wait, is_followed: bool) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    with path.open("rb", buffering=0) if is_followed else nullcontext(sys.stdin) as file:
        arriving = _Arriving(file.fileno(), path if is_followed else None, wait)
        yield cast(IO[bytes], io.BufferedReader(arriving, CHUNK_BYTES)), cast(IO[bytes], arriving)


class _Arriving(io.RawIOBase):
    """The bytes of a file as they come; with `path`, of a file that is followed until another one has that path."""

    def __init__(self, descriptor: int, path: Path | None, wait: Wait) -> None:
        self._descriptor = descriptor
        self._path = path
        self._wait = wait
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """How many bytes were read."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what there is, at least a byte; 0 at the end. Waits as long as there is nothing."""
        while True:
            if select.select([self._descriptor], [], [], WAIT_SECONDS)[0]:
                count = os.readv(self._descriptor, [buffer])
                if count == 0 and self._path is not None:
                    if not self._is_replaced(self._path):
                        time.sleep(WAIT_SECONDS)
                        self._wait()
                        continue
                    count = os.readv(self._descriptor, [buffer])  # what came before it was replaced
                self._position += count
                return count
            self._wait()

    def _is_replaced(self, path: Path) -> bool:
        """Whether the path has another file now, or the file has become shorter. While there is none, it is not."""
        ours = os.fstat(self._descriptor)
        try:
            there = path.stat()
        except FileNotFoundError:
            return False
        return not os.path.samestat(ours, there) or ours.st_size < self._position
