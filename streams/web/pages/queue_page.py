"""The page `/queue`: open alerts, the most urgent first; taking the next one; and what changes, as it changes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from litestar import Request, Response, get, post
from litestar.params import JSONBody
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage
from msgspec import Struct

from models.policy.alert_sections import CAUSES
from streams.language.console_words import words
from streams.view.queue import OverBudget
from streams.web.pages.customer_page import customer_of
from streams.web.pages.rendering import language, page
from streams.web.services.acts import Act, act_on_alert
from streams.web.services.guards import AGENTS, person_of
from streams.web.services.outbox import NotTaken
from streams.web.services.services import address_of, services

A_PAGE: Final = 50
STATES: Final = ("open", "held", "snoozed", "closed")
CHANGE_ID: Final = re.compile(r"\d{1,19}-\d{1,19}")


class Claim(Struct, frozen=True, forbid_unknown_fields=True):
    """Which alert is wanted: this customer's, or the most urgent one of these."""

    customer: str | None = None
    tier: str | None = None
    cause: str | None = None
    category: str | None = None
    region: str | None = None


@get("/queue")
async def queue_page(request: Request[Any, Any, Any]) -> Response[str]:
    """The queue."""
    return page(request, "queue.html", **await _contents(request))


@get("/queue/rows")
async def queue_rows(request: Request[Any, Any, Any]) -> Response[str]:
    """The part of the page that changes while one looks at it."""
    return page(request, "queue_rows.html", **await _contents(request))


@post("/queue/claim", status_code=202, opt=AGENTS)
async def claim(data: JSONBody[Claim], request: Request[Any, Any, Any]) -> Response[Any]:
    """An alert for who asks: 202 with the customer; 404 if nobody waits, 409 if the day's budget is used up."""
    here, person, t = services(request), person_of(request), words(language(request))
    rules = (await here.rulebook.read()).current.alerts
    wanted = "" if data.customer is None else customer_of(request, data.customer)
    try:
        alert = await here.queue.claim(
            person.name,
            wanted,
            tier=data.tier or None,
            cause=data.cause or None,
            category=data.category or None,
            region=data.region or None,
            budget=0 if rules is None else rules.budget,
        )
    except OverBudget:
        return Response({"detail": t("over_budget")}, status_code=409)
    if alert is None:
        return Response({"detail": t("already_taken") if wanted else t("nobody_waits")}, status_code=404)
    customer_id = alert["customer_id"]
    try:
        await act_on_alert(
            here.commands, Act("acknowledged", number=alert["number"]), customer_id, person, await here.clock.now_ms()
        )
    except NotTaken:
        await here.queue.give_back(person.name, customer_id)
        return Response({"detail": t("broker_away")}, status_code=503)
    here.audit.tell(person.name, "claimed", address_of(request), person.role, customer_id=customer_id)
    return Response({"customer": here.masks.reference(person, customer_id)}, status_code=202)


@get("/queue/live")
async def queue_live(request: Request[Any, Any, Any]) -> ServerSentEvent:
    """Changes of alerts as server-sent events: which change, and of whom.

    They begin `?after=` the change that the page had seen when it was made, so that nothing falls between the page and its line;
    a browser that lost the line goes on where it was.
    """
    here, person = services(request), person_of(request)
    after = request.headers.get("last-event-id") or request.query_params.get("after") or ""
    if not CHANGE_ID.fullmatch(after):
        after = await here.queue.latest_change()

    async def told() -> AsyncIterator[ServerSentEventMessage]:
        yield ServerSentEventMessage(comment="open", retry=2000)
        async for entry_id, body in here.queue.changes(after):
            data = {"change": body["change"], "customer": here.masks.reference(person, body["customer_id"])}
            yield ServerSentEventMessage(event="change", id=entry_id, data=orjson.dumps(data).decode())

    return ServerSentEvent(told())


async def _contents(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """What the templates are filled with."""
    here, person, asked = services(request), person_of(request), request.query_params
    state = asked.get("state") if asked.get("state") in STATES else "open"
    chosen = {name: asked.get(name) or None for name in ("tier", "cause", "category", "region", "owner")}
    first = max(int(asked["first"]) if asked.get("first", "").isdigit() else 0, 0)
    seen = await here.queue.latest_change()
    found = await here.queue.page(state, **chosen, first=first, count=A_PAGE)  # type: ignore[arg-type]
    policy = (await here.rulebook.read()).current
    rules = policy.alerts
    budget = 0 if rules is None else rules.budget
    return {
        "seen": seen,
        "alerts": found.alerts,
        "total": found.total,
        "first": first,
        "following": first + A_PAGE if first + A_PAGE < found.total else None,
        "preceding": max(first - A_PAGE, 0) if first else None,
        "state": state,
        "chosen": chosen,
        "kept": {name: value for name, value in {"state": state, **chosen}.items() if value},
        "is_filtered": any(chosen.values()),
        "sizes": await here.queue.sizes(),
        "mine": (await here.queue.owners()).get(person.name, 0),
        "incidents": [] if rules is None else await here.queue.incidents(rules),
        "states": STATES,
        "policy": policy,
        "tiers": policy.ladder.tier_names,
        "causes": CAUSES,
        "budget": budget,
        "left": max(budget - await here.queue.taken_today(person.name), 0) if budget else None,
        "now_ms": await here.clock.now_ms(),
        "may_act": person.may("agent"),
    }
