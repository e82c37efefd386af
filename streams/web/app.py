"""Composes the web application from its settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
from litestar import Litestar
from litestar.datastructures import State
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

import models
from streams.settings import Settings
from streams.view.customers import RedisView
from streams.view.policies_in_force import PolicyReader
from streams.view.queue import AlertQueue
from streams.web.api.lookups import lookups
from streams.web.pages.console_pages import answer_with_page, console_pages
from streams.web.services import audit
from streams.web.services.clock import Clock
from streams.web.services.container import Services
from streams.web.services.customer_reader import CustomerReader
from streams.web.services.masking import Masks
from streams.web.services.record_sender import RecordSender
from streams.web.services.table_reader import TableReader
from streams.web.settings import ConsoleSettings
from streams.web.signin.keys import Keys
from streams.web.signin.oidc import OpenIdConnect
from streams.web.signin.people import Users
from streams.web.signin.sessions import Sessions
from streams.web.signin.throttle import Throttle

if TYPE_CHECKING:
    from streams.telemetry.spans import Spans

API_VERSION = "1.0.0"


def create_app(
    settings: Settings,
    console: ConsoleSettings,
    provider: httpx.AsyncBaseTransport | None = None,
    spans: Spans | None = None,
) -> Litestar:
    """The application on a Redis. Raises FileError if the files of keys or users can't be read, and PolicyError.

    `provider` is the transport to the OpenID provider, if not the network; `spans` records what is sent to the broker.
    """
    assert settings.redis_url is not None
    view = RedisView(settings.redis_url, settings.redis_prefix)
    redis, prefix = view.redis, view.prefix
    trail, commands = RecordSender(settings, audit.PATIENCE_MS), RecordSender(settings, console.action_timeout, spans)
    users = Users(console.users_file)
    services = Services(
        keys=Keys(console.keys_file),
        customers=CustomerReader(settings.redis_url, prefix, settings.app_version),
        view=view,
        queue=AlertQueue(view),
        clock=Clock(settings, view),
        policies=PolicyReader(view, models.load(settings.policy)),
        users=users,
        sessions=Sessions(redis, prefix, users, console.session_idle, console.session_length, console.is_secure),
        throttle=Throttle(redis, prefix),
        masks=Masks(redis, prefix),
        table=TableReader(settings),
        audit=audit.Audit(trail),
        commands=commands,
        oidc=None if console.oidc_issuer is None else OpenIdConnect(console, provider),
        hosts=frozenset({urlsplit(console.base_url).netloc}),
    )

    @asynccontextmanager
    async def connected(_: Litestar) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await services.customers.close()
            await redis.aclose()
            await asyncio.gather(*(asyncio.to_thread(one.close) for one in (commands, trail)))

    return Litestar(
        [lookups, *console_pages(console.is_secure)],
        state=State({"services": services}),
        lifespan=[connected],
        exception_handlers={Exception: answer_with_page},
        openapi_config=openapi(),
        logging_config=None,
    )


def openapi() -> OpenAPIConfig:
    """The OpenAPI document of the look-ups."""
    return OpenAPIConfig(
        title="Tierstream look-ups",
        version=API_VERSION,
        description=(
            "A customer's present tier, risk and profile, the customers of a tier, and churn alerts, from the serving view. "
            "Every request carries an API key, whose scopes say what it opens. Errors are problem details "
            "(RFC 9457): `type` is stable, `detail` is for people."
        ),
        path="/v1/openapi.json",  # not /v1: below this path Litestar serves pages of its own
        use_handler_docstrings=True,
        render_plugins=[JsonRenderPlugin(path="/")],
        components=Components(
            security_schemes={
                "key": SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header"),
                "bearer": SecurityScheme(type="http", scheme="bearer"),
            }
        ),
    )
