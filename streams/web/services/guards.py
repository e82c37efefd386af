"""Guards of the console: every handler needs a signed-in person, unless it says `open_to_all`."""

from __future__ import annotations

import hmac
from typing import Any, Final
from urllib.parse import urlsplit

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler

from streams.web.services.container import services
from streams.web.signin.people import Person
from streams.web.signin.sessions import Session

Connection = ASGIConnection[Any, Any, Any, Any]
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER: Final = "x-csrf-token"
CSRF_FIELD: Final = "csrf"
OPEN_TO_ALL: Final = {"open_to_all": True}
AGENTS: Final = {"role": "agent"}
"""For a handler's `opt`: it needs this role. Without a role, every signed-in person may use the handler."""


class SignInNeeded(NotAuthorizedException):
    """Nobody is signed in."""


class Stale(PermissionDeniedException):
    """A change without the session's token, or requested by another site."""


def session_of(connection: Connection) -> Session | None:
    """The session of a request, after `require_sign_in` has looked it up; None if nobody is signed in."""
    found: Session | None = connection.scope.get("state", {}).get("session")
    return found


def person_of(connection: Connection) -> Person:
    """The signed-in person. Raises SignInNeeded."""
    session = session_of(connection)
    if session is None:
        raise SignInNeeded
    return session.person


async def require_sign_in(connection: Connection, handler: BaseRouteHandler) -> None:
    """The guard of the whole console. Raises SignInNeeded, Stale or PermissionDeniedException."""
    sessions = services(connection).sessions
    session = await sessions.find(connection.cookies.get(sessions.cookie_name))
    connection.scope.setdefault("state", {})["session"] = session
    changes = connection.scope.get("method") not in SAFE_METHODS
    if changes and not is_same_site(connection):
        raise Stale
    if handler.opt.get("open_to_all"):
        return
    if session is None:
        raise SignInNeeded
    await services(connection).masks.ready()
    if changes and not hmac.compare_digest(await _token(connection), session.csrf.encode()):
        raise Stale
    if not session.person.may(handler.opt.get("role", "viewer")):
        raise PermissionDeniedException


def is_same_site(connection: Connection) -> bool:
    """Whether a page of the console made a request, by the browser's headers, which scripts can't set."""
    site = connection.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = connection.headers.get("origin")
    if origin is None:
        return True  # no browser, or a very old one: the token decides
    return urlsplit(origin).netloc in services(connection).hosts | {connection.headers.get("host", "")}


async def _token(connection: Connection) -> bytes:
    """The token in the header, or in a plain form."""
    token = connection.headers.get(CSRF_HEADER)
    if token is None and isinstance(connection, Request):
        kind = connection.headers.get("content-type", "")
        if kind.startswith("application/x-www-form-urlencoded"):
            token = (await connection.form()).get(CSRF_FIELD)
    return token.encode() if isinstance(token, str) else b""
