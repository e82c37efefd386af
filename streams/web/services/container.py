"""The services that the handlers of requests use, in one container; it is made once, with the application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from litestar.connection import ASGIConnection

from streams.view.customers import RedisView
from streams.view.policies_in_force import PolicyReader
from streams.view.queue import AlertQueue
from streams.web.services.audit import Audit
from streams.web.services.clock import Clock
from streams.web.services.customer_reader import CustomerReader
from streams.web.services.masking import Masks
from streams.web.services.record_sender import RecordSender
from streams.web.services.table_reader import TableReader
from streams.web.signin.keys import Keys
from streams.web.signin.oidc import OpenIdConnect
from streams.web.signin.people import Users
from streams.web.signin.sessions import Sessions
from streams.web.signin.throttle import Throttle


@dataclass
class Services:
    """All services of one application."""

    keys: Keys
    customers: CustomerReader
    view: RedisView
    queue: AlertQueue
    clock: Clock
    policies: PolicyReader
    """The policies in force, by which the shown data was judged."""
    users: Users
    sessions: Sessions
    throttle: Throttle
    masks: Masks
    table: TableReader
    audit: Audit
    commands: RecordSender
    oidc: OpenIdConnect | None
    """None if people sign in with passwords."""
    hosts: frozenset[str]
    """The host names by which browsers reach the console."""


def services(connection: ASGIConnection[Any, Any, Any, Any]) -> Services:
    """The services of the application that handles a request."""
    found: Services = connection.app.state.services
    return found


def address_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """The client's address; behind a trusted proxy, the address that the proxy reports."""
    return "" if connection.client is None else connection.client.host
