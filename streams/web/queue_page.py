"""The page `/queue`: open alerts, the most urgent first. Its contents go here and into templates/queue.html."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get

from streams.web.pages import page


@get("/queue")
async def queue_page(request: Request[Any, Any, Any]) -> Response[str]:
    """The queue."""
    return page(request, "queue.html")
