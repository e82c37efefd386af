"""Settings, read once from the environment and from files of secrets, and checked once."""

from __future__ import annotations

import os
import ssl
import warnings
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SecretsSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from models import units
from models.bodies import TOPIC_BODIES
from models.placement import Partitioner, Placement


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
    """Check a web address, http or https; returns it unchanged. Raises ValueError."""
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


CARRIED: Final = "carried"
"""The topic of strays: records that a worker found in another partition than the one where their customers live."""

DurationMs = Annotated[int, BeforeValidator(_duration_ms)]
TimeMs = Annotated[int, BeforeValidator(_time_ms)]


DURATIONS = frozenset({"max_idle", "profile_interval", "commit_interval", "session_timeout"})


NEEDED = {
    "url": "give the address that alerts are sent to, as in https://example.com/alerts",
    "secret": "give the secret that the receiver checks signatures with, 16 characters or more, as from `openssl rand -hex 32`",
}
"""For settings without a default, what to do if they are not set."""

SECRETS_DIR = "TIERSTREAM_SECRETS_DIR"
DEFAULT_SECRETS_DIR = "/run/secrets"
"""Where Docker puts secrets. There need be none."""


class SettingsError(ValueError):
    """Settings that can't be used; the message says which, and why."""


class Secrets(SecretsSettingsSource):
    """Settings from the files of a folder, each named as the environment variable, in small or capital letters."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """A setting's value, None if it has no file. Raises SettingsError if its file can't be read."""
        try:
            with warnings.catch_warnings():
                # Of a folder in a file's place, or of a link that leads elsewhere, pydantic only warns.
                warnings.simplefilter("error", UserWarning)
                return super().get_field_value(field, field_name)
        except (OSError, UnicodeDecodeError, UserWarning, AssertionError) as error:
            why = "it is no plain file of this folder"
            if isinstance(error, OSError):
                why = error.strerror or str(error)
            elif isinstance(error, UnicodeDecodeError):
                why = "it is not UTF-8"
            raise SettingsError(
                f"{self.env_prefix}{field_name.upper()}: its file in {self.secrets_dir} can't be read: {why}. It has to be a "
                f"text file that user {os.geteuid()} may read"
            ) from None


class SettingsFromOutside(BaseSettings):
    """Settings from the command line; what is not given there, from the environment; what is not there either, from the
    folder of secrets: `TIERSTREAM_SASL_PASSWORD` may be its file `tierstream_sasl_password`.
    """

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, environment, files. Raises SettingsError."""
        folder = Path(os.environ.get(SECRETS_DIR, DEFAULT_SECRETS_DIR))
        if folder.is_dir():
            return init_settings, env_settings, Secrets(settings_cls, folder)
        if SECRETS_DIR in os.environ:
            raise SettingsError(
                f"{SECRETS_DIR}: {folder} is no folder; name the one that has the secrets, or leave it out"
            )
        return init_settings, env_settings


Kind = TypeVar("Kind", bound=SettingsFromOutside)


class Settings(SettingsFromOutside):
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
    """A second policy that is folded beside the first, with outputs in topics of its own; None: no shadow policy."""
    app_id: str = Field("tierstream", pattern=r"^[A-Za-z0-9._-]{1,80}$")
    app_version: int = Field(1, ge=1)
    """A new version starts with empty tables and reads its inputs from their beginning."""
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,80}$")
    partitions: int = Field(4, ge=1, le=1000)
    partitioner: Partitioner = "murmur2"
    """How keys are placed into partitions: as Java's clients do (murmur2), as librdkafka does by default (crc32), or as
    sarama does (fnv1a).
    """
    strays: Literal["carry", "refuse"] = "carry"
    """What is done with a record that another partitioner has placed: it is carried to the partition where its customer
    lives, or refused.
    """
    replication: int = Field(1, ge=1, le=10)
    create_topics: bool = True
    delivery: Literal["exactly-once", "at-least-once"] = "exactly-once"
    """Whether everything that a batch writes is one transaction; its consumers then read with
    isolation.level=read_committed.
    """
    clock: Literal["wall", "event"] = "wall"
    until: TimeMs | None = None
    """With the event clock, the time to which customers are advanced once every input has been read to its end."""
    max_batch: int = Field(16000, ge=1, le=100_000)
    """How many records of a partition are folded in one batch at most."""
    max_idle: DurationMs = 5_000
    """How long an input that is known to be behind may hold up the other inputs of its partition."""
    profile_interval: DurationMs = 1_000
    """The shortest time between two published profiles of a customer."""
    commit_interval: DurationMs = 1_000
    session_timeout: DurationMs = Field(10_000, ge=2_000)
    web_host: str = "127.0.0.1"
    web_port: int = Field(6066, ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    log_salt: SecretStr | None = Field(None, min_length=8, max_length=64)
    """The key of the hashes that stand for customers in the log; None: a random key for each process."""
    tracing_endpoint: Annotated[str | None, AfterValidator(_collector)] = None
    """The address at which an OpenTelemetry collector takes OTLP over HTTP; None, or empty: nothing is traced."""

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if self.until is not None and self.clock != "event":
            raise ValueError("until needs clock=event")
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password):
            raise ValueError(f"security_protocol={self.security_protocol} needs sasl_username and sasl_password")
        return self

    @property
    def table_app_id(self) -> str:
        """The id of the consumer group, and the prefix of the changelog's name."""
        return self.app_id if self.app_version == 1 else f"{self.app_id}-v{self.app_version}"

    def topic(self, name: str) -> str:
        """A topic's name on the broker. All app versions share the inputs; each version above 1 has output topics of
        its own.
        """
        if name == CARRIED:  # each table has strays of its own, whatever the prefix of the inputs
            return f"{self.table_app_id}-{CARRIED}"
        is_shared = self.app_version == 1 or name in TOPIC_BODIES
        return self.topic_prefix + (name if is_shared else f"{name}-v{self.app_version}")

    @property
    def placement(self) -> Placement:
        """Where customers live."""
        return Placement(self.partitions, self.partitioner)

    @property
    def redis_prefix(self) -> str:
        """The prefix of the serving view's keys; each app version has a view of its own."""
        return "tierstream:" if self.app_version == 1 else f"tierstream-v{self.app_version}:"

    @property
    def request_timeout_ms(self) -> int:
        """How long a write is retried. Without transactions it must not outlast the session, after which another owns
        the partition.
        """
        return max(30_000, 3 * self.session_timeout) if self.delivery == "exactly-once" else self.session_timeout

    def ssl_context(self) -> ssl.SSLContext | None:
        """The context for TLS to the broker; None without TLS. Raises SettingsError."""
        if self.security_protocol not in ("SSL", "SASL_SSL"):
            return None
        try:
            return ssl.create_default_context(cafile=self.tls_ca_file)
        except OSError as error:
            raise SettingsError(
                f"TIERSTREAM_TLS_CA_FILE {self.tls_ca_file}: {error.strerror}; give a PEM file"
            ) from None

    def environment(self) -> dict[str, str]:
        """The settings that were given, as environment variables for another process."""
        given = {name: getattr(self, name) for name in self.model_fields_set if getattr(self, name) is not None}
        written = {
            name: value.get_secret_value() if isinstance(value, SecretStr)
            else f"{value}ms" if name in DURATIONS
            else str(value)
            for name, value in given.items()
        }  # fmt: skip
        return {f"TIERSTREAM_{name.upper()}": value for name, value in written.items()}


