"""API keys for programs: random, kept as hashes in a file, each with the scopes it opens."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from models import units
from streams.web.signin.private_file import NAME_PATTERN, FileError, Watched, changing, read_toml, write_whole

log = logging.getLogger(__name__)

Scope = Literal["customers:read", "tiers:read", "alerts:read"]
SCOPES: Final[tuple[Scope, ...]] = ("customers:read", "tiers:read", "alerts:read")
SECONDS_BETWEEN_LOOKS: Final = 1.0
"""How long a key that was added or removed may go unnoticed."""


class ApiKey(Struct, frozen=True, forbid_unknown_fields=True):
    """Who it was made for, what it opens, and its hash. A key is 256 random bits: SHA-256 is enough, nobody can try them all."""

    name: str
    scopes: list[Scope]
    sha256: str
    made_at: str


class _File(Struct, forbid_unknown_fields=True):
    keys: list[ApiKey] = []


def hash_of(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(path: Path) -> list[ApiKey]:
    """The keys in a file, none if it is not there. Raises FileError."""
    return read_toml(path, _File, _File()).keys


def add_key(path: Path, name: str, scopes: Collection[Scope]) -> str:
    """Make a key and keep its hash; returns the key, which nobody can read again. Raises FileError."""
    if not re.match(NAME_PATTERN, name):
        raise FileError(f"{name!r} can't name a key: use up to 80 letters, digits and . _ @ -")
    key = f"tierstream_{secrets.token_urlsafe(32)}"
    made = ApiKey(name, sorted(scopes), hash_of(key), units.format_time(time.time_ns() // 1_000_000))
    with changing(path):
        keys = read_keys(path)
        if any(one.name == name for one in keys):
            raise FileError(f"{path} has a key {name!r} already; remove that first, or choose another name")
        _write(path, [*keys, made])
    return key


def remove_key(path: Path, name: str) -> None:
    """From now on the key opens nothing. Raises FileError."""
    with changing(path):
        keys = read_keys(path)
        left = [one for one in keys if one.name != name]
        if len(left) == len(keys):
            raise FileError(f"{path} has no key {name!r}")
        _write(path, left)


def _write(path: Path, keys: list[ApiKey]) -> None:
    lines = ["# API keys of the console, as hashes. Made by `tierstream console keys`."]
    for one in keys:
        scopes = ", ".join(f'"{scope}"' for scope in one.scopes)
        lines += ["", "[[keys]]", f'name = "{one.name}"', f"scopes = [{scopes}]"]
        lines += [f'sha256 = "{one.sha256}"', f'made_at = "{one.made_at}"']
    write_whole(path, "\n".join(lines) + "\n")


class Keys:
    """The keys of a file as it is now: it is looked at again after a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = Watched(path)
        self._file.has_changed()
        self._looked_at = time.monotonic()
        self._by_hash = self._read()

    def find(self, key: str) -> ApiKey | None:
        """Whose key it is."""
        now = time.monotonic()
        if now - self._looked_at > SECONDS_BETWEEN_LOOKS:
            self._looked_at = now
            if self._file.has_changed():
                try:
                    self._by_hash = self._read()
                except FileError as error:
                    log.error("the keys stay as they were: %s", error)
        return self._by_hash.get(hash_of(key))

    def _read(self) -> dict[str, ApiKey]:
        return {one.sha256: one for one in read_keys(self._path)}
