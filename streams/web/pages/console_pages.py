"""The routes of the console: its pages behind one guard, its static files, and the page or JSON for an error."""

from __future__ import annotations

import logging
from typing import Any, Final
from urllib.parse import quote

from litestar import MediaType, Request, Response, Router, get
from litestar.exceptions import HTTPException
from litestar.response import Redirect
from litestar.static_files import create_static_files_router

from streams.language.console_words import words
from streams.view.customers import is_redis_away
from streams.web.pages.alert_actions import act
from streams.web.pages.customer_page import customer_page, what_if_answer
from streams.web.pages.overview_page import overview_page
from streams.web.pages.queue_page import claim, queue_live, queue_page, queue_rows
from streams.web.pages.rendering import FOLDER, language, page, with_security_headers
from streams.web.pages.signin_pages import HOME, from_provider, sign_in, sign_out, signin_page, to_provider
from streams.web.services.container import services
from streams.web.services.guards import OPEN_TO_ALL, SignInNeeded, Stale, require_sign_in
from streams.web.services.problems import answer_with_problem

log = logging.getLogger(__name__)

API: Final = "/v1"


@get("/", opt=OPEN_TO_ALL)
async def home() -> Redirect:
    """The console begins with the queue."""
    return Redirect(HOME, status_code=303)


def answer_with_page(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """The exception handler of everything but look-ups. Requests under /v1 that no handler answers come here too."""
    if request.url.path.startswith(f"{API}/"):
        return answer_with_problem(request, error)
    answer: Response[Any] = with_security_headers(_answer(request, error), services(request).sessions.is_secure)
    return answer


def _answer(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """The answer to an error: a page, or JSON for a script."""
    wants_page = "text/html" in request.headers.get("accept", "") or request.method == "GET"
    if isinstance(error, SignInNeeded) and wants_page:
        after = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return Redirect(f"/signin?after={quote(after)}" if request.method == "GET" else "/signin", status_code=303)
    key, status = _key_and_status(error)
    if status >= 500:
        log.error(
            "%s %s: %s: %s",
            request.method,
            request.url.path,
            type(error).__name__,
            error,
            exc_info=not is_redis_away(error),
        )
    if not wants_page:
        body = {"status": status, "detail": words(language(request))(key)}
        return Response(body, status_code=status, media_type=MediaType.JSON)
    return page(request, "problem.html", status, problem=key)


def _key_and_status(error: Exception) -> tuple[str, int]:
    """The key of the message in console_words, and the HTTP status."""
    if isinstance(error, Stale):
        return "stale_page", 403
    if is_redis_away(error):
        return "store_away", 503
    if isinstance(error, HTTPException):
        keys = {401: "sign_in", 403: "not_allowed", 404: "not_found"}
        key = "customer_unknown" if error.detail == "customer_unknown" else keys.get(error.status_code, "went_wrong")
        return key, error.status_code
    return "went_wrong", 500


def console_pages(is_secure: bool) -> list[Router]:
    """The routers of all pages and static files. `is_secure`: whether browsers use https."""

    async def headers(answer: Response[Any]) -> Response[Any]:
        with_security_headers(answer, is_secure)
        return answer

    pages = Router(
        "/",
        route_handlers=[
            home, signin_page, sign_in, sign_out, to_provider, from_provider, queue_page, queue_rows, queue_live, claim,
            customer_page, what_if_answer, overview_page, act,
        ],
        guards=[require_sign_in],
        after_request=headers,
        exception_handlers={Exception: answer_with_page},
        include_in_schema=False,
    )  # fmt: skip
    files = create_static_files_router(
        "/static", directories=[FOLDER / "static"], after_request=headers, include_in_schema=False
    )
    return [pages, files]
