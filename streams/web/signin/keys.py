"""API keys for programs: random, kept as hashes in a file, each with its scopes."""

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
from streams.web.signin.private_file import (
    NAME_PATTERN,
    FileError,
    WatchedFile,
    lock_for_change,
    read_toml,
    replace_file,
)

log = logging.getLogger(__name__)

Scope = Literal["customers:read", "tiers:read", "alerts:read"]
SCOPES: Final[tuple[Scope, ...]] = ("customers:read", "tiers:read", "alerts:read")
SECONDS_BETWEEN_LOOKS: Final = 1.0
"""How long it may take until an added or removed key is noticed."""


class ApiKey(Struct, frozen=True, forbid_unknown_fields=True):
    """A key's name, scopes and hash. A key is 256 random bits, so SHA-256 is enough: nobody can try them all."""

    name: str
    scopes: list[Scope]
    sha256: str
    made_at: str


class _File(Struct, forbid_unknown_fields=True):
    keys: list[ApiKey] = []


def hash_of(key: str) -> str:
    """The hash of a key, which is kept in its place."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(path: Path) -> list[ApiKey]:
    """The keys in a file; none if the file does not exist. Raises FileError."""
    return read_toml(path, _File, _File()).keys


def add_key(path: Path, name: str, scopes: Collection[Scope]) -> str:
    """Make a key and keep its hash; returns the key, which nobody can read again. Raises FileError."""
    if not re.match(NAME_PATTERN, name):
        raise FileError(f"{name!r} can't name a key: use up to 80 letters, digits and . _ @ -")
    key = f"tierstream_{secrets.token_urlsafe(32)}"
    made = ApiKey(name, sorted(scopes), hash_of(key), units.format_time(time.time_ns() // 1_000_000))
    with lock_for_change(path):
        keys = read_keys(path)
        if any(one.name == name for one in keys):
            raise FileError(f"{path} has a key {name!r} already; remove that first, or choose another name")
        _write(path, [*keys, made])
    return key


def remove_key(path: Path, name: str) -> None:
    """Remove a key; it then opens nothing. Raises FileError."""
    with lock_for_change(path):
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
    replace_file(path, "\n".join(lines) + "\n")


class Keys:
    """The keys of a file, which is checked for changes once a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = WatchedFile(path)
        self._file.has_changed()
        self._looked_at = time.monotonic()
        self._by_hash = self._read()

    def find(self, key: str) -> ApiKey | None:
        """The entry of a key; None if the key is unknown."""
        now = time.monotonic()
        if now - self._looked_at > SECONDS_BETWEEN_LOOKS:
            self._looked_at = now
            if self._file.has_changed():
                try:
                    self._by_hash = self._read()
                except FileError as error:
                    log.error("the file of API keys can't be read, the previous keys stay valid: %s", error)
        return self._by_hash.get(hash_of(key))

    def _read(self) -> dict[str, ApiKey]:
        return {one.sha256: one for one in read_keys(self._path)}
