"""People who sign in, their roles, and the file of people who sign in with a password."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from typing import Final, NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from msgspec import Struct

from streams.web.settings import ROLES, Role
from streams.web.signin.private_file import (
    NAME_PATTERN,
    FileError,
    WatchedFile,
    lock_for_change,
    read_toml,
    replace_file,
)

log = logging.getLogger(__name__)

LEAST_PASSWORD: Final = 12
AT_ONCE: Final = 2
"""How many passwords are checked at the same time: each check takes 64 MiB and a core."""

_hasher = PasswordHasher()


class Person(NamedTuple):
    """A signed-in person."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether the person's role allows what this role allows."""
        return ROLES.index(self.role) >= ROLES.index(role)


class User(Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of the file."""

    name: str
    role: Role
    argon2: str


class _File(Struct, forbid_unknown_fields=True):
    users: list[User] = []


def read_users(path: Path) -> list[User]:
    """The users in a file; none if the file does not exist. Raises FileError."""
    return read_toml(path, _File, _File()).users


def set_user(path: Path, name: str, role: Role, password: str, replace: bool = False) -> None:
    """Add a user, or with `replace` give an existing one another role and password. Raises FileError."""
    if not re.match(NAME_PATTERN, name):
        raise FileError(f"{name!r} can't be a user's name: use up to 80 letters, digits and . _ @ -")
    if len(password) < LEAST_PASSWORD:
        raise FileError(f"the password has {len(password)} characters; at least {LEAST_PASSWORD} are needed")
    user = User(name, role, _hasher.hash(password))
    with lock_for_change(path):
        users = {one.name: one for one in read_users(path)}
        if name in users and not replace:
            raise FileError(f"{path} has a user {name!r} already; --replace gives them another role and password")
        _write(path, users | {name: user})


def remove_user(path: Path, name: str) -> None:
    """Remove a user, who then can't sign in. Raises FileError."""
    with lock_for_change(path):
        users = {one.name: one for one in read_users(path)}
        if users.pop(name, None) is None:
            raise FileError(f"{path} has no user {name!r}")
        _write(path, users)


def _write(path: Path, users: dict[str, User]) -> None:
    lines = ["# Who may sign in to the console, with hashes of their passwords. Made by `tierstream console users`."]
    for one in users.values():
        lines += ["", "[[users]]", f'name = "{one.name}"', f'role = "{one.role}"', f"argon2 = '{one.argon2}'"]
    replace_file(path, "\n".join(lines) + "\n")


class Users:
    """The users of a file, which is checked for changes on each look-up."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = WatchedFile(path)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._by_name: dict[str, User] = {}
        # Checked for an unknown name, so that the time taken does not reveal which names exist.
        self._nobodys_hash = _hasher.hash("nobody has this password")
        self._file.has_changed()
        self._read()

    async def sign_in(self, name: str, password: str) -> User | None:
        """The user of this name, if the password is right; else None."""
        user = self.find(name)
        async with self._turns:
            fits = await asyncio.to_thread(_fits, self._nobodys_hash if user is None else user.argon2, password)
        return user if fits else None

    def find(self, name: str) -> User | None:
        """The user of this name; None if the file has none."""
        if self._file.has_changed():
            try:
                self._read()
            except FileError as error:
                log.error("the file of users can't be read, the previous users stay valid: %s", error)
        return self._by_name.get(name)

    def _read(self) -> None:
        self._by_name = {one.name: one for one in read_users(self._path)}


def _fits(hashed: str, password: str) -> bool:
    try:
        return _hasher.verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False
