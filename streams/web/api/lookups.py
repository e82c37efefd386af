"""Look-ups for programs: customers, tiers and alerts over HTTP, under /v1.

A look-up does little work: it searches the raw headers, sends one command to Redis and builds the bytes of the answer
once.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import orjson
from litestar import Request, Router, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import BodyKwarg, PathParameter, QueryParameter
from litestar.response.base import ASGIResponse
from litestar.types import HTTPScope, Receive, Send
from litestar.types import Scope as Scope_

from models import units
from models.bodies import MAX_ID_CHARACTERS
from streams.view.queue import State
from streams.web.api.response_bodies import MOST_IN_A_BATCH, MOST_ON_A_PAGE, Alerts, Customer, Customers, Members
from streams.web.services.container import Services, services
from streams.web.services.customer_reader import CustomerReader, Found
from streams.web.services.problems import MEDIA_TYPE, Problem, answer_with_problem, problem
from streams.web.signin.keys import Scope

LAST_PLACE: Final = 100_000_000
SECURITY: Final[list[dict[str, list[str]]]] = [{"key": []}, {"bearer": []}]
NOT_STORED: Final = (b"cache-control", b"private, no-cache")
"""Shared caches must not store it; the client's own cache asks each time with If-None-Match."""
IS_JSON: Final = (b"content-type", b"application/json")


# ------------------------------------------------------------ API keys
def header(scope: HTTPScope, name: bytes) -> str | None:
    """The value of a request's header, by its lower-case name; None if the request does not have it."""
    for one, value in scope["headers"]:
        if one == name:
            return value.decode("latin-1")
    return None


def key_in(scope: HTTPScope) -> str | None:
    """The API key in a request's headers, if any."""
    given = header(scope, b"x-api-key")
    if given is None:
        kind, _, given = (header(scope, b"authorization") or "").partition(" ")
        if kind.lower() != "bearer":
            return None
    return given.strip() or None


def open_to(request: Request[Any, Any, Any], scope: Scope) -> Services:
    """The services, for a request whose API key has the scope. Raises ProblemDetailsException.

    This is no guard of Litestar's, since Litestar would copy the handler for each request.
    """
    given = key_in(request.scope)
    if given is None:
        detail = "Send it as X-API-Key, or as Authorization: Bearer; `tierstream console keys add` makes one."
        raise problem("key-missing", 401, detail, {"WWW-Authenticate": "Bearer"})
    found = services(request)
    key = found.keys.find(given)
    if key is None:
        detail = "It was mistyped or removed; `tierstream console keys list` names the existing keys."
        raise problem("key-unknown", 401, detail, {"WWW-Authenticate": 'Bearer error="invalid_token"'})
    if scope not in key.scopes:
        raise problem("scope-missing", 403, f"The key {key.name!r} lacks the scope {scope}.")
    return found


