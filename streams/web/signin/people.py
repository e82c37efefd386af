"""People who sign in, what they may do, and the file of those who sign in with a password."""

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
from streams.web.signin.private_file import NAME_PATTERN, FileError, Watched, changing, read_toml, write_whole

log = logging.getLogger(__name__)

"""Each may do what the one before may: look, with ids masked; work the queue; assign alerts to others."""
LEAST_PASSWORD: Final = 12
AT_ONCE: Final = 2
"""Passwords checked at the same time: each takes 64 MiB and a core."""

_hasher = PasswordHasher()


class Person(NamedTuple):
    """Somebody who is signed in."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether they may do what this role may."""
        return ROLES.index(self.role) >= ROLES.index(role)


class User(Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the file."""

    name: str
    role: Role
    argon2: str


class _File(Struct, forbid_unknown_fields=True):
    users: list[User] = []


def read_users(path: Path) -> list[User]:
    """The users in a file, none if it is not there. Raises FileError."""
    return read_toml(path, _File, _File()).users


def set_user(path: Path, name: str, role: Role, password: str, replace: bool = False) -> None:
    """Add somebody, or give them another role and password. Raises FileError."""
    if not re.match(NAME_PATTERN, name):
        raise FileError(f"{name!r} can't be a user's name: use up to 80 letters, digits and . _ @ -")
    if len(password) < LEAST_PASSWORD:
        raise FileError(f"the password has {len(password)} characters; at least {LEAST_PASSWORD} are needed")
    user = User(name, role, _hasher.hash(password))
    with changing(path):
        users = {one.name: one for one in read_users(path)}
        if name in users and not replace:
            raise FileError(f"{path} has a user {name!r} already; --replace gives them another role and password")
        _write(path, users | {name: user})


def remove_user(path: Path, name: str) -> None:
    """From now on they can't sign in. Raises FileError."""
    with changing(path):
        users = {one.name: one for one in read_users(path)}
        if users.pop(name, None) is None:
            raise FileError(f"{path} has no user {name!r}")
        _write(path, users)


def _write(path: Path, users: dict[str, User]) -> None:
    lines = ["# Who may sign in to the console, with hashes of their passwords. Made by `tierstream console users`."]
    for one in users.values():
        lines += ["", "[[users]]", f'name = "{one.name}"', f'role = "{one.role}"', f"argon2 = '{one.argon2}'"]
    write_whole(path, "\n".join(lines) + "\n")


class Users:
    """The users of a file as it is now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = Watched(path)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._by_name: dict[str, User] = {}
        # Checked where a name is not known, so that the time taken does not tell names.
        self._nobodys_hash = _hasher.hash("nobody has this password")
        self._file.has_changed()
        self._read()

    async def sign_in(self, name: str, password: str) -> User | None:
        """Who they are, if the password is theirs."""
        user = self.find(name)
        async with self._turns:
            fits = await asyncio.to_thread(_fits, self._nobodys_hash if user is None else user.argon2, password)
        return user if fits else None

    def find(self, name: str) -> User | None:
        """The user of this name now."""
        if self._file.has_changed():
            try:
                self._read()
            except FileError as error:
                log.error("the users stay as they were: %s", error)
        return self._by_name.get(name)

    def _read(self) -> None:
        self._by_name = {one.name: one for one in read_users(self._path)}


def _fits(hashed: str, password: str) -> bool:
    try:
        return _hasher.verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False
