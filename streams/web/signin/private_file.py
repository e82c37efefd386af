"""TOML files that only their owner may read: API keys and users, as hashes."""

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
"""Allowed names of keys and people; no character in them needs quoting."""


class FileError(ValueError):
    """A file that can't be used, or a change to it that can't be made; the message says what to do."""


def read_toml(path: Path, kind: type[T], empty: T) -> T:
    """The content of a file; `empty` if the file does not exist. Raises FileError."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return empty
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: {error}") from None


def replace_file(path: Path, text: str) -> None:
    """Replace the content of a file at once; only its owner may read it. Raises FileError."""
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
def lock_for_change(path: Path) -> Iterator[None]:
    """Lock a file while it is changed, so that changes happen one at a time. Raises FileError."""
    try:
        with path.with_name(f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None


class WatchedFile:
    """Checks whether a file has changed since the last check."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = (-1, -1)

    def has_changed(self) -> bool:
        """Whether the file has changed, appeared or disappeared since the last call."""
        try:
            status = self._path.stat()
            now: tuple[int, int] | None = (status.st_mtime_ns, status.st_ino)
        except OSError:
            now = None
        changed, self._seen = now != self._seen, now
        return changed
