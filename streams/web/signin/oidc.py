"""Signing in by OpenID Connect: the authorization code flow with PKCE, state and nonce."""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from typing import Any, Final

import httpx
import msgspec
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from msgspec import Struct

from streams.web.settings import ROLES, ConsoleSettings
from streams.web.signin.people import Person

log = logging.getLogger(__name__)

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""HS256 is left out, since its key would be the client's secret; `none` is never accepted."""
TIMEOUT_SECONDS: Final = 10.0
LEEWAY_SECONDS: Final = 60
SECONDS_BETWEEN_KEYS: Final = 60.0
"""Keys are fetched again for a token with an unknown key, but not more often than this."""
CALLBACK: Final = "/signin/callback"


class OidcError(RuntimeError):
    """The provider fails or answers wrongly, or the person has no role; the message says which."""


class Attempt(Struct, frozen=True):
    """The values that the provider's answer has to match, and the page to go to afterwards. A cookie keeps them
    meanwhile.
    """

    state: str
    nonce: str
    verifier: str
    after: str


class _Provider(Struct, frozen=True):
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class OpenIdConnect:
    """Signs people in by a provider. `transport` is for tests, where the provider runs in-process."""

    def __init__(self, settings: ConsoleSettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        assert settings.oidc_issuer is not None and settings.oidc_client_id is not None
        self._settings, self._issuer, self._client_id = settings, settings.oidc_issuer, settings.oidc_client_id
        self._secret = None if settings.oidc_client_secret is None else settings.oidc_client_secret.get_secret_value()
        self._transport = transport
        self._provider: _Provider | None = None
        self._keys: Any = None
        self._keys_at = -SECONDS_BETWEEN_KEYS
        self.redirect_uri: Final = settings.base_url + CALLBACK

    async def begin(self, after: str) -> tuple[str, Attempt]:
        """Begin signing in: the URL to redirect to, and the attempt to keep. Raises OidcError."""
        attempt = Attempt(secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48), after)
        url = prepare_grant_uri(
            (await self._discover()).authorization_endpoint,
            client_id=self._client_id,
            response_type="code",
            redirect_uri=self.redirect_uri,
            scope=self._settings.oidc_scope,
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
        )
        return url, attempt

    async def finish(self, attempt: Attempt, state: str, code: str) -> Person:
        """Finish signing in with the provider's answer; returns the person. Raises OidcError."""
        if not hmac.compare_digest(attempt.state.encode(), state.encode()):
            raise OidcError("the answer does not belong to this attempt")
        provider = await self._discover()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": attempt.verifier,
            "client_id": self._client_id,
        }
        basic = None
        if self._secret is not None:
            if "client_secret_basic" in provider.token_endpoint_auth_methods_supported:
                basic = httpx.BasicAuth(self._client_id, self._secret)
            else:
                form["client_secret"] = self._secret
        token = await self._fetch("POST", provider.token_endpoint, data=form, auth=basic)
        if not isinstance(token.get("id_token"), str):
            raise OidcError("the provider's answer has no ID token")
        return self._person(await self._claims(provider, token, attempt.nonce))

    async def _claims(self, provider: _Provider, token: dict[str, Any], nonce: str) -> dict[str, Any]:
        """The claims of a token, after its signature and claims were checked."""
        try:
            decoded = await self._decoded(provider, token["id_token"])
            claims = CodeIDToken(
                decoded.claims,
                decoded.header,
                {
                    "iss": {"essential": True, "value": provider.issuer},
                    "aud": {"essential": True, "value": self._client_id},
                    "nonce": {"essential": True, "value": nonce},
                },
                {"nonce": nonce, "client_id": self._client_id, "access_token": token.get("access_token")},
            )
            claims.validate(now=int(time.time()), leeway=LEEWAY_SECONDS)
        except (JoseError, ValueError) as error:
            raise OidcError(f"the ID token can't be trusted: {error}") from None
        return dict(decoded.claims)

    async def _decoded(self, provider: _Provider, written: str) -> jwt.Token:
        if self._keys is None:
            await self._fetch_keys(provider)
        try:
            return jwt.decode(written, self._keys, algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            if time.monotonic() - self._keys_at < SECONDS_BETWEEN_KEYS:
                raise
            await self._fetch_keys(provider)  # the provider may have changed its keys
            return jwt.decode(written, self._keys, algorithms=ALGORITHMS)

    async def _fetch_keys(self, provider: _Provider) -> None:
        try:
            self._keys = KeySet.import_key_set(await self._fetch("GET", provider.jwks_uri))  # type: ignore[arg-type]
        except (JoseError, ValueError, KeyError) as error:
            raise OidcError(f"the provider's keys can't be read: {error}") from None
        self._keys_at = time.monotonic()

    def _person(self, claims: dict[str, Any]) -> Person:
        name = claims.get(self._settings.oidc_name_claim) or claims["sub"]
        groups: Any = claims
        for part in self._settings.oidc_roles_claim.split("."):
            groups = groups.get(part, []) if isinstance(groups, dict) else []
        mine = {groups} if isinstance(groups, str) else {one for one in groups if isinstance(one, str)}
        roles = [role for group, role in self._settings.oidc_roles.items() if group in mine]
        if not roles:
            raise OidcError(
                f"{name} is in no group that may sign in (claim {self._settings.oidc_roles_claim}: {sorted(mine) or 'none'})"
            )
        return Person(str(name)[:128], max(roles, key=ROLES.index))

    async def _discover(self) -> _Provider:
        if self._provider is None:
            found = await self._fetch("GET", f"{self._issuer}/.well-known/openid-configuration")
            try:
                provider = msgspec.convert(found, _Provider)
            except msgspec.ValidationError as error:
                raise OidcError(f"the configuration of {self._issuer} can't be used: {error}") from None
            if provider.issuer.rstrip("/") != self._issuer:
                raise OidcError(
                    f"{self._issuer} calls itself {provider.issuer}; set TIERSTREAM_CONSOLE_OIDC_ISSUER to that"
                )
            self._provider = provider
        return self._provider

    async def _fetch(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        try:
            async with httpx.AsyncClient(transport=self._transport, timeout=TIMEOUT_SECONDS) as client:
                answer = await client.request(method, url, **more)
            if answer.is_error:
                raise OidcError(f"{url} answered {answer.status_code}: {answer.text[:200]}")
            found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise OidcError(f"{url} does not answer as it should: {error}") from None
        if not isinstance(found, dict):
            raise OidcError(f"{url} does not answer as it should: no JSON object")
        return found
