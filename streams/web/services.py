"""What the handlers of requests work with; made once, when the application is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from litestar.connection import ASGIConnection

from streams.web.alerts import AlertPages
from streams.web.directory import Directory
from streams.web.keys import Keys


@dataclass(frozen=True)
class Services:
    """All of them."""

    keys: Keys
    directory: Directory
    alerts: AlertPages


def services(connection: ASGIConnection[Any, Any, Any, Any]) -> Services:
    """Those of the application that a request came to."""
    found: Services = connection.app.state.services
    return found
