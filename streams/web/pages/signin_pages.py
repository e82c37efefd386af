"""Signing in and out: with a password, or by OpenID Connect if that is set up."""

from __future__ import annotations

import base64
import logging
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.enums import RequestEncodingType
from litestar.params import BodyKwarg
from litestar.response import Redirect
from msgspec import Meta, Struct

from streams.web.pages.rendering import NOT_STORED, page
from streams.web.services.container import Services, address_of, services
from streams.web.services.guards import OPEN_TO_ALL, session_of
from streams.web.signin.oidc import CALLBACK, Attempt, OidcError
from streams.web.signin.people import Person

log = logging.getLogger(__name__)

HOME: Final = "/queue"
ATTEMPT_COOKIE: Final = "tierstream-attempt"
ATTEMPT_SECONDS: Final = 600
AnyRequest = Request[Any, Any, Any]


class Credentials(Struct):
    """The form of the page."""

    name: Annotated[str, Meta(max_length=128)] = ""
    password: Annotated[str, Meta(max_length=1024)] = ""
    after: str = HOME


def safe_path(path: str | None) -> str:
    r"""The path to go to after signing in: always a page of the console.

    >>> safe_path("/customers/1?a=b"), safe_path("//elsewhere"), safe_path("https://elsewhere"), safe_path("/\\elsewhere")
    ('/customers/1?a=b', '/queue', '/queue', '/queue')
    """
    if path and path.startswith("/") and not path.startswith(("//", "/signin")) and not set(path) & set("\\\r\n\t"):
        return path
    return HOME


def form_page(
    request: AnyRequest, after: str, status_code: int = 200, problem: str | None = None, **values: Any
) -> Response[str]:
    """The page to sign in on, with a problem if an attempt failed."""
    return page(
        request, "signin.html", status_code, after=after, problem=problem, values=values,
        by_provider=services(request).oidc is not None,
    )  # fmt: skip


@get("/signin", opt=OPEN_TO_ALL)
async def signin_page(request: AnyRequest) -> Response[Any]:
    """The form for a password, or the link to the provider."""
    after = safe_path(request.query_params.get("after"))
    if session_of(request) is not None:
        return Redirect(after, status_code=303)
    return form_page(request, after)


@post("/signin", opt=OPEN_TO_ALL, status_code=200)
async def sign_in(
    data: Annotated[Credentials, BodyKwarg(media_type=RequestEncodingType.URL_ENCODED)], request: AnyRequest
) -> Response[Any]:
    """Sign in with a password."""
    here, address, after = services(request), address_of(request), safe_path(data.after)
    if here.oidc is not None:
        return Redirect("/signin", status_code=303)
    if wait_seconds := await here.throttle.wait_seconds(data.name, address):
        here.audit.record(data.name, "sign_in_refused", address, reason="throttled")
        answer = form_page(request, after, 429, "too_many_tries", minutes=-(-wait_seconds // 60))
        answer.headers["Retry-After"] = str(wait_seconds)
        return answer
    user = await here.users.sign_in(data.name, data.password)
    if user is None:
        await here.throttle.count_failure(data.name, address)
        here.audit.record(data.name, "sign_in_refused", address, reason="wrong name or password")
        return form_page(request, after, 401, "wrong_password")
    await here.throttle.forget_failures(data.name)
    return await _open_session(request, here, Person(user.name, user.role), after, "password", user.argon2)


async def _open_session(
    request: AnyRequest, here: Services, person: Person, after: str, how: str, password: str | None = None
) -> Response[Any]:
    # An earlier session ends. The new one has a new id, so that nobody could have planted it.
    await here.sessions.close(request.cookies.get(here.sessions.cookie_name))
    cookie = await here.sessions.open(person, password)
    here.audit.record(person.name, "signed_in", address_of(request), person.role, how=how)
    answer = Redirect(after, status_code=303, headers=NOT_STORED)
    answer.set_cookie(cookie)
    return answer


@post("/signout", status_code=303)
async def sign_out(request: AnyRequest) -> Response[Any]:
    """End the session, in the browser and on the server."""
    here, session = services(request), session_of(request)
    cookie = await here.sessions.close(request.cookies.get(here.sessions.cookie_name))
    if session is not None:
        here.audit.record(session.name, "signed_out", address_of(request), session.role)
    answer = Redirect("/signin", status_code=303, headers=NOT_STORED)
    answer.set_cookie(cookie)
    return answer


# ------------------------------------------------------------ by a provider
@get("/signin/provider", opt=OPEN_TO_ALL)
async def to_provider(request: AnyRequest) -> Response[Any]:
    """Redirect to the provider."""
    here, after = services(request), safe_path(request.query_params.get("after"))
    if here.oidc is None:
        return Redirect("/signin", status_code=303)
    try:
        url, attempt = await here.oidc.begin(after)
    except OidcError as error:
        log.error("signing in by the provider: %s", error)
        return form_page(request, after, 502, "provider_failed")
    answer = Redirect(url, status_code=303, headers=NOT_STORED)
    answer.set_cookie(_attempt_cookie(here, attempt))
    return answer


@get(CALLBACK, opt=OPEN_TO_ALL)
async def from_provider(request: AnyRequest) -> Response[Any]:
    """Sign in the person who comes back from the provider."""
    here, query = services(request), request.query_params
    attempt = _attempt(request.cookies.get(ATTEMPT_COOKIE))
    if here.oidc is None or attempt is None:
        return Redirect("/signin", status_code=303)
    try:
        if "error" in query:
            raise OidcError(f"the provider says {query['error']}: {query.get('error_description', '')}"[:300])
        person = await here.oidc.finish(attempt, query.get("state", ""), query.get("code", ""))
    except OidcError as error:
        log.error("signing in by the provider: %s", error)
        here.audit.record("", "sign_in_refused", address_of(request), reason=str(error))
        answer: Response[Any] = form_page(request, safe_path(attempt.after), 401, "provider_failed")
    else:
        answer = await _open_session(request, here, person, safe_path(attempt.after), "oidc")
    answer.set_cookie(_attempt_cookie(here, None))
    return answer


def _attempt_cookie(here: Services, attempt: Attempt | None) -> Cookie:
    """The cookie with the attempt. Only the browser that began the attempt has it, so no other browser can finish it."""
    value = "" if attempt is None else base64.urlsafe_b64encode(msgspec.json.encode(attempt)).decode()
    return Cookie(
        ATTEMPT_COOKIE, value=value, max_age=0 if attempt is None else ATTEMPT_SECONDS, path=CALLBACK, httponly=True,
        secure=here.sessions.is_secure, samesite="lax",
    )  # fmt: skip


def _attempt(cookie: str | None) -> Attempt | None:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cookie or ""), type=Attempt)
    except ValueError:
        return None
