"""The web application: what it is made of, and what it needs."""

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
from streams.view.queue import AlertQueue
from streams.view.rulebook import Rulebook
from streams.web.api.lookups import lookups
from streams.web.pages.console_pages import answer_with_page, console_pages
from streams.web.services import audit
from streams.web.services.clock import Clock
from streams.web.services.directory import Directory
from streams.web.services.kept_customers import KeptCustomers
from streams.web.services.masking import Masks
from streams.web.services.outbox import Outbox
from streams.web.services.services import Services
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
    """The application on a Redis. Raises FileError where the keys or users can't be read, and PolicyError.

    `provider` is how to reach the OpenID provider, where not over the network; `spans` tells of what was sent to the broker.
    """
    assert settings.redis_url is not None
    view = RedisView(settings.redis_url, settings.redis_prefix)
    redis, prefix = view.redis, view.prefix
    trail, commands = Outbox(settings, audit.PATIENCE_MS), Outbox(settings, console.action_timeout, spans)
    users = Users(console.users_file)
    services = Services(
        keys=Keys(console.keys_file),
        directory=Directory(settings.redis_url, prefix, settings.app_version),
        view=view,
        queue=AlertQueue(view),
        clock=Clock(settings, view),
        rulebook=Rulebook(view, models.load(settings.policy)),
        users=users,
        sessions=Sessions(redis, prefix, users, console.session_idle, console.session_length, console.is_secure),
        throttle=Throttle(redis, prefix),
        masks=Masks(redis, prefix),
        table=KeptCustomers(settings),
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
            await services.directory.close()
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
    """How the look-ups are documented."""
    return OpenAPIConfig(
        title="Tierstream look-ups",
        version=API_VERSION,
        description=(
            "What a customer is now, who is in a tier, and which churn alerts there are, from the serving view. "
            "Every request carries an API key, whose scopes say what it opens. What goes wrong is told as problem "
            "details (RFC 9457): `type` is stable, `detail` is for people."
        ),
        path="/v1/openapi.json",  # not /v1: below its path Litestar answers with pages of its own
        use_handler_docstrings=True,
        render_plugins=[JsonRenderPlugin(path="/")],
        components=Components(
            security_schemes={
                "key": SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header"),
                "bearer": SecurityScheme(type="http", scheme="bearer"),
            }
        ),
    )
