"""Actions on alerts as commands, and the audit trail, without a broker; tests/integration has them with one."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.bodies import Command
from streams.web.services.alert_commands import AlertAction, AlertActionError, command_of
from streams.web.signin.people import Person
from tests.web.conftest import Store
from tests.web.people import hash_cheaply, hire, sign_in, token_of

NOW_MS = 1_772_000_000_000
VIC, LIN, KIM = Person("vic", "viewer"), Person("lin", "agent"), Person("kim", "manager")


def test_an_action_is_a_command_that_the_fold_can_read() -> None:
    body = command_of(AlertAction("contacted"), "ada", LIN, NOW_MS)
    assert uuid.UUID(body["event_id"]).version == 4
    assert body | {"event_id": ""} == {
        "event_id": "", "customer_id": "ada", "command": "act_on_alert", "occurred_at": "2026-02-25T06:13:20Z", "action": "contacted",
        "actor": "lin",
    }  # fmt: skip
    assert msgspec.convert(body, Command).action == "contacted"


def test_an_action_carries_reason_end_owner_and_number() -> None:
    assert command_of(AlertAction("dismissed", reason="a duplicate"), "ada", LIN, NOW_MS)["reason"] == "a duplicate"
    assert (
        command_of(AlertAction("snoozed", until="2026-03-01T09:00:00+08:00"), "ada", LIN, NOW_MS)["until"]
        == "2026-03-01T01:00:00Z"
    )
    assert command_of(AlertAction("acknowledged", owner="lin", number=3), "ada", KIM, NOW_MS)["owner"] == "lin"
    assert command_of(AlertAction("acknowledged", owner="lin", number=3), "ada", KIM, NOW_MS)["number"] == 3


@pytest.mark.parametrize(
    ("action", "person", "says"),
    [
        (AlertAction("contacted"), VIC, "Viewers can only look"),
        (AlertAction("dismissed"), LIN, "Give a reason"),
        (AlertAction("dismissed", reason="  "), LIN, "Give a reason"),
        (AlertAction("lost", reason="x" * 1001), LIN, "at most 1000"),
        (AlertAction("snoozed"), LIN, "Give the end of the snooze"),
        (AlertAction("snoozed", until="tomorrow"), LIN, "Give the end of the snooze"),
        (AlertAction("snoozed", until="2020-01-01T00:00:00Z"), LIN, "has to be in the future"),
        (AlertAction("contacted", until="2027-01-01T00:00:00Z"), LIN, "Only a snooze"),
        (AlertAction("acknowledged", owner="kim"), LIN, "Only a manager"),
        (AlertAction("contacted", owner="lin"), KIM, "only with `acknowledged`"),
    ],
)
def test_an_action_that_is_not_allowed_is_refused_with_a_sentence(
    action: AlertAction, person: Person, says: str
) -> None:
    with pytest.raises(AlertActionError, match=says):
        command_of(action, "ada", person, NOW_MS)


@pytest.fixture
def staff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    hash_cheaply(monkeypatch)
    hire(tmp_path, "vic", "viewer")
    hire(tmp_path, "lin", "agent")
    store.customer("ada")


@pytest.mark.usefixtures("staff")
def test_without_a_broker_pages_are_served_and_an_action_fails_with_a_sentence(talking: Any) -> None:
    async def look() -> None:
        async with talking(headers={"Accept": "text/html"}, action_timeout="1s") as client:
            await sign_in(client, "lin")
            for path in ("/queue", "/customers/ada", "/overview"):
                assert (await client.get(path)).status_code == 200
            headers = {"X-CSRF-Token": await token_of(client), "Accept": "application/json"}
            answer = await client.post("/customers/ada/act", json={"action": "contacted"}, headers=headers)
            assert answer.status_code == 503
            assert "the broker did not confirm the action" in answer.json()["detail"]

    asyncio.run(look())


@pytest.mark.usefixtures("staff")
def test_audit_entries_that_the_broker_does_not_take_are_logged(talking: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def look() -> None:
        async with talking(headers={"Accept": "text/html"}) as client:
            await sign_in(client, "lin")
            await client.get("/customers/ada")

    asyncio.run(look())
    assert '"what":"signed_in"' in caplog.text
    assert '"what":"customer_seen"' in caplog.text and '"customer_id":"ada"' in caplog.text


@pytest.mark.usefixtures("staff")
def test_entries_beyond_a_full_audit_queue_are_logged_and_pages_go_on(
    talking: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streams.web.services import record_sender

    monkeypatch.setattr(record_sender, "MOST_WAITING", 2)

    async def look() -> None:
        async with talking(headers={"Accept": "text/html"}) as client:
            await sign_in(client, "lin")
            for _ in range(5):
                assert (await client.get("/customers/ada")).status_code == 200
            assert caplog.text.count('"what":"customer_seen"') >= 3

    asyncio.run(look())


@pytest.mark.usefixtures("staff")
def test_a_viewer_s_action_and_an_unknown_action_are_refused(talking: Any) -> None:
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
