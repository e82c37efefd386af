"""Signing in by OpenID Connect, with a provider in this process that checks every request."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from litestar.testing import AsyncTestClient

from streams.broker.embedded import EmbeddedRedis
from streams.settings import load_settings
from streams.web.app import create_app
from streams.web.settings import load_console_settings
from tests.web.conftest import Store

ISSUER = "https://id.example.org/realm"
CONSOLE = "http://testserver.local"


class Provider(httpx.AsyncBaseTransport):
    """Returns a code for a person, and a token for the code; `spoil` changes the token's claims before it is signed."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "k1"})
        self.published = [self.key]
        self.signing = self.key
        self.claims: dict[str, Any] = {"preferred_username": "lin", "groups": ["retention", "everybody"]}
        self.spoil: Callable[[dict[str, Any]], None] = lambda claims: None
        self.codes: dict[str, dict[str, str]] = {}
        self.fetched: list[str] = []

    def authorize(self, url: str) -> dict[str, str]:
        """The parameters with which the person's browser is sent back."""
        assert url.startswith(f"{ISSUER}/auth?")
        asked = dict(parse_qsl(urlsplit(url).query))
        assert asked["response_type"] == "code" and asked["client_id"] == "console"
        assert asked["redirect_uri"] == f"{CONSOLE}/signin/callback"
        assert asked["code_challenge_method"] == "S256" and "openid" in asked["scope"].split()
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return {"code": code, "state": asked["state"]}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = str(request.url).removeprefix(ISSUER)
        self.fetched.append(path)
        if path == "/.well-known/openid-configuration":
            return httpx.Response(200, json={
                "issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/auth", "token_endpoint": f"{ISSUER}/token",
                "jwks_uri": f"{ISSUER}/keys",
            })  # fmt: skip
        if path == "/keys":
            return httpx.Response(200, json={"keys": [one.as_dict(private=False) for one in self.published]})
        assert path == "/token"
        form = {name: values[0] for name, values in parse_qs((await request.aread()).decode()).items()}
        asked = self.codes.pop(form["code"], None)
        basic = "Basic " + base64.b64encode(b"console:a secret").decode()
        if asked is None or request.headers["authorization"] != basic:
            return httpx.Response(400, json={"error": "invalid_grant"})
        challenge = (
            base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        )
        assert challenge == asked["code_challenge"] and form["redirect_uri"] == asked["redirect_uri"]
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": "console",
            "sub": "4711",
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            **self.claims,
        }
        self.spoil(claims)
        algorithm = claims.pop("alg", "RS256")
        token = jwt.encode({"alg": algorithm, "kid": self.signing.kid}, claims, self.signing)
        return httpx.Response(200, json={"access_token": "a", "token_type": "Bearer", "id_token": token})


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def browse(server: EmbeddedRedis, store: Store, provider: Provider, tmp_path: Path) -> Callable[..., Any]:
    def run(work: Callable[[Any], Coroutine[Any, Any, Any]], **settings: Any) -> Any:
        async def connected() -> Any:
            console = load_console_settings(
                url=CONSOLE, oidc_issuer=ISSUER, oidc_client_id="console", oidc_client_secret="a secret",
                oidc_roles=settings.pop("oidc_roles", {"retention": "agent", "everybody": "viewer"}),
                keys_file=tmp_path / "k.toml", users_file=tmp_path / "u.toml", **settings,
            )  # fmt: skip
            app = create_app(load_settings(redis_url=server.url, broker="127.0.0.1:1"), console, provider)
            async with AsyncTestClient(app, base_url=CONSOLE) as client:
                client.headers["Accept"] = "text/html"
                return await work(client)

        return asyncio.run(connected())

    return run


async def go_through(client: Any, provider: Provider, **changed: str) -> Any:
    """Sign in as a browser does: go to the provider, and come back."""
    away = await client.get("/signin/provider?after=/overview", follow_redirects=False)
    assert away.status_code == 303
    back = provider.authorize(away.headers["location"]) | changed
    return await client.get("/signin/callback", params=back, follow_redirects=False)


def test_signing_in_by_the_provider_gives_the_highest_role_of_the_groups(browse: Any, provider: Provider) -> None:
    async def look(client: Any) -> None:
        assert "/signin/provider" in (await client.get("/signin")).text
        answer = await go_through(client, provider)
        assert (answer.status_code, answer.headers["location"]) == (303, "/overview")
        text = (await client.get("/overview")).text
        assert "lin" in text and "agent" in text
        assert "tierstream-attempt=" in str(answer.headers.get_list("set-cookie")) and "Max-Age=0" in str(
            answer.headers
        )

    browse(look)


