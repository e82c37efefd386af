"""Look-ups for programs: their answers, the keys that they need, and how they refuse."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest
from litestar.testing import AsyncTestClient
from typer.testing import CliRunner

from streams.cli import app as command_line
from streams.web.api.fast_lookup import FastLookup
from streams.web.signin import keys as keys_module
from streams.web.signin.keys import add_key, remove_key
from tests.web.conftest import PREFIX, Store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ask(talking: Any, key: str) -> Callable[..., Any]:
    """Sends one request and returns the answer."""

    def one(
        path: str, method: str = "GET", headers: dict[str, str] | None = None, redis_url: str | None = None, **more: Any
    ) -> Any:
        async def send() -> Any:
            async with talking(
                headers={"X-API-Key": key} if headers is None else headers, redis_url=redis_url
            ) as client:
                return await client.request(method, path, **more)

        return asyncio.run(send())

    return one


def run(talking: Any, key: str, work: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    async def connected() -> Any:
        async with talking(headers={"X-API-Key": key}) as client:
            return await work(client)

    return asyncio.run(connected())


# ------------------------------------------------------------ customers
def test_a_customer_has_the_profile_as_it_is_stored(ask: Any, store: Store) -> None:
    odd = b'{ "as":  "written",\n"amount":1.10 }'
    store.customer("1516", profile=odd)
    answer = ask("/v1/customers/1516")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert odd in answer.content
    body = answer.json()
    del body["profile"]
    assert body == {
        "customer_id": "1516", "tier": "gold", "tier_since": "1970-01-02T00:00:00Z", "risk_level": "high",
        "probability": 0.81, "value_at_stake": "182.40", "seq": 4, "revision": 9,
    }  # fmt: skip


def test_a_customer_without_risk_or_profile_has_nulls(ask: Any, store: Store) -> None:
    store.redis.hset(f"{PREFIX}customer:new", mapping={"tier": "base", "tier_since": 0, "tier_seq": 1, "seq": 1})
    body = ask("/v1/customers/new").json()
    assert (body["risk_level"], body["probability"], body["profile"], body["revision"]) == ("none", None, None, None)


def test_an_erased_and_an_unknown_customer_are_not_found(ask: Any, store: Store) -> None:
    store.redis.hset(f"{PREFIX}customer:erased", mapping={"erased_seq": 7, "seq": 7})
    for id in ("erased", "unheard-of"):
        answer = ask(f"/v1/customers/{id}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:tierstream:problem:customer-unknown"
        assert id in answer.json()["detail"]


def test_an_id_may_have_any_characters(ask: Any, store: Store) -> None:
    for id in ("a b", "客户", "50%", "x?y", "plus+"):
        store.customer(id)
        assert ask("/v1/customers/" + "".join(f"%{byte:02X}" for byte in id.encode())).json()["customer_id"] == id
    store.customer("with/slash")
    assert ask("/v1/customers:batch", params={"id": "with/slash"}).json()["unknown"] == []


@pytest.mark.parametrize("changed", ["tier_seq", "risk_seq", "revision"])
def test_the_tag_changes_with_everything_that_changes_the_answer(
    talking: Any, key: str, store: Store, changed: str
) -> None:
    store.customer("ada")

    async def look(client: Any) -> None:
        first = await client.get("/v1/customers/ada")
        tag = first.headers["etag"]
        same = await client.get("/v1/customers/ada", headers={"If-None-Match": f'"other", W/{tag}'})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
        store.redis.hset(f"{PREFIX}customer:ada", changed, 10)  # `seq` stays, as when one topic is behind the other
        after = await client.get("/v1/customers/ada", headers={"If-None-Match": tag})
        assert after.status_code == 200
        assert after.headers["etag"] != tag

    run(talking, key, look)


def test_several_customers_are_in_one_answer_and_unknown_ones_are_named(ask: Any, store: Store) -> None:
    for id in ("a", "b"):
        store.customer(id)
    for answer in (
        ask("/v1/customers:batch?id=b&id=nobody&id=a"),
        ask("/v1/customers:batch", "POST", json=["b", "nobody", "a"]),
    ):
        assert answer.status_code == 200
        assert [one["customer_id"] for one in answer.json()["customers"]] == ["b", "a"]
        assert answer.json()["unknown"] == ["nobody"]


def test_a_batch_has_a_limit_and_it_is_named(ask: Any) -> None:
    assert ask("/v1/customers:batch", "POST", json=[str(n) for n in range(500)]).status_code == 200
    for answer in (
        ask("/v1/customers:batch", "POST", json=[str(n) for n in range(501)]),
        ask("/v1/customers:batch?" + "&".join(f"id={n}" for n in range(501))),
        ask("/v1/customers:batch"),
        ask("/v1/customers:batch", "POST", json=[]),
        ask("/v1/customers:batch", "POST", json=["x" * 129]),
        ask("/v1/customers:batch", "POST", content=b"{"),
    ):
        assert answer.status_code == 400
        assert answer.json()["type"] == "urn:tierstream:problem:request-invalid"
    assert "500" in ask("/v1/customers:batch", "POST", json=[str(n) for n in range(501)]).text


def test_simultaneous_look_ups_each_get_their_own_answer(talking: Any, key: str, store: Store) -> None:
    ids = [f"c{number}" for number in range(300)]
    for number, id in enumerate(ids):
        store.customer(id, tier=f"tier-{number}")

    async def look(client: Any) -> None:
        answers = await asyncio.gather(*(client.get(f"/v1/customers/{id}") for id in ids))
        assert [one.json()["customer_id"] for one in answers] == ids
        assert [one.json()["tier"] for one in answers] == [f"tier-{number}" for number in range(300)]

    run(talking, key, look)


def test_a_look_up_survives_a_connection_that_redis_closed(talking: Any, key: str, store: Store) -> None:
    store.customer("ada")

    async def look(client: Any) -> None:
        for _ in range(3):
            assert (await client.get("/v1/customers/ada")).status_code == 200
            for one in store.redis.client_list():
                if one["cmd"] != "client|list" and one["cmd"] != "client":
                    store.redis.client_kill_filter(_id=one["id"])

    run(talking, key, look)


def test_a_key_of_another_kind_fails_alone(talking: Any, key: str, store: Store) -> None:
    store.customer("ada")
    store.redis.set(f"{PREFIX}customer:odd", "not a hash")

    async def look(client: Any) -> None:
        ada, odd = await asyncio.gather(client.get("/v1/customers/ada"), client.get("/v1/customers/odd"))
        assert (ada.status_code, odd.status_code) == (200, 503)

    run(talking, key, look)


# ------------------------------------------------------------ tiers and alerts
def test_a_tier_has_pages_with_the_longest_in_the_tier_first(ask: Any, store: Store) -> None:
    for number in range(5):
        store.customer(f"c{number}", since_ms=(9 - number) * 86_400_000)
    body = ask("/v1/tiers/gold/customers?first=1&count=2").json()
    assert body == {
        "tier": "gold", "total": 5, "first": 1,
        "customers": [{"customer_id": "c3", "since": "1970-01-07T00:00:00Z"}, {"customer_id": "c2", "since": "1970-01-08T00:00:00Z"}],
    }  # fmt: skip
    assert ask("/v1/tiers/none-such/customers").json()["total"] == 0


@pytest.mark.parametrize("query", ["first=-1", "count=0", "count=501", "count=many"])
def test_wrong_parameters_of_a_page_are_refused_by_name(ask: Any, query: str) -> None:
    for path in ("/v1/tiers/gold/customers", "/v1/alerts"):
        answer = ask(f"{path}?{query}")
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["key"] == query.partition("=")[0]


def test_alerts_are_filtered_by_state_tier_cause_and_owner_and_sorted_by_urgency(ask: Any, store: Store) -> None:
    store.alert("late", urgency=5)
    store.alert("soon", urgency=1, main_cause="complaint")
    store.alert("base", urgency=3, tier="base")
    store.alert("lins", "acknowledged", owner="lin", urgency=2)
    store.alert("kims", "contacted", owner="kim")
    store.alert("done", "saved", owner="kim")

    def ids(query: str) -> list[str]:
        body = ask(f"/v1/alerts?{query}").json()
        assert body["total"] >= len(body["alerts"])
        return [one["customer_id"] for one in body["alerts"]]

    assert ids("") == ["soon", "base", "late"]
    assert ids("first=1&count=1") == ["base"]
    assert ids("tier=gold") == ["soon", "late"]
    assert ids("tier=gold&cause=complaint") == ["soon"]
    assert ids("owner=lin") == ["lins"]
    assert ids("owner=kim") == ["kims"]
    assert ids("state=closed") == ["done"]
    assert ids("state=closed&tier=gold") == ["done"]
    assert ids("state=closed&tier=base") == ids("owner=kim&cause=complaint") == []
    assert ask("/v1/alerts?state=lost-in-space").status_code == 400


# ------------------------------------------------------------ keys
def test_without_a_key_nothing_opens(ask: Any) -> None:
    for headers in ({}, {"Authorization": "Basic abc"}, {"X-API-Key": "guessed"}, {"Authorization": "Bearer guessed"}):
        for path in ("/v1/customers/a", "/v1/customers:batch?id=a", "/v1/tiers/t/customers", "/v1/alerts"):
            answer = ask(path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_bearer_token_is_as_good_as_the_header(ask: Any, store: Store, key: str) -> None:
    store.customer("ada")
    assert ask("/v1/customers/ada", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_a_key_opens_its_scopes_and_no_others(ask: Any, tmp_path: Path, store: Store) -> None:
    store.customer("ada")
    narrow = {"X-API-Key": add_key(tmp_path / "keys.toml", "narrow", ["customers:read"])}
    assert ask("/v1/customers/ada", headers=narrow).status_code == 200
    refused = ask("/v1/alerts", headers=narrow)
    assert refused.status_code == 403
    assert "alerts:read" in refused.json()["detail"]


def test_a_key_that_was_removed_opens_nothing_any_more(
    talking: Any, key: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "SECONDS_BETWEEN_LOOKS", -1.0)
    store.customer("ada")

    async def look(client: Any) -> None:
        assert (await client.get("/v1/customers/ada")).status_code == 200
        remove_key(tmp_path / "keys.toml", "tests")
        assert (await client.get("/v1/customers/ada")).status_code == 401

    run(talking, key, look)


def test_an_unreachable_redis_is_reported_with_when_to_try_again(ask: Any) -> None:
    for path in ("/v1/customers/a", "/v1/customers:batch?id=a", "/v1/tiers/t/customers", "/v1/alerts"):
        answer = ask(path, redis_url="redis://127.0.0.1:1/0")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        assert "Redis does not answer" in answer.json()["detail"]


def test_an_unknown_address_is_answered_with_a_problem(ask: Any) -> None:
    answer = ask("/v1/nothing")
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:tierstream:problem:not-found"
    assert ask("/v1/customers/a", "DELETE").status_code == 405


def test_the_openapi_document_needs_no_key_and_describes_every_answer(ask: Any) -> None:
    document = ask("/v1/openapi.json", headers={}).json()
    assert set(document["paths"]) == {
        "/v1/customers/{customer_id}", "/v1/customers:batch", "/v1/tiers/{tier}/customers", "/v1/alerts",
    }  # fmt: skip
    for path in document["paths"].values():
        for operation in path.values():
            assert {"200", "400", "401", "403", "503"} <= set(operation["responses"])
            assert operation["description"] and operation["summary"]
            assert operation["security"] == [{"key": []}, {"bearer": []}]


def test_the_fast_look_up_answers_as_the_routed_one_does(make_app: Any, store: Store, key: str, tmp_path: Path) -> None:
    for id in ("ada", "a b", "客户"):
        store.customer(id)
    narrow = add_key(tmp_path / "keys.toml", "narrow", ["tiers:read"])
    paths = ["ada", "a%20b", "%E5%AE%A2%E6%88%B7", "nobody", "x" * 129, "", "ada/", "ada/more", "%2e%2e", "ada?query=1"]
    holders: list[dict[str, str]] = [
        {"X-API-Key": key}, {"Authorization": f"Bearer {key}"}, {"Authorization": f"bearer  {key} "}, {"Authorization": f"Basic {key}"},
        {"X-API-Key": narrow}, {"X-API-Key": "guessed"}, {"X-API-Key": ""}, {}, {"X-API-Key": key, "If-None-Match": "*"},
        {"X-API-Key": key, "If-None-Match": '"1.3.4.9"'}, {"X-API-Key": key, "If-None-Match": '"1.3.4.8"'},
    ]  # fmt: skip

    async def look(fast: bool) -> list[Any]:
        app = make_app()
        async with AsyncTestClient(FastLookup(app) if fast else app) as client:
            answers = [await client.get(f"/v1/customers/{path}", headers=one) for path in paths for one in holders]
            found: list[Any] = [(one.status_code, sorted(one.headers.items()), one.content) for one in answers]
            for method in ("HEAD", "POST", "DELETE"):
                found.append((await client.request(method, "/v1/customers/ada", headers=holders[0])).status_code)
            return found

    fast, routed = asyncio.run(look(True)), asyncio.run(look(False))
    assert fast == routed
    assert routed[-3:] == [405, 405, 405]
    assert {one[0] for one in routed[:-3]} >= {200, 304, 401, 403, 404}


def test_only_a_known_customer_is_answered_by_the_fast_look_up(
    make_app: Any, store: Store, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.customer("ada")
    app = make_app()
    passed_on: list[str] = []

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            passed_on.append(scope["path"])
        await app(scope, receive, send)

    fast = FastLookup(app)
    monkeypatch.setattr(fast, "_app", watched)

    async def look() -> None:
        async with AsyncTestClient(fast) as client:
            for path in ("ada", "nobody"):
                await client.get(f"/v1/customers/{path}", headers={"X-API-Key": key})

    asyncio.run(look())
    assert passed_on == ["/v1/customers/nobody"]


# ------------------------------------------------------------ the command line
def test_a_key_is_printed_once_and_kept_as_a_hash_that_only_the_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "k.toml"
    made = CliRunner().invoke(
        command_line,
        [
            "console",
            "keys",
            "add",
            "crm",
            "--scope",
            "customers:read",
            "--scope",
            "tiers:read",
            "--file",
            str(file),
            "--json",
        ],
    )
    assert made.exit_code == 0, made.output
    key = orjson.loads(made.stdout)["key"]
    assert key not in file.read_text()
    assert hashlib.sha256(key.encode()).hexdigest() in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    listed = CliRunner().invoke(command_line, ["console", "keys", "list", "--file", str(file)])
    assert "crm" in listed.output and "customers:read, tiers:read" in listed.output and key not in listed.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", "crm", "--scope", "everything"], "'everything' is no scope; choose of customers:read"),
        (["add", 'a"b', "--scope", "tiers:read"], "can't name a key"),
        (["add", "there", "--scope", "tiers:read"], "has a key 'there' already"),
        (["remove", "nobody"], "has no key 'nobody'"),
    ],
)
def test_a_key_that_can_t_be_made_or_removed_is_refused_with_a_sentence(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    file = tmp_path / "k.toml"
    add_key(file, "there", ["tiers:read"])
    result = CliRunner().invoke(command_line, ["console", "keys", *arguments, "--file", str(file)])
    assert result.exit_code in (1, 2)
    assert says in result.output


def test_a_file_of_keys_that_can_t_be_read_is_refused_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "k.toml"
    file.write_text("[[keys]]\nname = 3\n")
    environment = {"TIERSTREAM_CONSOLE_KEYS_FILE": str(file), "TIERSTREAM_REDIS_URL": "redis://127.0.0.1:1/0"}
    result = CliRunner().invoke(command_line, ["console"], env=environment)
    assert result.exit_code == 2
    assert f"{file}: " in result.output and "keys[0].name" in result.output


def test_a_console_without_redis_says_how_to_name_it() -> None:
    result = CliRunner().invoke(command_line, ["console"])
    assert result.exit_code == 2
    assert "TIERSTREAM_REDIS_URL" in result.output


@pytest.mark.parametrize(
    "command",
    [["console"], *(["console", kind, what] for kind in ("keys", "users") for what in ("add", "list", "remove"))],
)
def test_every_command_of_the_console_has_help_with_an_example(command: list[str]) -> None:
    result = CliRunner().invoke(command_line, [*command, "--help"])
    assert result.exit_code == 0
    assert "Example: " in result.output


def test_a_wrong_setting_of_the_console_is_named(tmp_path: Path) -> None:
    environment = {"TIERSTREAM_CONSOLE_SESSION_IDLE": "soon", "TIERSTREAM_REDIS_URL": "redis://127.0.0.1:1/0"}
    result = CliRunner().invoke(command_line, ["console"], env=environment)
    assert result.exit_code == 2
    assert "TIERSTREAM_CONSOLE_SESSION_IDLE" in result.output


def test_a_port_that_is_taken_is_a_failure_and_not_a_stack_trace(server: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "streams.cli", "console", "--port", port, "--redis-url", server.url]
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    assert done.returncode == 1
    assert "address already in use" in done.stderr and "Traceback" not in done.stderr
