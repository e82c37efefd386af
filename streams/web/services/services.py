"""What the handlers of requests work with; made once, when the application is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from litestar.connection import ASGIConnection

from streams.view.customers import RedisView
from streams.view.queue import AlertQueue
from streams.view.rulebook import Rulebook
from streams.web.services.audit import Audit
from streams.web.services.clock import Clock
from streams.web.services.directory import Directory
from streams.web.services.kept_customers import KeptCustomers
from streams.web.services.masking import Masks
from streams.web.services.outbox import Outbox
from streams.web.signin.keys import Keys
from streams.web.signin.oidc import OpenIdConnect
from streams.web.signin.people import Users
from streams.web.signin.sessions import Sessions
from streams.web.signin.throttle import Throttle


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
