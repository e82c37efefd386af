"""Settings, read from the environment once and checked once."""

from __future__ import annotations

import ssl
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models import units
from models.bodies import TOPIC_BODIES


def _duration_ms(written: Any) -> Any:
    return units.parse_duration(written) if isinstance(written, str) else written


def _time_ms(written: Any) -> Any:
    return units.parse_time(written) if isinstance(written, str) else written


def _host_and_port(written: str) -> str:
    for server in written.split(","):
        host, colon, port = server.strip().rpartition(":")
        if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{server.strip()!r} is not host:port, as in 127.0.0.1:9092")
    return ",".join(server.strip() for server in written.split(","))


def web_address(written: str, *, such_as: str = "https://example.com/alerts") -> str:
    """A URL that something can be sent to. Raises ValueError."""
    try:
        url = urlsplit(written)
        has_host = bool(url.hostname) and url.port != 0
    except ValueError as error:
        raise ValueError(f"{error}; write a URL, as in {such_as}") from None
    if not written.isprintable() or url.scheme not in ("http", "https") or not has_host or " " in url.netloc:
        raise ValueError(f"this is no web address; write one, as in {such_as}")
    return written


def _collector(written: str | None) -> str | None:
    return web_address(written, such_as="http://127.0.0.1:4318") if written else None


def _registry(written: str | None) -> str | None:
    if not written:
        return None
    urls = [one.strip() for one in written.split(",")]
    return ",".join(web_address(one, such_as="http://127.0.0.1:8081") for one in urls)


def _beginning(written: str) -> str:
    if written not in ("beginning", "now"):
        units.parse_time(written)
    return written


DurationMs = Annotated[int, BeforeValidator(_duration_ms)]
TimeMs = Annotated[int, BeforeValidator(_time_ms)]


DURATIONS = frozenset({"max_idle", "profile_interval", "commit_interval", "session_timeout"})


NEEDED = {
    "url": "give the address that alerts are sent to, as in https://example.com/alerts",
    "secret": "give the secret that the receiver checks signatures with, 16 characters or more, as from `openssl rand -hex 32`",
}
"""What to do about settings without a default."""

Kind = TypeVar("Kind", bound=BaseSettings)


class SettingsError(ValueError):
    """Settings that can't be used; the message says which, and why."""


class Settings(BaseSettings):
    """Every setting, named `TIERSTREAM_` and the field's name in capitals. Durations are written `5s`, times RFC 3339."""

    model_config = SettingsConfigDict(env_prefix="TIERSTREAM_", extra="forbid", frozen=True)

    broker: Annotated[str, AfterValidator(_host_and_port)] = "127.0.0.1:9092"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    tls_ca_file: str | None = None
    redis_url: str | None = None
    """None: no serving view is kept. `rediss://` for TLS; user and password in the URL for ACLs."""
    policy: str = "retail-three-tier"
    shadow: str | None = None
    """A second policy, which is folded beside the first and tells what it would bring in topics of its own; None: there is none."""
    app_id: str = Field("tierstream", pattern=r"^[A-Za-z0-9._-]{1,80}$")
    app_version: int = Field(1, ge=1)
    """A new version starts with empty tables and reads its inputs from the beginning."""
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,80}$")
    partitions: int = Field(4, ge=1, le=1000)
    replication: int = Field(1, ge=1, le=10)
    create_topics: bool = True
    delivery: Literal["exactly-once", "at-least-once"] = "exactly-once"
    """Whether what a batch brings is one transaction. Consumers of exactly-once outputs read with isolation.level=read_committed."""
    clock: Literal["wall", "event"] = "wall"
    until: TimeMs | None = None
    """With the event clock: the time to which customers are advanced once every input has been read to its end."""
    max_batch: int = Field(16000, ge=1, le=100_000)
    """Records folded at once, per partition, at the most."""
    max_idle: DurationMs = 5_000
    """How long an input that is known to be behind may hold up the others of its partition."""
    profile_interval: DurationMs = 1_000
    """A customer's profile is published at most once in this time."""
    commit_interval: DurationMs = 1_000
    session_timeout: DurationMs = Field(10_000, ge=2_000)
    web_host: str = "127.0.0.1"
    web_port: int = Field(6066, ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    log_salt: SecretStr | None = Field(None, min_length=8, max_length=64)
    """The key of the hashes that stand for customers in the log; None: one of this process alone."""
    tracing_endpoint: Annotated[str | None, AfterValidator(_collector)] = None
    """Where a collector of OpenTelemetry takes OTLP over HTTP; None, or empty: nothing is traced."""

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if self.until is not None and self.clock != "event":
            raise ValueError("until needs clock=event")
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password):
            raise ValueError(f"security_protocol={self.security_protocol} needs sasl_username and sasl_password")
        return self

    @property
    def table_app_id(self) -> str:
        """The consumer group, and the prefix of the changelog's name."""
        return self.app_id if self.app_version == 1 else f"{self.app_id}-v{self.app_version}"

    def topic(self, name: str) -> str:
        """A topic's name on the broker. A further app version reads the same inputs and writes to topics of its own."""
        is_shared = self.app_version == 1 or name in TOPIC_BODIES
        return self.topic_prefix + (name if is_shared else f"{name}-v{self.app_version}")

    @property
    def redis_prefix(self) -> str:
        """What the serving view's keys begin with: a view for each app version."""
        return "tierstream:" if self.app_version == 1 else f"tierstream-v{self.app_version}:"

    @property
    def request_timeout_ms(self) -> int:
        """How long a write is tried. Without transactions it must not outlast the session, as the partition may not."""
        return max(30_000, 3 * self.session_timeout) if self.delivery == "exactly-once" else self.session_timeout

    def ssl_context(self) -> ssl.SSLContext | None:
        """For TLS to the broker."""
        if self.security_protocol not in ("SSL", "SASL_SSL"):
            return None
        try:
            return ssl.create_default_context(cafile=self.tls_ca_file)
        except OSError as error:
            raise SettingsError(
                f"TIERSTREAM_TLS_CA_FILE {self.tls_ca_file}: {error.strerror}; give a PEM file"
            ) from None

    def environment(self) -> dict[str, str]:
        """The settings that were given, as the environment that gives them to another process."""
        given = {name: getattr(self, name) for name in self.model_fields_set if getattr(self, name) is not None}
        written = {
            name: value.get_secret_value() if isinstance(value, SecretStr)
            else f"{value}ms" if name in DURATIONS
            else str(value)
            for name, value in given.items()
        }  # fmt: skip
        return {f"TIERSTREAM_{name.upper()}": value for name, value in written.items()}

    def client_options(self) -> dict[str, Any]:
        """How kafka-python connects to the broker."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.broker.split(","),
            "security_protocol": self.security_protocol,
            "ssl_context": self.ssl_context(),
        }
        if self.sasl_password is not None and self.security_protocol.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password.get_secret_value(),
            }
        return options


class PushSettings(BaseSettings):
    """Settings of `tierstream alerts push`, named `TIERSTREAM_PUSH_` and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="TIERSTREAM_PUSH_", extra="forbid", frozen=True)

    url: Annotated[str, AfterValidator(web_address)]
    secret: SecretStr = Field(min_length=16)
    """What the signatures are made with; the receiver has it too."""
    patience: DurationMs = Field(15 * units.MINUTE_MS, ge=0)
    """How long an alert is tried."""
    timeout: DurationMs = Field(10_000, ge=1)
    """How long a receiver may take for its answer."""
    at_once: int = Field(8, ge=1, le=256)
    """Alerts of different customers on their way at the same time."""
    group: str = Field("push", pattern=r"^[A-Za-z0-9._-]{1,80}$")
    """Each webhook of an installation has its own."""