def test_roles_are_found_deep_in_the_claims_and_under_another_name(browse: Any, provider: Provider) -> None:
    provider.claims = {"email": "lin@example.org", "realm_access": {"roles": ["boss"]}}
    settings = {"oidc_roles_claim": "realm_access.roles", "oidc_name_claim": "email", "oidc_roles": {"boss": "manager"}}

    async def look(client: Any) -> None:
        await go_through(client, provider)
        text = (await client.get("/overview")).text
        assert "lin@example.org" in text and "manager" in text

    browse(look, **settings)


def test_a_person_without_a_group_is_refused(browse: Any, provider: Provider) -> None:
    provider.claims["groups"] = ["gardeners"]
    refused(browse, provider)


def refused(browse: Any, provider: Provider, **changed: str) -> None:
    async def look(client: Any) -> None:
        answer = await go_through(client, provider, **changed)
        assert answer.status_code == 401
        assert "Signing in did not work" in answer.text
        assert (await client.get("/overview", follow_redirects=False)).status_code == 303

    browse(look)


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("nonce", "another"), ("nonce", None), ("aud", "another-client"), ("iss", "https://elsewhere.example"), ("exp", 1), ("exp", None),
        ("aud", None), ("iss", None),
    ],
)  # fmt: skip
def test_a_token_that_is_not_for_this_attempt_is_refused(
    browse: Any, provider: Provider, claim: str, value: Any
) -> None:
    def spoil(claims: dict[str, Any]) -> None:
        claims[claim] = value
        if value is None:
            del claims[claim]

    provider.spoil = spoil
    refused(browse, provider)


def test_a_token_signed_by_somebody_else_is_refused(browse: Any, provider: Provider) -> None:
    provider.signing = RSAKey.generate_key(2048, {"kid": "k1"})
    refused(browse, provider)


def test_a_token_without_a_signature_is_refused(
    browse: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain(header: dict[str, Any], claims: dict[str, Any], key: Any) -> str:
        parts = [json.dumps(one).encode() for one in ({"alg": "none"}, claims)]
        return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."

    monkeypatch.setattr(jwt, "encode", plain)
    refused(browse, provider)


def test_another_s_state_or_none_is_refused(browse: Any, provider: Provider) -> None:
    refused(browse, provider, state="another")
    refused(browse, provider, state="")


def test_a_code_that_the_provider_does_not_know_is_refused(browse: Any, provider: Provider) -> None:
    refused(browse, provider, code="guessed")


def test_an_answer_for_another_browser_signs_nobody_in(browse: Any, provider: Provider) -> None:
    async def look(client: Any) -> None:
        away = await client.get("/signin/provider", follow_redirects=False)
        back = provider.authorize(away.headers["location"])
        client.cookies.clear()  # another browser
        answer = await client.get("/signin/callback", params=back, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/signin")
        assert (await client.get("/overview", follow_redirects=False)).status_code == 303

    browse(look)


def test_new_keys_of_the_provider_are_fetched(browse: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    from streams.web.signin import oidc

    monkeypatch.setattr(oidc, "SECONDS_BETWEEN_KEYS", 0.0)

    async def look(client: Any) -> None:
        assert (await go_through(client, provider)).status_code == 303
        provider.signing = RSAKey.generate_key(2048, {"kid": "k2"})
        provider.published = [provider.signing]
        assert (await go_through(client, provider)).status_code == 303

    browse(look)
    assert provider.fetched.count("/keys") == 2


def test_a_refusal_of_the_provider_is_reported(
    browse: Any, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    async def look(client: Any) -> None:
        await client.get("/signin/provider", follow_redirects=False)
        answer = await client.get("/signin/callback?error=access_denied", follow_redirects=False)
        assert answer.status_code == 401

    browse(look)
    assert "access_denied" in caplog.text


def test_no_password_signs_in_where_a_provider_is_configured(browse: Any) -> None:
    async def look(client: Any) -> None:
        answer = await client.post("/signin", data={"name": "lin", "password": "x"}, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/signin")

    browse(look)


def test_a_provider_that_does_not_answer_is_reported_on_the_page(
    browse: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(provider, "handle_async_request", down)

    async def look(client: Any) -> None:
        answer = await client.get("/signin/provider", follow_redirects=False)
        assert answer.status_code == 502
        assert "Signing in did not work" in answer.text

    browse(look)
