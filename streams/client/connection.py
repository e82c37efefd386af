"""How the broker is reached and what its topics are called: settings by name, or `TIERSTREAM_...` in the environment.

They are those of a worker that a reader of its topics needs, with the same names, defaults and checks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

PREFIX: Final = "TIERSTREAM_"
PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

quiet = logging.getLogger("tierstream.librdkafka")
"""Where librdkafka's own log goes: nowhere. What fails is raised, or logged, by the client."""
quiet.setLevel(logging.CRITICAL)


class ClientError(RuntimeError):
    """Something that does not pass by itself; the message says what to do."""


class SettingsError(ClientError, ValueError):
    """Settings that can't be used; the message says which, and why."""


@dataclass(frozen=True)
class Connection:
    """A broker, and an installation of Tierstream on it. Raises SettingsError."""

    broker: str = "127.0.0.1:9092"
    """host:port, several with commas."""
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    tls_ca_file: str | None = None
    topic_prefix: str = ""
    app_version: int = 1

    def __post_init__(self) -> None:
        problems = [f"{PREFIX}{name.upper()}: {what}" for name, what in _problems(self)]
        if (
            not problems
            and self.security_protocol.startswith("SASL")
            and not (self.sasl_username and self.sasl_password)
        ):
            problems = [f"security_protocol={self.security_protocol} needs sasl_username and sasl_password"]
        if problems:
            raise SettingsError("\n".join(problems))
        object.__setattr__(self, "broker", ",".join(server.strip() for server in self.broker.split(",")))

    def topic(self, name: str) -> str:
        """The name on the broker of one of the output topics."""
        return self.topic_prefix + (name if self.app_version == 1 else f"{name}-v{self.app_version}")

    def options(self) -> dict[str, Any]:
        """How librdkafka connects to the broker."""
        options: dict[str, Any] = {"bootstrap.servers": self.broker, "security.protocol": self.security_protocol}
        if self.tls_ca_file:
            options["ssl.ca.location"] = self.tls_ca_file
        if self.sasl_password is not None:
            options |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.username": self.sasl_username,
                "sasl.password": self.sasl_password,
            }
        return options


NAMES: Final = tuple(one.name for one in fields(Connection))


def connection(environment: Mapping[str, str] = os.environ, **settings: Any) -> Connection:
    """A connection by these settings, and for those that are missing or None by the environment. Raises SettingsError.

    >>> connection({"TIERSTREAM_TOPIC_PREFIX": "shop-"}, broker="kafka:9092").topic("tier-changes")
    'shop-tier-changes'
    """
    if unknown := settings.keys() - set(NAMES):
        raise SettingsError(f"{', '.join(sorted(unknown))}: no such setting; there are {', '.join(NAMES)}")
    given = {name.upper(): value for name, value in environment.items()}
    chosen: dict[str, Any] = {name: given[key] for name in NAMES if (key := f"{PREFIX}{name.upper()}") in given}
    chosen |= {name: value for name, value in settings.items() if value is not None}
    with contextlib.suppress(ValueError):  # what is no number is refused with all else
        chosen["app_version"] = int(chosen.get("app_version", 1))
    return Connection(**chosen)


def _problems(connection: Connection) -> list[tuple[str, str]]:
    """The names of the settings that can't be used, and what is wrong with each."""
    checks: dict[str, Callable[[Any], str | None]] = {
        "broker": _address_problem,
        "security_protocol": lambda written: _choice_problem(written, PROTOCOLS),
        "sasl_mechanism": lambda written: _choice_problem(written, MECHANISMS),
        "topic_prefix": _prefix_problem,
        "app_version": _version_problem,
    }
    found = [(name, check(getattr(connection, name))) for name, check in checks.items()]
    return [(name, what) for name, what in found if what is not None]


def _address_problem(written: str) -> str | None:
    for server in written.split(","):
        host, colon, port = server.strip().rpartition(":")
        if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
            return f"{server.strip()!r} is not host:port, as in 127.0.0.1:9092"
    return None


def _choice_problem(written: str, choices: tuple[str, ...]) -> str | None:
    return None if written in choices else f"should be one of {', '.join(choices)}, not {written!r}"


def _version_problem(written: Any) -> str | None:
    if not isinstance(written, int):
        return f"{written!r} is not a whole number"
    return None if written >= 1 else f"should be 1 or greater, not {written}"


def _prefix_problem(written: str) -> str | None:
    if re.fullmatch(r"[A-Za-z0-9._-]{0,80}", written):
        return None
    return f"{written!r} has something other than letters, digits, '.', '_' and '-', or more than 80 of them"
