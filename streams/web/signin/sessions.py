"""Sessions of signed-in people: kept in Redis; a browser has only a random id."""

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
    """The session of a person, from signing in to signing out."""

    name: str
    role: Role
    csrf: str
    """The token that every request for a change has to carry; other sites can't know it."""
    since_ms: int
    password: str | None = None
    """The hash of the password that opened it; once the user has another password or is removed, the session has ended.
    """

    @property
    def person(self) -> Person:
        """The person whose session it is."""
        return Person(self.name, self.role)


class Sessions:
    """Opens, finds and ends sessions. Redis has only a hash of each id, so a reader of Redis can't take a session over."""

    def __init__(self, redis: Redis, prefix: str, users: Users, idle_ms: int, length_ms: int, is_secure: bool) -> None:
        self._redis: Any = redis
        self._prefix, self._users = f"{prefix}console:session:", users
        self._idle_ms, self._length_ms, self.is_secure = idle_ms, length_ms, is_secure
        # Browsers accept a cookie with this prefix only from this very host and over https.
        self.cookie_name: Final = "__Host-tierstream" if is_secure else "tierstream"

    async def open(self, person: Person, password: str | None = None) -> Cookie:
        """Open a session with a new id; returns its cookie. `password` is the hash of the password that opened it."""
        id = secrets.token_urlsafe(32)
        session = Session(person.name, person.role, secrets.token_urlsafe(32), now_ms(), password)
        await self._redis.set(self._key(id), msgspec.json.encode(session), px=min(self._idle_ms, self._length_ms))
        return self._cookie(id, self._length_ms // 1000)

    async def find(self, id: str | None) -> Session | None:
        """The session of an id, None if it has ended. Finding a session renews its idle time."""
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
        """End a session; returns the cookie that removes its cookie."""
        if id:
            await self._redis.delete(self._key(id))
        return self._cookie("", 0)

    def _is_still(self, session: Session) -> bool:
        """Whether the user still has the same password and role; always true for a session without a password."""
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
    """The wall clock, in ms since the epoch."""
    return time.time_ns() // 1_000_000
