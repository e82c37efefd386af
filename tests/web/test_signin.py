"""Signing in with a password, sessions, and what a page asks of a request that changes something."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli import app as command_line
from streams.web.settings import Role
from streams.web.signin import throttle
from streams.web.signin.people import read_users, remove_user, set_user
from tests.web.conftest import PREFIX, Store
from tests.web.people import PASSWORD, hash_cheaply, hire_staff, sign_in, token_of

PAGES = ("/queue", "/overview", "/customers/ada")


@pytest.fixture(autouse=True)
def _staff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    hash_cheaply(monkeypatch)
    hire_staff(tmp_path)
    store.customer("ada")


@pytest.fixture
def browse(talking: Any) -> Callable[..., Any]:
    """Runs something with a client of the console; further arguments are settings."""

    def run(work: Callable[[Any], Coroutine[Any, Any, Any]], **settings: Any) -> Any:
        async def connected() -> Any:
            async with talking(headers={"Accept": "text/html"}, **settings) as client:
                return await work(client)

        return asyncio.run(connected())

    return run


def test_every_page_needs_signing_in_and_is_returned_to_afterwards(browse: Any) -> None:
    async def look(client: Any) -> None:
        for path in (*PAGES, "/customers/no-such"):
            answer = await client.get(f"{path}?a=b&c=d", follow_redirects=False)
            assert answer.status_code == 303
            assert answer.headers["location"] == f"/signin?after={path}%3Fa%3Db%26c%3Dd"
        assert (await client.post("/signout", follow_redirects=False)).headers["location"] == "/signin"
        refused = await client.post(
            "/customers/ada/act", json={"action": "contacted"}, headers={"Accept": "application/json"}
        )
        assert refused.status_code == 401

    browse(look)


def test_every_handler_of_the_console_is_guarded_and_the_open_ones_are_named(make_app: Any) -> None:
    guarded, open_to_all = set(), set()
    for route in make_app().routes:
        for handler in getattr(route, "route_handlers", ()):
            if route.path.startswith(("/v1", "/static")) or handler.fn.__name__ == "options_handler":
                continue
            assert any(guard.__name__ == "require_sign_in" for guard in handler.resolve_guards()), route.path
            (open_to_all if handler.opt.get("open_to_all") else guarded).add(route.path)
    assert open_to_all == {"/", "/signin", "/signin/provider", "/signin/callback"}
    assert guarded >= {
        "/queue",
        "/overview",
        "/signout",
        "/customers/{reference:str}",
        "/customers/{reference:str}/act",
    }


def test_signing_in_sets_a_cookie_that_scripts_and_other_sites_do_not_get(browse: Any) -> None:
    async def look(client: Any) -> None:
        answer = await sign_in(client, "lin", after="/customers/ada")
        assert (answer.status_code, answer.headers["location"]) == (303, "/customers/ada")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=lax" in cookie and "secure" not in cookie
        for path in PAGES:
            assert (await client.get(path)).status_code == 200
        assert "lin" in (await client.get("/queue")).text

    browse(look)


def test_behind_https_the_cookie_is_for_https_and_this_host_alone(browse: Any) -> None:
    async def look(client: Any) -> None:
        answer = await sign_in(client, "lin")
        name, _, rest = answer.headers["set-cookie"].partition("=")
        assert name == "__Host-tierstream"
        assert "Secure" in rest and "Path=/" in rest and "Domain" not in rest
        assert "strict-transport-security" in (await client.get("/signin")).headers

    browse(look, url="https://console.example.org")


@pytest.mark.parametrize(
    "after", ["https://elsewhere.example", "//elsewhere.example", "/\\elsewhere.example", "javascript:alert(1)"]
)
def test_nobody_is_sent_elsewhere_after_signing_in(browse: Any, after: str) -> None:
    assert browse(lambda client: sign_in(client, "lin", after=after)).headers["location"] == "/queue"


def test_a_wrong_name_and_a_wrong_password_are_refused_with_the_same_words(browse: Any) -> None:
    async def look(client: Any) -> None:
        answers = [await sign_in(client, "lin", "wrong wrong wrong"), await sign_in(client, "nobody")]
        assert [one.status_code for one in answers] == [401, 401]
        assert answers[0].text == answers[1].text
        assert "Name or password is wrong." in answers[0].text
        assert "set-cookie" not in answers[0].headers

    browse(look)


def test_after_many_guesses_even_the_right_password_has_to_wait(browse: Any, store: Store) -> None:
    async def look(client: Any) -> None:
        for _ in range(throttle.FAILURES_OF_A_NAME):
            assert (await sign_in(client, "lin", "a guess of many")).status_code == 401
        refused = await sign_in(client, "lin")
        assert refused.status_code == 429
        assert 0 < int(refused.headers["retry-after"]) <= throttle.WINDOW_SECONDS
        assert (await sign_in(client, "kim")).status_code == 303  # others sign in as before
        store.redis.delete(*store.redis.keys(f"{PREFIX}console:failed:*"))  # as the window's end does
        assert (await sign_in(client, "lin")).status_code == 303

    browse(look)


def test_an_address_that_guesses_many_names_has_to_wait(browse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "FAILURES_FROM_AN_ADDRESS", 5)

    async def look(client: Any) -> None:
        for number in range(5):
            assert (await sign_in(client, f"nobody-{number}")).status_code == 401
        assert (await sign_in(client, "lin")).status_code == 429

    browse(look)


def test_failures_of_a_name_are_forgotten_after_signing_in(browse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "FAILURES_OF_A_NAME", 2)

    async def look(client: Any) -> None:
        for _ in range(3):
            assert (await sign_in(client, "lin", "wrong wrong wrong")).status_code == 401
            assert (await sign_in(client, "lin")).status_code == 303

    browse(look)


# ------------------------------------------------------------ sessions
def test_an_earlier_session_is_not_taken_over(browse: Any, store: Store) -> None:
    async def look(client: Any) -> None:
        client.cookies.set("tierstream", "planted-by-somebody-else", domain="testserver.local")
        answer = await sign_in(client, "lin")
        assert "planted" not in answer.headers["set-cookie"]
        again = await sign_in(client, "lin")
        ids = [one.headers["set-cookie"].split("=")[1].split(";")[0] for one in (answer, again)]
        assert ids[0] != ids[1]
        assert len(store.redis.keys(f"{PREFIX}console:session:*")) == 1  # the earlier one has ended

    browse(look)


def test_redis_holds_no_id_that_opens_a_session(browse: Any, store: Store) -> None:
    async def look(client: Any) -> None:
        id = (await sign_in(client, "lin")).headers["set-cookie"].split("=")[1].split(";")[0]
        keys = store.redis.keys(f"{PREFIX}console:session:*")
        assert len(keys) == 1
        assert id not in keys[0].decode() and id.encode() not in store.redis.get(keys[0])

    browse(look)


def test_signing_out_ends_the_session_on_the_server(browse: Any, store: Store) -> None:
    async def look(client: Any) -> None:
        id = (await sign_in(client, "lin")).headers["set-cookie"].split(";")[0]
        answer = await client.post("/signout", data={"csrf": await token_of(client)}, follow_redirects=False)
        assert answer.status_code == 303
        client.cookies.clear()
        assert (await client.get("/queue", headers={"Cookie": id}, follow_redirects=False)).status_code == 303
        assert store.redis.keys(f"{PREFIX}console:session:*") == []

    browse(look)


def test_a_session_ends_without_use_and_is_renewed_by_use(browse: Any, store: Store) -> None:
    async def look(client: Any) -> None:
        await sign_in(client, "lin")
        [key] = store.redis.keys(f"{PREFIX}console:session:*")
        assert 0 < store.redis.pttl(key) <= 60_000
        store.redis.pexpire(key, 5_000)
        assert (await client.get("/queue")).status_code == 200
        assert store.redis.pttl(key) > 5_000
        store.redis.delete(key)  # as its expiry does
        assert (await client.get("/queue", follow_redirects=False)).status_code == 303

    browse(look, session_idle="1m")


def test_an_old_session_ends_however_much_it_is_used(browse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from streams.web.signin import sessions

    async def look(client: Any) -> None:
        await sign_in(client, "lin")
        now = sessions.now_ms()
        monkeypatch.setattr(sessions, "now_ms", lambda: now + 3_599_000)
        assert (await client.get("/queue", follow_redirects=False)).status_code == 200
        monkeypatch.setattr(sessions, "now_ms", lambda: now + 3_601_000)
        assert (await client.get("/queue", follow_redirects=False)).status_code == 303

    browse(look, session_length="1h")


@pytest.mark.parametrize("change", ["removed", "another password", "another role"])
def test_a_removed_or_changed_user_is_signed_out(browse: Any, tmp_path: Path, change: str) -> None:
    async def look(client: Any) -> None:
        await sign_in(client, "lin")
        assert (await client.get("/queue", follow_redirects=False)).status_code == 200
        if change == "removed":
            remove_user(tmp_path / "users.toml", "lin")
        else:
            role: Role = "viewer" if change == "another role" else "agent"
            set_user(tmp_path / "users.toml", "lin", role, "another password", replace=True)
        assert (await client.get("/queue", follow_redirects=False)).status_code == 303

    browse(look)


# ------------------------------------------------------------ changes
def test_a_user_who_is_gone_from_an_exchanged_secret_is_signed_out(browse: Any, tmp_path: Path) -> None:
    """Kubernetes mounts a Secret as links into a folder of each state, and exchanges the link to that folder."""

    def exchange(state: str) -> None:
        (tmp_path / "..new").symlink_to(state)
        (tmp_path / "..new").rename(tmp_path / "..data")

    file, before, after = tmp_path / "users.toml", tmp_path / "..1", tmp_path / "..2"
    for folder in (before, after):
        folder.mkdir()
        shutil.copy2(file, folder)
    remove_user(after / "users.toml", "lin")
    exchange("..1")
    file.unlink()
    file.symlink_to("..data/users.toml")

    async def look(client: Any) -> None:
        await sign_in(client, "lin")
        assert (await client.get("/queue", follow_redirects=False)).status_code == 200
        exchange("..2")
        assert (await client.get("/queue", follow_redirects=False)).status_code == 303

    browse(look)


def test_a_change_without_the_session_s_token_is_refused(browse: Any) -> None:
    async def look(client: Any) -> None:
        await sign_in(client, "lin")
        other = await token_of(client)
        await sign_in(client, "lin")
        for headers in ({}, {"X-CSRF-Token": "guessed"}, {"X-CSRF-Token": other}):
            for path, more in (("/signout", {}), ("/customers/ada/act", {"json": {"action": "contacted"}})):
                assert (await client.post(path, headers=headers, follow_redirects=False, **more)).status_code == 403
        assert (await client.get("/queue", follow_redirects=False)).status_code == 200

    browse(look)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": "http://testserver.local"}, 303),
        ({"Origin": "http://console.example.org"}, 303),
    ],
)
def test_a_form_of_another_site_does_not_sign_anybody_in_or_out(
    browse: Any, headers: dict[str, str], status: int
) -> None:
    async def look(client: Any) -> list[int]:
        form = {"name": "lin", "password": PASSWORD}
        first = await client.post("/signin", data=form, headers=headers, follow_redirects=False)
        await sign_in(client, "lin")
        token = {"csrf": await token_of(client)}
        second = await client.post("/signout", data=token, headers=headers, follow_redirects=False)
        return [first.status_code, second.status_code]

    assert browse(look, url="http://console.example.org") == [status, status]


def test_pages_and_problems_have_the_security_headers(browse: Any) -> None:
    async def look(client: Any) -> None:
        await sign_in(client, "lin")
        for path in (
            "/signin",
            "/queue",
            "/customers/ada",
            "/customers/nobody",
            "/no/such/page",
            "/static/console.css",
            "/static/none",
        ):
            headers = (await client.get(path, follow_redirects=False)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
        assert (await client.get("/queue")).headers["cache-control"] == "no-store"

    browse(look)


def test_a_page_says_that_redis_does_not_answer(browse: Any) -> None:
    async def look(client: Any) -> None:
        client.cookies.set("tierstream", "some-session")
        answer = await client.get("/queue", follow_redirects=False)
        assert answer.status_code == 503
        assert "Redis does not answer" in answer.text

    browse(look, redis_url="redis://127.0.0.1:1/0")


# ------------------------------------------------------------ the command line
def test_a_password_is_read_from_standard_input_and_kept_as_argon2(tmp_path: Path) -> None:
    file = tmp_path / "u.toml"
    add = ["console", "users", "add", "ann", "--role", "manager", "--file", str(file)]
    made = CliRunner().invoke(command_line, add, input=f"{PASSWORD}\n")
    assert made.exit_code == 0, made.output
    assert PASSWORD not in made.output and PASSWORD not in file.read_text()
    [user] = read_users(file)
    assert (user.name, user.role) == ("ann", "manager") and user.argon2.startswith("$argon2id$")
    assert file.stat().st_mode & 0o077 == 0
    again = CliRunner().invoke(command_line, add, input=f"{PASSWORD}\n")
    assert again.exit_code == 2 and "--replace" in again.output
    short = CliRunner().invoke(command_line, [*add, "--replace"], input="short\n")
    assert short.exit_code == 2 and "at least 12" in short.output
    assert "ann" in CliRunner().invoke(command_line, ["console", "users", "list", "--file", str(file)]).output
    assert CliRunner().invoke(command_line, ["console", "users", "remove", "ann", "--file", str(file)]).exit_code == 0
    assert read_users(file) == []
