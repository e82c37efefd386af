"""Records requests as spans, if the console is traced. A span is named by method and route, never by the requested
address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from streams.web.api.fast_lookup import ROUTE
from streams.web.api.lookups import header

if TYPE_CHECKING:
    from streams.telemetry.spans import Spans


class RequestTracing:
    """An ASGI application that wraps another one, with or without `FastLookup`."""

    def __init__(self, app: ASGIApp, spans: Spans) -> None:
        self._app, self._spans = app, spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and record it."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        with self._spans.request(scope["method"], header(scope, b"traceparent")) as span:

            async def send_and_record(message: Message) -> None:
                if message["type"] == "http.response.start":
                    # By now the route is known. A request that was not routed was answered by FastLookup.
                    is_routed = "litestar_app" in scope
                    span.set_answer(scope.get("path_template") if is_routed else ROUTE, message["status"])
                await send(message)

            await self._app(scope, receive, send_and_record)
