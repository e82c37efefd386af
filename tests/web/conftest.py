"""A console over a real Redis with a few customers, talked to in-process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient
from redis import Redis

import models
from models.policy import parse
from streams.broker.embedded import EmbeddedRedis
from streams.engine.policy_on_wire import Rules
from streams.settings import load_settings
from streams.view.rulebook import KEY
from streams.web.app import create_app
from streams.web.services import outbox
from streams.web.settings import load_console_settings
from streams.web.signin.keys import SCOPES, add_key
from tests.builders import complaint, purchase
from tests.running import Fold

Client = AsyncTestClient[Litestar]


def told() -> tuple[dict[str, Any], dict[str, Any]]:
    """A profile, and what an alert says, as the fold tells them of somebody who bought and complained."""
    fold = Fold(models.load("annual-spend"))
    for number in range(3):
        fold.apply(purchase("somebody", "120.50", on=86_400_000 * (number + 1), id=f"p{number}"))
    fold.apply(complaint("somebody", on=86_400_000 * 40, severity="critical", category="delivery"))
    body = models.profile(fold.customers["somebody"], "somebody", fold.policy)
    assert body is not None
    opened = next(one for one in fold.outputs if one.topic == "alerts")
    return orjson.loads(body), orjson.loads(opened.body)["after"]


PROFILE, ALERT = told()
PREFIX = "tierstream:"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


class Store:
    """What a worker would have put into Redis."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis

    def customer(
        self, id: str, tier: str = "gold", since_ms: int = 86_400_000, revision: int = 9, **fields: Any
    ) -> None:
        profile = orjson.dumps(PROFILE | {"customer_id": id, "revision": revision, "tier": tier})
        fields = {
            "tier": tier, "tier_since": since_ms, "tier_seq": 3, "risk_level": "high", "probability": "0.81",
            "value_at_stake": "182.40", "risk_seq": 4, "seq": 4, "revision": revision, "profile": profile,
        } | fields  # fmt: skip
        self.redis.hset(f"{PREFIX}customer:{id}", mapping=fields)
        self.redis.zadd(f"{PREFIX}tier:{tier}", {id: since_ms})

    def rules(self, edition: int, text: str) -> None:
        """A policy that is in force from an edition on, as a worker tells of it."""
        policy = parse(text)
        self.redis.hset(f"{PREFIX}{KEY}", edition, msgspec.json.encode(Rules.of(policy)))

    def alert(self, id: str, state: str = "open", urgency: float = 1.0, **more: Any) -> None:
        after = ALERT | {"state": state, "tier": "gold", "main_cause": "silence", "category": None} | more
        row = {
            "seq": 4, "state": state, "owner": after["owner"] or "", "tier": after["tier"], "cause": after["main_cause"],
            "category": after["category"] or "", "urgency": urgency, "body": orjson.dumps({"after": after}),
        }  # fmt: skip
        self.redis.hset(f"{PREFIX}alert:{id}", mapping=row)
        closed = state in ("saved", "lost", "dismissed", "recovered")
        bases = [{"open": "queue", "held": "held", "snoozed": "snoozed"}.get(state, "closed" if closed else "")]
        bases += [f"owner:{after['owner']}"] if after["owner"] and not closed else []
        for base in filter(None, bases):
            parts = [f"{base}:{name}:{row[name]}" for name in ("tier", "cause", "category") if row[name]]
            for name in (base, *parts):
                self.redis.zadd(PREFIX + name, {id: urgency})
        if after["owner"]:
            self.redis.sadd(f"{PREFIX}owners", after["owner"])


@pytest.fixture
def store(server: EmbeddedRedis) -> Iterator[Store]:
    redis = Redis.from_url(server.url.replace("unix://", "unix://"))
    redis.flushall()
    yield Store(redis)
    redis.close()


@pytest.fixture(autouse=True)
def _no_waiting_for_a_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none in these tests; at the end nobody waits for it to come back."""
    monkeypatch.setattr(outbox, "FLUSH_SECONDS", 0.0)


@pytest.fixture
def key(tmp_path: Path) -> str:
    return add_key(tmp_path / "keys.toml", "tests", SCOPES)


@pytest.fixture
def make_app(server: EmbeddedRedis, tmp_path: Path) -> Callable[..., Litestar]:
    """An application; further arguments are settings of the console, or of the worker where they are named so."""

    def make(redis_url: str | None = None, broker: str = "127.0.0.1:1", spans: Any = None, **console: Any) -> Litestar:
        files = {"keys_file": tmp_path / "keys.toml", "users_file": tmp_path / "users.toml"}
        settings = load_settings(redis_url=redis_url or server.url, broker=broker)
        return create_app(settings, load_console_settings(**files | console), spans=spans)

    return make


@pytest.fixture
def talking(make_app: Callable[..., Litestar]) -> Callable[..., AbstractAsyncContextManager[Client]]:
    """A client of an application made of these settings."""

    @asynccontextmanager
    async def talk(headers: dict[str, str] | None = None, **settings: Any) -> AsyncIterator[Client]:
        async with AsyncTestClient(make_app(**settings)) as client:
            client.headers.update(headers or {})
            yield client

    return talk
