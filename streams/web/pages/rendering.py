"""What every page has in common: how it is written, in which language, and the headers that it goes out with."""

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
from streams.web.services.guards import session_of
from streams.web.services.services import services

FOLDER: Final = Path(__file__).parent
LANGUAGE_COOKIE: Final = "tierstream-language"
YEAR_SECONDS: Final = 365 * 24 * 3600

HEADERS: Final = {
    # Nothing from elsewhere, nothing written into the page itself, and nobody's frame around it.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with less, browsers leave out the origin of a form as well
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
HTTPS_HEADERS: Final = {"Strict-Transport-Security": f"max-age={YEAR_SECONDS}"}
NOT_STORED: Final = {"Cache-Control": "no-store"}
"""Of pages: what is on them is nobody's after signing out."""

templates: Final = Environment(
    loader=FileSystemLoader(FOLDER / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)  # fmt: skip


def language(request: Request[Any, Any, Any]) -> Language:
    """The language of a page: by the switch (`?lang=`), by what it was switched to before, by what the browser asks for."""
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
    """A page of a template. Beside `values` it has `t` (words), `say` (what bodies say, where a `policy` is given), `language`,
    `session` (None if nobody is signed in), `path`, `shown(id)` and `reference(id)` of customers for who looks.
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
        switched=_switched(request, "zh" if chosen == "en" else "en"),
        shown=lambda id: "" if person is None else masks.shown(person, id),
        reference=lambda id: "" if person is None else masks.reference(person, id),
        **({} if policy is None else {"say": sentences(chosen, policy)}),
        **values,
    )
    answer = Response(text, status_code=status_code, media_type=MediaType.HTML, headers=NOT_STORED)
    if request.query_params.get("lang") in LANGUAGES:
        answer.set_cookie(Cookie(LANGUAGE_COOKIE, value=chosen, max_age=YEAR_SECONDS, path="/", samesite="lax"))
    return answer


def _switched(request: Request[Any, Any, Any], other: Language) -> str:
    """The same address in the other language."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "lang"]
    return "?" + urlencode([*kept, ("lang", other)])


def guarded(answer: Any, is_secure: bool) -> Any:
    """An answer with the headers that guard a page."""
    for name, value in (HEADERS | HTTPS_HEADERS if is_secure else HEADERS).items():
        answer.headers.setdefault(name, value)
    return answer
