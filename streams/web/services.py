"""What the handlers of requests work with; made once, when the application is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from litestar.connection import ASGIConnection

from streams.queue import AlertQueue
from streams.rulebook import Rulebook
from streams.view import RedisView
from streams.web.audit import Audit
from streams.web.clock import Clock
from streams.web.directory import Directory
from streams.web.kept_customers import KeptCustomers
from streams.web.keys import Keys
from streams.web.masking import Masks
from streams.web.oidc import OpenIdConnect
from streams.web.outbox import Outbox
from streams.web.people import Users
from streams.web.sessions import Sessions
from streams.web.throttle import Throttle


@dataclass
class Services:
    """All of them."""

    keys: Keys
    directory: Directory
    view: RedisView
    queue: AlertQueue
    clock: Clock
    rulebook: Rulebook
    """The policies that what is shown was judged under."""
    users: Users
    sessions: Sessions
    throttle: Throttle
    masks: Masks
    table: KeptCustomers
    audit: Audit
    commands: Outbox
    oidc: OpenIdConnect | None
    """None: people sign in with passwords."""
    hosts: frozenset[str]
    """What browsers call this host."""


def services(connection: ASGIConnection[Any, Any, Any, Any]) -> Services:
    """Those of the application that a request came to."""
    found: Services = connection.app.state.services
    return found


def address_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Where a request comes from; behind a proxy, what the proxy says, if its word is taken."""
    return "" if connection.client is None else connection.client.host