class Answer(ASGIResponse):
    """JSON in bytes, with its headers; sent unchanged."""

    __slots__ = ("_headers",)

    def __init__(self, body: bytes, status_code: int = 200, etag: str | None = None) -> None:
        self.body, self.status_code = body, status_code
        self._headers = [NOT_STORED]
        if status_code == 200:
            self._headers += [IS_JSON, (b"content-length", b"%d" % len(body))]
        if etag is not None:
            self._headers.append((b"etag", etag.encode()))

    async def __call__(self, scope: Scope_, receive: Receive, send: Send) -> None:
        """As an ASGI application."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self._headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


# ------------------------------------------------------------ the answers in the OpenAPI document
def _answers(kind: Any, description: str, *others: int) -> dict[int, ResponseSpec]:
    problems: dict[int, tuple[str, str]] = {
        400: ("The request can't be used; `errors` says what is wrong.", "request-invalid"),
        401: ("No API key, or an unknown one.", "key-missing"),
        403: ("The API key lacks the scope.", "scope-missing"),
        404: ("This customer is not known, or their data was erased.", "customer-unknown"),
        503: ("Redis does not answer.", "store-away"),
    }
    found = {200: ResponseSpec(kind, description=description, generate_examples=False)}
    for status in sorted({400, 401, 403, 503, *others} & problems.keys()):
        text, code = problems[status]
        example = Example(
            value={"type": f"urn:tierstream:problem:{code}", "title": text, "status": status, "detail": text}
        )
        found[status] = ResponseSpec(
            Problem, description=text, media_type=MEDIA_TYPE, generate_examples=False, examples=[example]
        )
    if 304 in others:
        found[304] = ResponseSpec(None, description="Unchanged since the ETag in If-None-Match.")
    return found


CustomerIdInPath = Annotated[
    str,
    PathParameter(
        description="The customer's id. Use customers:batch for an id with a slash.",
        min_length=1, max_length=MAX_ID_CHARACTERS, examples=[Example(value="1516")],
    ),
]  # fmt: skip
First = Annotated[int, QueryParameter(description="The place of the first one wanted, from 0.", ge=0, le=LAST_PLACE)]
Count = Annotated[int, QueryParameter(description="How many, at the most.", ge=1, le=MOST_ON_A_PAGE)]


# ------------------------------------------------------------ customers
@get(
    "/customers/{customer_id:str}",
    responses=_answers(Customer, "The customer, with an ETag that changes when they do.", 404, 304),
    summary="One customer",
    tags=["customers"],
    security=SECURITY,
)
async def one_customer(customer_id: CustomerIdInPath, request: Request[Any, Any, Any]) -> Answer:
    """Tier, churn risk and profile of a customer now. Send the ETag back as `If-None-Match` to get `304` while nothing
    has changed.
    """
    found = await open_to(request, "customers:read").customers.customer(customer_id)
    if found is None:
        raise problem("customer-unknown", 404, f"The customer {customer_id!r} is not known.")
    return answer_with(found, header(request.scope, b"if-none-match"))


def answer_with(found: Found, held: str | None) -> Answer:
    """The customer; 304 if the client has this state of the customer already, by the If-None-Match `held`."""
    if held is not None and fits(held, found.etag):
        return Answer(b"", 304, found.etag)
    return Answer(found.body, etag=found.etag)


def fits(held: str, etag: str) -> bool:
    """Whether an If-None-Match names this tag.

    >>> fits('"1.2", W/"1.3"', '"1.3"'), fits("*", '"1.3"'), fits('"1.2"', '"1.3"')
    (True, True, False)
    """
    return held.strip() == "*" or any(one.strip().removeprefix("W/") == etag for one in held.split(","))


Ids = Annotated[
    list[str],
    QueryParameter(
        name="id", description=f"A customer's id; repeat it, up to {MOST_IN_A_BATCH} times.",
        min_items=1, max_items=MOST_IN_A_BATCH,
    ),
]  # fmt: skip


async def _customers(reader: CustomerReader, ids: list[str]) -> Answer:
    if long := next((one for one in ids if not 0 < len(one) <= MAX_ID_CHARACTERS), None):
        detail = f"An id has 1 to {MAX_ID_CHARACTERS} characters; {long[:20]!r}... has {len(long)}."
        raise problem("request-invalid", 400, detail)
    found = await reader.customers(ids)
    known = [orjson.Fragment(one.body) for one in found if one is not None]
    unknown = [id for id, one in zip(ids, found, strict=True) if one is None]
    return Answer(orjson.dumps({"customers": known, "unknown": unknown}))


@get(
    "/customers:batch",
    responses=_answers(Customers, "The known customers, and the ids of the unknown ones."),
    summary="Several customers",
    tags=["customers"],
    security=SECURITY,
)
async def some_customers(ids: Ids, request: Request[Any, Any, Any]) -> Answer:
    """Up to 500 customers in one round trip: `?id=1516&id=1517`."""
    return await _customers(open_to(request, "customers:read").customers, ids)


@post(
    "/customers:batch",
    status_code=200,
    responses=_answers(Customers, "The known customers, and the ids of the unknown ones."),
    summary="Several customers, by a list",
    tags=["customers"],
    security=SECURITY,
)
async def listed_customers(
    data: Annotated[
        list[str],
        BodyKwarg(
            description="Ids of customers.", min_items=1, max_items=MOST_IN_A_BATCH, examples=[Example(value=["1516"])]
        ),
    ],
    request: Request[Any, Any, Any],
) -> Answer:
    """Several customers, with their ids as a JSON list in the body, for more ids than fit into an address."""
    return await _customers(open_to(request, "customers:read").customers, data)


# ------------------------------------------------------------ tiers and alerts
@get(
    "/tiers/{tier:str}/customers",
    responses=_answers(Members, "A page of the tier's customers; empty for a tier that has none."),
    summary="A tier's customers",
    tags=["tiers"],
    security=SECURITY,
)
async def members(
    tier: Annotated[
        str,
        PathParameter(
            description="A tier, by the policy's name.", max_length=MAX_ID_CHARACTERS, examples=[Example(value="gold")]
        ),
    ],
    request: Request[Any, Any, Any],
    first: First = 0,
    count: Count = 100,
) -> Answer:
    """Ids of a tier's customers, the longest in the tier first, with their total number."""
    page = await open_to(request, "tiers:read").customers.tier(tier, first, count)
    customers = [{"customer_id": id, "since": units.format_time(since)} for id, since in page.members]
    body = {"tier": tier, "total": page.total, "first": first, "customers": customers}
    return Answer(orjson.dumps(body))


def _filter(description: str) -> QueryParameter:
    return QueryParameter(description=description, min_length=1, max_length=MAX_ID_CHARACTERS)


@get(
    "/alerts",
    responses=_answers(Alerts, "A page of alerts."),
    summary="Churn alerts",
    tags=["alerts"],
    security=SECURITY,
)
async def alerts(
    request: Request[Any, Any, Any],
    alert_state: Annotated[
        State, QueryParameter(name="state", description="Open ones without an owner, held, snoozed, or closed ones.")
    ] = "open",
    tier: Annotated[str | None, _filter("Only of customers in this tier.")] = None,
    cause: Annotated[str | None, _filter("Only with this main cause.")] = None,
    region: Annotated[str | None, _filter("Only of customers in this region.")] = None,
    owner: Annotated[str | None, _filter("Alerts of this owner that are not closed; `state` is then ignored.")] = None,
    first: First = 0,
    count: Count = 50,
) -> Answer:
    """Alerts: open ones by urgency, held and snoozed ones by their end, the last closed first; with `owner`, that
    owner's alerts.
    """
    queue = open_to(request, "alerts:read").queue
    page = await queue.page(alert_state, tier=tier, cause=cause, region=region, owner=owner, first=first, count=count)
    body = {"total": page.total, "first": first, "alerts": page.alerts}
    return Answer(orjson.dumps(body))


lookups = Router(
    "/v1",
    route_handlers=[one_customer, some_customers, listed_customers, members, alerts],
    exception_handlers={Exception: answer_with_problem},
)