class RegistrySettings(BaseSettings):
    """How a schema registry is asked, named `TIERSTREAM_REGISTRY_` and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="TIERSTREAM_REGISTRY_", extra="forbid", frozen=True)

    url: Annotated[str | None, AfterValidator(_registry)] = None
    """Several of one cluster with commas; None: records are JSON."""
    username: str | None = None
    password: SecretStr | None = None
    ca_file: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> RegistrySettings:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together: give both, or neither")
        return self


class IngestSettings(BaseSettings):
    """Settings of `tierstream ingest`, named `TIERSTREAM_INGEST_` and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="TIERSTREAM_INGEST_", extra="forbid", frozen=True)

    sources: str = ""
    """`shop.orders=orders.toml shop.returns=returns.toml`."""
    group: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,120}$")
    """The consumer group; None: the app's id, and `-ingest`."""
    since: Annotated[str, AfterValidator(_beginning)] = "beginning"
    """Where a group begins that has been nowhere: beginning, now, or a time."""
    web_port: int = Field(6067, ge=0, le=65535)
    """Of its pages; 0: it has none."""


def load_settings(**overrides: Any) -> Settings:
    """The settings from the environment, with what the command line gave in their place. Raises SettingsError."""
    return _load(Settings, overrides)


def load_registry_settings(**overrides: Any) -> RegistrySettings:
    """How the schema registry is asked, likewise. Raises SettingsError."""
    return _load(RegistrySettings, overrides)


def load_ingest_settings(**overrides: Any) -> IngestSettings:
    """The live sources' settings, likewise. Raises SettingsError."""
    return _load(IngestSettings, overrides)


def load_push_settings(**overrides: Any) -> PushSettings:
    """The webhook's settings, likewise. Raises SettingsError."""
    return _load(PushSettings, overrides)


def _load(kind: type[Kind], overrides: dict[str, Any]) -> Kind:
    try:
        return kind(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise SettingsError(in_words(error, kind.model_config["env_prefix"])) from None


def in_words(error: ValidationError, prefix: str) -> str:
    """What is wrong with settings, a line for each that is; their names begin with `prefix`."""
    lines = []
    for problem in error.errors():
        name = "_".join(str(part) for part in problem["loc"]) or ""
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            what = f"is not set; {NEEDED[name]}"
        lines.append(f"{prefix}{name.upper()}: {what}" if name else what)
    return "\n".join(lines)
