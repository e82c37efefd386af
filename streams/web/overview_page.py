"""The page `/overview`: what became of alerts, day by day. Its contents go here and into templates/overview.html."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get

from streams.web.pages import page


@get("/overview")
async def overview_page(request: Request[Any, Any, Any]) -> Response[str]:
    """The overview."""
    return page(request, "overview.html")
