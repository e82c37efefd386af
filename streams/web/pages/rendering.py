"""What every page has in common: rendering a template, the language, and the headers of the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request, Response
from litestar.datastructures import Cookie
from litestar.enums import MediaType

from models.policy import Policy
from streams.language.console_words import LANGUAGES, Language, language_of, words
from streams.language.sentences import sentences
from streams.web.services.container import services
from streams.web.services.guards import session_of

FOLDER: Final = Path(__file__).parent
LANGUAGE_COOKIE: Final = "tierstream-language"
YEAR_SECONDS: Final = 365 * 24 * 3600

HEADERS: Final = {
    # Nothing from other hosts, no inline scripts or styles, and no frame around the page.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with a stricter value, browsers leave out the origin of a form as well
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
HTTPS_HEADERS: Final = {"Strict-Transport-Security": f"max-age={YEAR_SECONDS}"}
NOT_STORED: Final = {"Cache-Control": "no-store"}
"""Pages are not stored, so that nobody can read them after the person signed out."""

templates: Final = Environment(
    loader=FileSystemLoader(FOLDER / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)  # fmt: skip


def language(request: Request[Any, Any, Any]) -> Language:
    """The language of a page: `?lang=`, else the cookie of an earlier `?lang=`, else what the browser accepts."""
    chosen = request.query_params.get("lang")
    return language_of(
        chosen if chosen in LANGUAGES else request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language")
    )


def page(
    request: Request[Any, Any, Any],
    template: str,
    status_code: int = 200,
    policy: Policy | None = None,
    **values: Any,
) -> Response[str]:
    """Render a template. Beside `values` it has `t` (words), `say` (sentences about a body, if a `policy` is given),
    `language`, `session` (None if nobody is signed in), `path`, and for the signed-in person `shown(id)` and
    `reference(id)` of customers.
    """
    session = session_of(request)
    chosen = language(request)
    masks = services(request).masks
    person = None if session is None else session.person
    text = templates.get_template(template).render(
        t=words(chosen),
        language=chosen,
        session=session,
        path=request.url.path,
        switched=_address_in(request, "zh" if chosen == "en" else "en"),
        shown=lambda id: "" if person is None else masks.shown(person, id),
        reference=lambda id: "" if person is None else masks.reference(person, id),
        **({} if policy is None else {"say": sentences(chosen, policy)}),
        **values,
    )
    answer = Response(text, status_code=status_code, media_type=MediaType.HTML, headers=NOT_STORED)
    if request.query_params.get("lang") in LANGUAGES:
        answer.set_cookie(Cookie(LANGUAGE_COOKIE, value=chosen, max_age=YEAR_SECONDS, path="/", samesite="lax"))
    return answer


def _address_in(request: Request[Any, Any, Any], other: Language) -> str:
    """The same address in the other language."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "lang"]
    return "?" + urlencode([*kept, ("lang", other)])


def with_security_headers(answer: Any, is_secure: bool) -> Any:
    """The answer, with the security headers of a page."""
    for name, value in (HEADERS | HTTPS_HEADERS if is_secure else HEADERS).items():
        answer.headers.setdefault(name, value)
    return answer
