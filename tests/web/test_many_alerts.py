"""A queue of many thousands of alerts costs no more than one of a hundred: pages are read, not searched."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.web.conftest import ALERT, PREFIX, Store
from tests.web.people import hash_cheaply, hire, sign_in

FEW, MANY = 100, 30_000
TURN = 5_000
ROUNDS = 10
DEARER_AT_MOST = 4.0
"""A walk through all of them would take hundreds of times as long."""


def fill(store: Store, first: int, last: int) -> None:
    body = orjson.dumps({"after": ALERT})
    for start in range(first, last, TURN):
        pipe = store.redis.pipeline(transaction=False)
        for number in range(start, min(start + TURN, last)):
            id = f"c{number}"
            pipe.hset(f"{PREFIX}alert:{id}", mapping={"seq": 1, "state": "open", "body": body})
            for queue in ("queue", f"queue:tier:{ALERT['tier']}", "queue:cause:complaints"):
                pipe.zadd(PREFIX + queue, {id: number})
            pipe.zadd(f"{PREFIX}category:delivery", {id: number * 60_000})
        pipe.sadd(f"{PREFIX}categories", "delivery")
        pipe.execute()


def processor_seconds(store: Store) -> float:
    """What this process and Redis have computed so far: however busy the machine is, waiting is not part of it."""
    redis = store.redis.info("cpu")
    return time.process_time() + float(redis["used_cpu_user"]) + float(redis["used_cpu_sys"])


def test_pages_with_and_without_filters_cost_no_more_with_many_alerts(
    talking: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_cheaply(monkeypatch)
    hire(tmp_path, "lin", "agent")

    async def cost(client: Any, path: str) -> float:
        found = []
        for _ in range(ROUNDS):
            before = processor_seconds(store)
            answer = await client.get(path)
            found.append(processor_seconds(store) - before)
            assert answer.status_code == 200
            assert answer.text.count("<tr tabindex") == 50
        return min(found)

    async def work() -> list[tuple[float, float]]:
        async with talking(headers={"Accept": "text/html"}) as client:
            await sign_in(client, "lin")
            paths = (
                ("/queue", "/queue?first=29000"),
                (f"/queue?tier={ALERT['tier']}&first=50", f"/queue?tier={ALERT['tier']}&first=15000"),
                ("/queue?cause=complaints", "/queue?cause=complaints"),
            )
            fill(store, 0, FEW)
            few = [await cost(client, path) for path, _ in paths]
            fill(store, FEW, MANY)
            return list(zip(few, [await cost(client, path) for _, path in paths], strict=True))

    for few, many in asyncio.run(work()):
        assert many < DEARER_AT_MOST * few
