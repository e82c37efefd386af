"""A customer's story without a log, by the serving view: the profile, and the announcements."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from redis.exceptions import RedisError

from streams.settings import Settings
from streams.view.customers import RedisView
from streams.view.queue import AlertQueue
from streams.workshop.explain.sentences import with_text
from streams.workshop.explain.story import ExplainError

MOST_ANNOUNCED: Final = 10_000


def story_from_view(settings: Settings, url: str, customer_id: str) -> dict[str, Any]:
    """A customer of the serving view in the form of a story, as of their last change. Raises ExplainError."""

    async def look_up() -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        view = RedisView(url, settings.redis_prefix)
        try:
            return await view.customer(customer_id), await AlertQueue(view).story(customer_id, count=MOST_ANNOUNCED)
        finally:
            await view.redis.aclose()

    try:
        found, announced = asyncio.run(look_up())
    except (RedisError, OSError, ValueError) as error:
        raise ExplainError(f"Redis does not answer: {error}; check TIERSTREAM_REDIS_URL") from None
    if found is None or found["profile"] is None:
        raise ExplainError(f"the view has no customer {customer_id!r}, or not their profile yet")
    profile = found["profile"]
    return {
        "customer_id": customer_id,
        "policy": profile["policy"],
        "currency": profile["currency"],
        "horizon": None,
        "at": profile["as_of"],
        "events": 0,
        "moments": [],
        "announced": [with_text(one["topic"], one) for one in reversed(announced)],
        "now": profile,
        "with_one_purchase": None,
        "without_a_purchase": None,
    }
