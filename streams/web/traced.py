"""Requests as spans, where the console is traced: named by method and route, never by the address that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from streams.web.api.fast_lookup import ROUTE
from streams.web.api.lookups import header

if TYPE_CHECKING:
    from streams.telemetry.spans import Spans


class Traced:
    """An ASGI application around another, which may have the short way of the look-ups in it."""

    def __init__(self, app: ASGIApp, spans: Spans) -> None:
        self._app, self._spans = app, spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and tell."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        with self._spans.request(scope["method"], header(scope, b"traceparent")) as span:

            async def send_and_tell(message: Message) -> None:
                if message["type"] == "http.response.start":
                    # Who answered is known by now; where no handler was looked for, it was the short way.
                    is_routed = "litestar_app" in scope
                    span.answered(scope.get("path_template") if is_routed else ROUTE, message["status"])
                await send(message)

            await self._app(scope, receive, send_and_tell)
