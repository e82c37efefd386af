"""The settings of the console alone; it shares the others with the worker (streams/settings.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from streams.settings import DurationMs, SettingsFromOutside, load

PREFIX = "TIERSTREAM_CONSOLE_"
Role = Literal["viewer", "agent", "manager"]
ROLES: Final[tuple[Role, ...]] = ("viewer", "agent", "manager")
"""What a person may do in the console: each role may also do what the roles before it may."""


def _address(written: str) -> str:
    if not written.startswith(("http://", "https://")):
        raise ValueError(f"{written!r} does not begin with https:// (or http://)")
    return written.rstrip("/")


def _object(written: Any) -> Any:
    try:
        return orjson.loads(written) if isinstance(written, str) else written
    except orjson.JSONDecodeError as error:
        raise ValueError(f'this is no JSON ({error}); write it as in {{"retention": "agent"}}') from None


Url = Annotated[str, AfterValidator(_address)]


class ConsoleSettings(SettingsFromOutside):
    """Every setting of the console, named `TIERSTREAM_CONSOLE_` and the field's name in capitals. Durations are written
    `30m`.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(6080, ge=0, le=65535)
    url: Url | None = None
    """The console's address for browsers behind a proxy; None: host and port. With https:// its cookies are Secure."""
    proxies: str = "127.0.0.1"
    """Addresses, with commas, of the proxies that are trusted to report a client's address."""
    keys_file: Path = Path("console-keys.toml")
    users_file: Path = Path("console-users.toml")
    session_idle: DurationMs = Field(30 * 60_000, ge=1_000)
    """How long a session lasts without being used."""
    session_length: DurationMs = Field(12 * 3_600_000, ge=1_000)
    """How long a session lasts at most, used or not."""
    action_timeout: DurationMs = Field(10_000, ge=1_000)
    """How long an action waits for the broker."""
    oidc_issuer: Url | None = None
    """If it is set, people sign in by OpenID Connect and not with passwords."""
    oidc_client_id: str | None = None
    oidc_client_secret: SecretStr | None = None
    oidc_scope: str = "openid profile email"
    oidc_name_claim: str = "preferred_username"
    """The claim that names a person, in the audit trail and as the owner of alerts."""
    oidc_roles_claim: str = "groups"
    """The claim with a person's groups; dots lead into objects, as in `realm_access.roles`."""
    # Read here, since the library would end in a stack trace if it is no JSON.
    oidc_roles: Annotated[dict[str, Role], NoDecode, BeforeValidator(_object)] = {}
    """JSON: a group's name -> viewer, agent or manager. A person in several groups has the highest role; in none, can't
    sign in.
    """

    @model_validator(mode="after")
    def _fits_together(self) -> ConsoleSettings:
        if self.oidc_issuer is not None:
            for name in ("oidc_client_id", "oidc_roles"):
                if not getattr(self, name):
                    raise ValueError(f"{PREFIX}OIDC_ISSUER needs {PREFIX}{name.upper()}")
        return self

    @property
    def is_secure(self) -> bool:
        """Whether browsers use https."""
        return self.url is not None and self.url.startswith("https://")

    @property
    def base_url(self) -> str:
        """The console's address for browsers."""
        return self.url or f"http://{self.host}:{self.port}"


def load_console_settings(**overrides: Any) -> ConsoleSettings:
    """The settings from outside; `overrides` are those of the command line. Raises SettingsError."""
    return load(ConsoleSettings, overrides)
