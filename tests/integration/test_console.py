"""The console on a real broker: it answers an action only after the broker has the command; the audit log says who
acted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from litestar.testing import AsyncTestClient
from redis import Redis

from streams.broker.embedded import EmbeddedRedis
from streams.topics import AUDIT
from streams.web.app import create_app
from streams.web.settings import load_console_settings
from streams.web.signin.people import set_user
from tests.integration.conftest import Broker
from tests.integration.harness import Site, site
from tests.web.conftest import Store
from tests.web.people import PASSWORD, sign_in, token_of


@asynccontextmanager
async def console(here: Site, folder: Path) -> AsyncIterator[Any]:
    settings = load_console_settings(users_file=folder / "users.toml", keys_file=folder / "keys.toml")
    async with AsyncTestClient(create_app(here.settings, settings)) as client:
        client.headers["Accept"] = "text/html"
        yield client


def test_an_action_is_on_the_broker_when_it_is_answered_and_is_audited(
    real_broker: Broker, redis: EmbeddedRedis, tmp_path: Path
) -> None:
    set_user(tmp_path / "users.toml", "lin", "agent", PASSWORD)
    store = Redis.from_url(redis.url)
    Store(store).customer("ada")
    store.close()

    async def work(here: Site) -> str:
        async with console(here, tmp_path) as client:
            await sign_in(client, "lin", "wrong wrong wrong")
            await sign_in(client, "lin")
            await client.get("/customers/ada")
            headers = {"X-CSRF-Token": await token_of(client)}
            body = {"action": "dismissed", "reason": "moved away", "number": 2}
            answer = await client.post("/customers/ada/act", json=body, headers=headers)
            assert answer.status_code == 202, answer.text
            # The command is on the topic while the console still runs.
            [message] = await asyncio.to_thread(here.read, "commands")
            assert message.key() == b"ada"
            assert json.loads(message.value())["event_id"] == answer.json()["event_id"]
            await client.post("/signout", headers=headers, follow_redirects=False)
            return str(answer.json()["event_id"])

    with site(real_broker.address, tmp_path, redis_url=redis.url) as here:
        event_id = asyncio.run(work(here))
        trail = [(message.key(), json.loads(message.value())) for message in here.read(AUDIT)]

    assert {key for key, _ in trail} == {b"lin"}
    assert [body["what"] for _, body in trail] == [
        "sign_in_refused",
        "signed_in",
        "customer_seen",
        "acted",
        "signed_out",
    ]
    acted = trail[3][1]
    assert acted["command"]["event_id"] == event_id
    assert acted["command"]["reason"] == "moved away"
    assert (acted["user"], acted["role"], acted["customer_id"]) == ("lin", "agent", "ada")
    assert trail[2][1]["customer_id"] == "ada"
    assert PASSWORD not in str(trail) and "wrong wrong" not in str(trail)
