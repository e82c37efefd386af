"""Reports errors to programs as problem details (RFC 9457)."""

from __future__ import annotations

import logging
from typing import Any, Final

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.plugins.problem_details import ProblemDetailsException
from msgspec import Struct, field

from streams.view.customers import is_redis_away

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
PREFIX: Final = "urn:tierstream:problem:"
RETRY_SECONDS: Final = "2"


class Wrong(Struct, omit_defaults=True):
    """One thing that is wrong in a request."""

    message: str
    key: str = ""
    """The parameter, or the place in the body."""
    source: str = ""


class Problem(Struct, omit_defaults=True):
    """A problem. `type` is stable, for programs; `detail` is a sentence, for people."""

    type: str
    title: str
    status: int
    detail: str = ""
    errors: list[Wrong] = field(default_factory=list)


TITLES: Final = {
    "key-missing": "An API key is needed",
    "key-unknown": "This API key is not known",
    "scope-missing": "This API key does not have the scope",
    "customer-unknown": "No such customer",
    "request-invalid": "The request can't be used",
    "not-found": "Nothing exists at this address",
    "store-away": "The serving view can't be reached",
    "refused": "Refused",
    "failed": "The server failed",
}


def problem(
    code: str, status: int, detail: str, headers: dict[str, str] | None = None, **more: Any
) -> ProblemDetailsException:
    """A problem to raise."""
    return ProblemDetailsException(
        detail=detail, status_code=status, headers=headers, type_=PREFIX + code, title=TITLES[code], extra=more
    )


def as_problem(error: Exception) -> ProblemDetailsException:
    """The problem details for any exception."""
    if isinstance(error, ProblemDetailsException):
        return error
    if is_redis_away(error):
        return problem(
            "store-away", 503, "Redis does not answer; try again in a moment.", {"Retry-After": RETRY_SECONDS}
        )
    if isinstance(error, ValidationException):
        return problem("request-invalid", 400, "See `errors`.", errors=_what_is_wrong(error))
    if isinstance(error, HTTPException):
        code = "not-found" if error.status_code == 404 else "request-invalid" if error.status_code == 400 else "refused"
        return problem(code, error.status_code, error.detail, error.headers)
    return problem("failed", 500, "The error has been logged.")


def _what_is_wrong(error: ValidationException) -> list[dict[str, str]]:
    found = []
    for one in error.extra if isinstance(error.extra, list) else []:
        source = one.get("source", "")
        fields = {
            "message": str(one.get("message", "")),
            "key": str(one.get("key", "")),
            "source": getattr(source, "value", source),
        }
        found.append({name: text for name, text in fields.items() if text})
    return found or [{"message": error.detail}]


def answer_with_problem(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """The exception handler of the look-ups."""
    details = as_problem(error)
    if details.status_code >= 500:
        log.error(
            "%s %s: %s: %s",
            request.method,
            request.url.path,
            type(error).__name__,
            error,
            exc_info=not is_redis_away(error),
        )
    return details.to_response(request)
