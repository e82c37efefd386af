"""Files that only their owner may read: API keys and users, as hashes, in TOML."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,79}$"
"""Names of keys and people; nothing in them needs quoting."""


class FileError(ValueError):
    """A file that can't be used, or a change to it that can't be made; the message says what to do."""


def read_toml(path: Path, kind: type[T], empty: T) -> T:
    """A file's content, `empty` if there is none. Raises FileError."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return empty
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: {error}") from None


def write_whole(path: Path, text: str) -> None:
    """Put a text in the place of what a file had, at once and for its owner's eyes only. Raises FileError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """One change at a time. Raises FileError."""
    try:
        with path.with_name(f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None


class Watched:
    """Tells whether a file was changed since it was last asked about."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = (-1, -1)

    def has_changed(self) -> bool:
        """Whether it is another one now; a file that has come or gone is."""
        try:
            status = self._path.stat()
            now: tuple[int, int] | None = (status.st_mtime_ns, status.st_ino)
        except OSError:
            now = None
        changed, self._seen = now != self._seen, now
        return changed
