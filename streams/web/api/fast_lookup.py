"""Answers the look-up of one customer without routing: it is by far the most frequent request.

Routing and Litestar's request and response objects add more than half of the time that the look-up itself takes. So a
look-up of a known customer with a sufficient key is answered here. Every other request, also every refusal, is passed
on to the handler in lookups.py, which would give the same answer.
"""

from __future__ import annotations

from typing import Final

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import HTTPScope, Receive, Scope, Send

from models.bodies import MAX_ID_CHARACTERS
from streams.view.customers import is_redis_away
from streams.web.api.lookups import Answer, answer_with, header, key_in
from streams.web.services.container import Services

PATH: Final = "/v1/customers/"
ROUTE: Final = "/v1/customers/{customer_id}"
"""The route of the handler in lookups.py, as Litestar names it."""


class FastLookup:
    """An ASGI application in front of the console's."""

    def __init__(self, app: Litestar) -> None:
        self._app = app
        self._services: Services = app.state.services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == ScopeType.HTTP and scope["path"].startswith(PATH):
            answer = await self._answer(scope)
            if answer is not None:
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _answer(self, scope: HTTPScope) -> Answer | None:
        customer_id = scope["path"][len(PATH) :]
        if scope["method"] != "GET" or not 0 < len(customer_id) <= MAX_ID_CHARACTERS or "/" in customer_id:
            return None
        given = key_in(scope)
        key = None if given is None else self._services.keys.find(given)
        if key is None or "customers:read" not in key.scopes:
            return None
        try:
            found = await self._services.customers.customer(customer_id)
        except Exception as error:
            if is_redis_away(error):
                return None
            raise
        return None if found is None else answer_with(found, header(scope, b"if-none-match"))
