"""Who is signed in: kept in Redis, known to a browser by a random id alone."""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import Any, Final

import msgspec
from litestar.datastructures import Cookie
from msgspec import Struct
from redis.asyncio import Redis

from streams.web.settings import Role
from streams.web.signin.people import Person, Users


class Session(Struct, frozen=True):
    """Somebody's, from signing in to signing out."""

    name: str
    role: Role
    csrf: str
    """Every request that changes something has to bring it: other sites can't know it."""
    since_ms: int
    password: str | None = None
    """The hash of the password that opened it; with another password, or none any more, the session has ended."""

    @property
    def person(self) -> Person:
        """Whose it is."""
        return Person(self.name, self.role)


class Sessions:
    """Opens, finds and ends sessions. Redis has a hash of the id, so whoever reads Redis can't take one over."""

    def __init__(self, redis: Redis, prefix: str, users: Users, idle_ms: int, length_ms: int, is_secure: bool) -> None:
        self._redis: Any = redis
        self._prefix, self._users = f"{prefix}console:session:", users
        self._idle_ms, self._length_ms, self.is_secure = idle_ms, length_ms, is_secure
        # With this prefix browsers take the cookie from this very host only, and over https only.
        self.cookie_name: Final = "__Host-tierstream" if is_secure else "tierstream"

    async def open(self, person: Person, password: str | None = None) -> Cookie:
        """A new session, always with a new id; returns the cookie for it. `password` is the hash of the one that opened it."""
        id = secrets.token_urlsafe(32)
        session = Session(person.name, person.role, secrets.token_urlsafe(32), now_ms(), password)
        await self._redis.set(self._key(id), msgspec.json.encode(session), px=min(self._idle_ms, self._length_ms))
        return self._cookie(id, self._length_ms // 1000)

    async def find(self, id: str | None) -> Session | None:
        """The session of an id, which lives on by that."""
        if not id:
            return None
        key = self._key(id)
        found = await self._redis.getex(key, px=self._idle_ms)
        if found is None:
            return None
        session = msgspec.json.decode(found, type=Session)
        if now_ms() - session.since_ms >= self._length_ms or not self._is_still(session):
            await self._redis.delete(key)
            return None
        return session

    async def close(self, id: str | None) -> Cookie:
        """End a session; returns the cookie that takes away its own."""
        if id:
            await self._redis.delete(self._key(id))
        return self._cookie("", 0)

    def _is_still(self, session: Session) -> bool:
        """Whether the user's line in the file is as it was, for those who have one."""
        if session.password is None:
            return True
        user = self._users.find(session.name)
        return user is not None and (user.argon2, user.role) == (session.password, session.role)

    def _key(self, id: str) -> str:
        return self._prefix + hashlib.sha256(id.encode()).hexdigest()

    def _cookie(self, value: str, seconds: int) -> Cookie:
        return Cookie(
            self.cookie_name,
            value=value,
            max_age=seconds,
            path="/",
            httponly=True,
            secure=self.is_secure,
            samesite="lax",
        )


def now_ms() -> int:
    """The clock of sessions."""
    return time.time_ns() // 1_000_000
