"""`tierstream customer show`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import orjson
import typer
from redis.exceptions import RedisError

from streams.settings import SettingsError, load_settings
from streams.terminal import RedisOption, example, fail, refuse, say_json
from streams.view.customers import RedisView


@example("tierstream customer show 1516 --redis-url redis://127.0.0.1:6379/0")
def show(
    customer_id: Annotated[str, typer.Argument(help="The customer's id.")],
    redis_url: RedisOption = None,
) -> None:
    """Show one customer's profile from the serving view, as JSON.

    It has the tier, the risk, the value at stake and all else that workers know of the customer.
    """
    try:
        settings = load_settings(redis_url=redis_url)
    except SettingsError as error:
        raise refuse(str(error)) from None
    if settings.redis_url is None:
        raise refuse("no Redis is named; give --redis-url or set TIERSTREAM_REDIS_URL")

    async def look_up(url: str) -> dict[str, Any] | None:
        view = RedisView(url, settings.redis_prefix)
        try:
            return await view.customer(customer_id)
        finally:
            await view.redis.aclose()

    try:
        found = asyncio.run(look_up(settings.redis_url))
    except (RedisError, OSError, ValueError) as error:
        raise fail(f"Redis does not answer: {error}; check TIERSTREAM_REDIS_URL") from None
    if found is None:
        raise fail(f"no customer {customer_id!r} is known")
    say_json(found, orjson.OPT_INDENT_2)
