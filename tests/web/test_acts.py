"""What people do, as commands, and the trail of it; here without a broker, on one in tests/integration."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.bodies import Command
from streams.web.services.acts import Act, ActError, command_of
from streams.web.signin.people import Person
from tests.web.conftest import Store
from tests.web.people import cheap_hashes, hire, sign_in, token_of

NOW_MS = 1_772_000_000_000
VIC, LIN, KIM = Person("vic", "viewer"), Person("lin", "agent"), Person("kim", "manager")


def test_an_act_is_a_command_that_the_fold_can_read() -> None:
    body = command_of(Act("contacted"), "ada", LIN, NOW_MS)
    assert uuid.UUID(body["event_id"]).version == 4
    assert body | {"event_id": ""} == {
        "event_id": "", "customer_id": "ada", "command": "act_on_alert", "occurred_at": "2026-02-25T06:13:20Z", "action": "contacted",
        "actor": "lin",
    }  # fmt: skip
    assert msgspec.convert(body, Command).action == "contacted"


def test_an_act_carries_reason_end_owner_and_number() -> None:
    assert command_of(Act("dismissed", reason="a duplicate"), "ada", LIN, NOW_MS)["reason"] == "a duplicate"
    assert (
        command_of(Act("snoozed", until="2026-03-01T09:00:00+08:00"), "ada", LIN, NOW_MS)["until"]
        == "2026-03-01T01:00:00Z"
    )
    assert command_of(Act("acknowledged", owner="lin", number=3), "ada", KIM, NOW_MS)["owner"] == "lin"
    assert command_of(Act("acknowledged", owner="lin", number=3), "ada", KIM, NOW_MS)["number"] == 3


@pytest.mark.parametrize(
    ("act", "person", "says"),
    [
        (Act("contacted"), VIC, "Viewers look"),
        (Act("dismissed"), LIN, "Say why"),
        (Act("dismissed", reason="  "), LIN, "Say why"),
        (Act("lost", reason="x" * 1001), LIN, "1000 is the most"),
        (Act("snoozed"), LIN, "Say until when"),
        (Act("snoozed", until="tomorrow"), LIN, "Say until when"),
        (Act("snoozed", until="2020-01-01T00:00:00Z"), LIN, "in the future"),
        (Act("contacted", until="2027-01-01T00:00:00Z"), LIN, "Only a snooze"),
        (Act("acknowledged", owner="kim"), LIN, "Only a manager"),
        (Act("contacted", owner="lin"), KIM, "`acknowledged` only"),
    ],
)
def test_an_act_that_can_t_be_is_refused_with_a_sentence(act: Act, person: Person, says: str) -> None:
    with pytest.raises(ActError, match=says):
        command_of(act, "ada", person, NOW_MS)


@pytest.fixture
def staff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    cheap_hashes(monkeypatch)
    for name, role in (("vic", "viewer"), ("lin", "agent")):
        hire(tmp_path, name, role)  # type: ignore[arg-type]
    store.customer("ada")


@pytest.mark.usefixtures("staff")
def test_with_the_broker_away_pages_are_read_and_an_act_fails_with_a_sentence(talking: Any) -> None:
    async def look() -> None:
        async with talking(headers={"Accept": "text/html"}, action_timeout="1s") as client:
            await sign_in(client, "lin")
            for path in ("/queue", "/customers/ada", "/overview"):
                assert (await client.get(path)).status_code == 200
            headers = {"X-CSRF-Token": await token_of(client), "Accept": "application/json"}
            answer = await client.post("/customers/ada/act", json={"action": "contacted"}, headers=headers)
            assert answer.status_code == 503
            assert "the broker did not confirm it" in answer.json()["detail"]

    asyncio.run(look())


@pytest.mark.usefixtures("staff")
def test_what_can_t_be_told_to_the_broker_is_in_the_log(talking: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def look() -> None:
        async with talking(headers={"Accept": "text/html"}) as client:
            await sign_in(client, "lin")
            await client.get("/customers/ada")

    asyncio.run(look())
    assert '"what":"signed_in"' in caplog.text
    assert '"what":"customer_seen"' in caplog.text and '"customer_id":"ada"' in caplog.text


@pytest.mark.usefixtures("staff")
def test_a_trail_that_is_full_is_in_the_log_and_pages_go_on(
    talking: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streams.web.services import outbox

    monkeypatch.setattr(outbox, "MOST_WAITING", 2)

    async def look() -> None:
        async with talking(headers={"Accept": "text/html"}) as client:
            await sign_in(client, "lin")
            for _ in range(5):
                assert (await client.get("/customers/ada")).status_code == 200
            assert caplog.text.count('"what":"customer_seen"') >= 3

    asyncio.run(look())


@pytest.mark.usefixtures("staff")
def test_a_viewer_s_act_and_an_act_that_is_none_are_refused(talking: Any) -> None:
    async def look() -> None:
        async with talking(headers={"Accept": "application/json"}) as client:
            await sign_in(client, "lin")
            headers = {"X-CSRF-Token": await token_of(client)}
            assert (
                await client.post("/customers/ada/act", json={"action": "dismissed"}, headers=headers)
            ).status_code == 422
            assert (
                await client.post("/customers/ada/act", json={"action": "danced"}, headers=headers)
            ).status_code == 400
            await sign_in(client, "vic")
            headers = {"X-CSRF-Token": await token_of(client)}
            reference = client.app.state.services.masks.reference(VIC, "ada")
            answer = await client.post(f"/customers/{reference}/act", json={"action": "contacted"}, headers=headers)
            assert answer.status_code == 403
            assert "role" in answer.json()["detail"]

    asyncio.run(look())