class PushSettings(SettingsFromOutside):
    """Settings of `tierstream alerts push`, named `TIERSTREAM_PUSH_` and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="TIERSTREAM_PUSH_", extra="forbid", frozen=True)

    url: Annotated[str, AfterValidator(web_address)]
    secret: SecretStr = Field(min_length=16)
    """The key of the signatures, which the receiver has too."""
    patience: DurationMs = Field(15 * units.MINUTE_MS, ge=0)
    """How long attempts to deliver an alert go on."""
    timeout: DurationMs = Field(10_000, ge=1)
    """How long a receiver may take to answer."""
    at_once: int = Field(8, ge=1, le=256)
    """How many alerts of different customers are sent at the same time."""
    group: str = Field("push", pattern=r"^[A-Za-z0-9._-]{1,80}$")
    """The name of the webhook's consumer group; each webhook of an installation has its own."""


class DigestSettings(SettingsFromOutside):
    """Settings of `tierstream alerts digest`, named `TIERSTREAM_DIGEST_` and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="TIERSTREAM_DIGEST_", extra="forbid", frozen=True)

    url: str | None = None
    """The webhook of the chat."""


class RegistrySettings(SettingsFromOutside):
    """Settings of the schema registry, named `TIERSTREAM_REGISTRY_` and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="TIERSTREAM_REGISTRY_", extra="forbid", frozen=True)

    url: Annotated[str | None, AfterValidator(_registry)] = None
    """The registry's address, several of one cluster with commas; None: records are JSON."""
    username: str | None = None
    password: SecretStr | None = None
    ca_file: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> RegistrySettings:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together: give both, or neither")
        return self


class IngestSettings(SettingsFromOutside):
    """Settings of `tierstream ingest`, named `TIERSTREAM_INGEST_` and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="TIERSTREAM_INGEST_", extra="forbid", frozen=True)

    sources: str = ""
    """`shop.orders=orders.toml shop.returns=returns.toml`."""
    group: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,120}$")
    """The consumer group; None: the app's id, and `-ingest`."""
    since: Annotated[str, AfterValidator(_beginning)] = "beginning"
    """Where a group without a commit begins: `beginning`, `now`, or a time."""
    web_port: int = Field(6067, ge=0, le=65535)
    """The port of its web pages; 0: no pages."""


def load_settings(**overrides: Any) -> Settings:
    """The settings from outside; `overrides` are those of the command line. Raises SettingsError."""
    return load(Settings, overrides)


def load_registry_settings(**overrides: Any) -> RegistrySettings:
    """The schema registry's settings from outside and the command line. Raises SettingsError."""
    return load(RegistrySettings, overrides)


def load_ingest_settings(**overrides: Any) -> IngestSettings:
    """The live sources' settings from outside and the command line. Raises SettingsError."""
    return load(IngestSettings, overrides)


def load_push_settings(**overrides: Any) -> PushSettings:
    """The webhook's settings from outside and the command line. Raises SettingsError."""
    return load(PushSettings, overrides)


def load_digest_settings(**overrides: Any) -> DigestSettings:
    """The digest's settings from outside and the command line. Raises SettingsError."""
    return load(DigestSettings, overrides)


def load(kind: type[Kind], overrides: dict[str, Any]) -> Kind:
    """Settings of a kind; `overrides` are those of the command line, None where nothing was given. Raises SettingsError."""
    try:
        return kind(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise SettingsError(in_words(error, kind.model_config["env_prefix"])) from None
    except SourceError as error:
        raise SettingsError(str(error.__cause__ or error)) from None


def in_words(error: ValidationError, prefix: str) -> str:
    """The problems of settings, one a line; the settings' names begin with `prefix`."""
    lines = []
    for problem in error.errors():
        name = "_".join(str(part) for part in problem["loc"]) or ""
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            what = f"is not set; {NEEDED[name]}"
        lines.append(f"{prefix}{name.upper()}: {what}" if name else what)
    return "\n".join(lines)
