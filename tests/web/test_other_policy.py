"""Pages after another policy was put in force: each shows its data by the policy that judged it, without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.builders import shipped_text
from tests.web.conftest import PROFILE, Store
from tests.web.people import hash_cheaply, hire, sign_in, token_of

OWN = shipped_text("annual-spend")
DIAMOND = '[[tiers]]\nname = "diamond"\nmin_spend = "5000.00"\nmin_orders = 4\n\n[downgrade]'
ELEVATED = '[[risk.levels]]\nname = "elevated"\nraise_at = 0.85\nease_below = 0.82\n\n[[risk.levels]]\nname = "high"'
NEW = (
    OWN.replace("version = 1", "version = 2", 1)
    .replace("budget = 40", "budget = 7", 1)
    .replace("[downgrade]", DIAMOND, 1)
    .replace('[[risk.levels]]\nname = "high"', ELEVATED, 1)
)
NEW_NAME = "annual-spend@2/1"


@pytest.fixture
def browse(talking: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    hash_cheaply(monkeypatch)
    hire(tmp_path, "lin", "agent")

    def run(work: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        async def connected() -> Any:
            async with talking(headers={"Accept": "text/html"}) as client:
                await sign_in(client, "lin")
                return await work(client)

        return asyncio.run(connected())

    return run


def test_pages_use_the_policy_that_judged_their_data_without_a_restart(browse: Any, store: Store) -> None:
    store.policy(0, OWN)
    store.customer("old")
    store.customer("new", profile=orjson.dumps(PROFILE | {"customer_id": "new", "policy": NEW_NAME}))

    async def look(client: Any) -> None:
        async def page(path: str) -> str:
            answer = await client.get(path)
            assert answer.status_code == 200, answer.text
            return str(answer.text)

        assert "of 40 more today" in await page("/queue")
        assert "<option>diamond" not in await page("/queue")
        assert ">elevated<" not in await page("/overview")
        store.policy(1, NEW)
        queue, overview = await page("/queue"), await page("/overview")
        assert "of 7 more today" in queue
        assert "<option>diamond" in queue
        assert '<th scope="row">diamond</th>' in overview
        assert ">elevated<" in overview
        # Each customer with the levels of the policy that judged them.
        assert ">elevated<" in await page("/customers/new")
        assert ">elevated<" not in await page("/customers/old")
        # The earlier policy is put in force again, as a further edition.
        store.policy(2, OWN)
        assert "of 40 more today" in await page("/queue")
        assert ">elevated<" not in await page("/overview")
        assert ">elevated<" in await page("/customers/new")

    browse(look)


def test_an_agent_s_budget_is_that_of_the_policy_in_force(browse: Any, store: Store) -> None:
    store.policy(1, NEW.replace("budget = 7", "budget = 1"))
    store.alert("ada")

    async def take(client: Any) -> None:
        store.redis.set(f"tierstream:claims:{datetime.now(UTC).date()}:lin", 1)
        answer = await client.post("/queue/claim", json={}, headers={"X-CSRF-Token": await token_of(client)})
        assert answer.status_code == 409, answer.text

    browse(take)
