"""The serving view on a real Redis: idempotent by seq and revision, whatever record comes twice or late."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest

import models
from models import units
from models.outputs import PROFILES
from streams.broker.embedded import EmbeddedRedis
from streams.engine.merge import Record
from streams.view.customers import RedisView
from streams.view.updates import Update, update_of
from streams.workshop.replay.fold import Replay

T = TypeVar("T")
POLICY = models.load("annual-spend")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
def redis(server: EmbeddedRedis) -> Callable[[Callable[[RedisView], Awaitable[Any]]], Any]:
    """Runs something on an empty view."""

    def run(work: Callable[[RedisView], Awaitable[T]]) -> T:
        async def with_view() -> T:
            view = RedisView(server.url)
            try:
                await view.redis.flushall()
                return await work(view)
            finally:
                await view.redis.aclose()

        return asyncio.run(with_view())

    return run


def history() -> list[tuple[str, bytes]]:
    """All outputs for two customers, one of whom is erased: topic and body, in order, with profiles in between."""
    decoder, replay = POLICY.decoder(), Replay(POLICY)
    outputs: list[tuple[str, bytes]] = []
    for number in range(24):
        customer_id = "ada" if number % 2 else "bob"
        body: dict[str, Any] = {
            "event_id": f"e{number}", "customer_id": customer_id, "occurred_at": units.format_time(number * 20 * units.DAY_MS),
        }  # fmt: skip
        topic = "purchases"
        if customer_id == "bob" and number == 20:
            topic, body = "commands", body | {"command": "erase"}
        else:
            body |= {"kind": "purchase", "order_id": "o", "amount": "60.00", "currency": "USD"}
        value = orjson.dumps(body)
        record = Record(topic, 0, number, customer_id.encode(), value, None, decoder.decode(topic, value))
        (batch,) = replay.fold([record])
        outputs += [(output.topic, output.body) for output in batch.outputs]
        profile = models.profile(models.decode(replay.partition.customers[customer_id.encode()]), customer_id, POLICY)
        if profile is not None:
            outputs.append((PROFILES, profile))
    return outputs


async def everything(view: RedisView) -> dict[str, Any]:
    tiers = [tier.name for tier in POLICY.ladder.tiers]
    return {
        "ada": await view.customer("ada"),
        "bob": await view.customer("bob"),
        "tiers": {tier: await view.members(tier) for tier in tiers},
        "at_risk": await view.at_risk(),
    }


async def fill(view: RedisView, outputs: list[tuple[str, bytes]]) -> dict[str, Any]:
    updates = [update for topic, body in outputs if (update := update_of(topic, body)) is not None]
    for number, update in enumerate(updates):
        assert await view.apply("a topic/0", number, number + 1, [update]) is None
    return await everything(view)


def test_one_read_has_a_customers_tier_risk_and_profile(redis: Any) -> None:
    outputs = [(topic, body) for topic, body in history() if orjson.loads(body)["customer_id"] == "ada"]
    found = redis(lambda view: fill(view, outputs))
    profile = orjson.loads(outputs[-1][1])
    assert found["ada"]["profile"] == profile
    assert found["ada"]["tier"] == profile["tier"]
    assert found["ada"]["risk_level"] == profile["risk"]["level"]
    assert "ada" in found["tiers"][profile["tier"]]


def test_a_repeat_or_an_older_record_changes_nothing(redis: Any) -> None:
    outputs = history()
    expected = redis(lambda view: fill(view, outputs))
    chance = random.Random(1)
    for _ in range(10):
        disturbed: list[tuple[str, bytes]] = []
        for number, one in enumerate(outputs):
            disturbed.append(one)
            disturbed += chance.sample(outputs[: number + 1], min(3, number + 1))
        assert redis(lambda view, log=disturbed: fill(view, log)) == expected


def test_topics_that_run_ahead_of_each_other_end_in_the_same_view(redis: Any) -> None:
    outputs = [(topic, body) for topic, body in history() if orjson.loads(body)["customer_id"] == "ada"]
    expected = redis(lambda view: fill(view, outputs))
    for first in ("tier-changes", "churn-risk", "profiles"):
        reordered = sorted(outputs, key=lambda one, first=first: one[0] != first)
        assert redis(lambda view, log=reordered: fill(view, log)) == expected


def test_an_erased_customer_is_gone_and_no_older_output_restores_them(redis: Any) -> None:
    outputs = history()
    bobs = [(topic, body) for topic, body in outputs if orjson.loads(body)["customer_id"] == "bob"]
    erased_at = next(n for n, (_, body) in enumerate(bobs) if orjson.loads(body).get("change") == "erase")
    found = redis(lambda view: fill(view, bobs[: erased_at + 1] + bobs[:erased_at]))
    assert found["bob"] is None
    assert all("bob" not in members for members in found["tiers"].values())
    assert "bob" not in dict(found["at_risk"])


def test_a_customer_who_buys_again_after_erasure_is_there_again(redis: Any) -> None:
    bobs = [(topic, body) for topic, body in history() if orjson.loads(body)["customer_id"] == "bob"]
    found = redis(lambda view: fill(view, bobs))
    assert found["bob"]["profile"]["lifetime"]["orders"] == 1


def test_records_that_redis_lost_are_asked_for_again(redis: Any) -> None:
    update: Update = ("tier", "ada", 1, "gold", 0, "none", "2024-01-01", "{}")

    async def lose_data(view: RedisView) -> list[int | None]:
        first = await view.apply("t/0", 0, 5, [update])
        await view.redis.flushall()
        return [first, await view.apply("t/0", 5, 6, [update]), await view.position("t/0")]

    assert redis(lose_data) == [None, 0, 0]


def test_views_with_different_prefixes_are_separate(redis: Any, server: EmbeddedRedis) -> None:
    update: Update = ("tier", "ada", 1, "gold", 0, "none", "2024-01-01", "{}")

    async def two_views(view: RedisView) -> tuple[Any, Any]:
        await view.apply("t/0", 0, 1, [update])
        other = RedisView(server.url, "tierstream-v2:")
        try:
            return await other.customer("ada"), await other.position("t/0")
        finally:
            await other.redis.aclose()

    assert redis(two_views) == (None, 0)


def test_a_tombstone_needs_no_update() -> None:
    assert update_of(PROFILES, None) is None


def test_the_socket_of_an_embedded_redis_is_its_own(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as one:
        assert one.url.startswith("unix://")
