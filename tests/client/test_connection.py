"""A client's settings are those of a worker: the same names, the same values, the same refusals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from streams import settings
from streams.broker import librdkafka
from streams.client import ClientError, SettingsError, tier_changes
from streams.client.connection import NAMES, connection

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "broker": st.sampled_from(["kafka:9092", "a:1, b:65535", "[::1]:9092", "nowhere", "kafka:0", ""]),
    "security_protocol": st.sampled_from(["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL", "TLS"]),
    "sasl_mechanism": st.sampled_from(["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI"]),
    "sasl_username": st.sampled_from(["ada", ""]),
    "sasl_password": st.sampled_from(["secret", ""]),
    "tls_ca_file": st.sampled_from(["/etc/ca.pem", ""]),
    "topic_prefix": st.sampled_from(["", "shop-", "a.b_c", "a b", "x" * 81]),
    "app_version": st.sampled_from(["1", "2", "0", "-1", "two"]),
}


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(f"TIERSTREAM_{name.upper()}", raising=False)


def outcome(environment: dict[str, str], named: dict[str, Any], with_pydantic: bool) -> Any:
    """How the broker is reached and a topic is called, or which settings are refused."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(f"TIERSTREAM_{name.upper()}", value)
        try:
            if with_pydantic:
                found = settings.load_settings(**named)
                return librdkafka.connection(found), found.topic("tier-changes")
            mine = connection(**named)
            return mine.options(), mine.topic("tier-changes")
        except (settings.SettingsError, SettingsError) as error:
            return sorted(line.partition(":")[0] for line in str(error).splitlines())


def test_every_setting_is_compared() -> None:
    assert VALUES.keys() == set(NAMES)


@limits(max_examples=60)
@given(st.fixed_dictionaries({}, optional=VALUES), st.fixed_dictionaries({}, optional=VALUES))
def test_a_client_is_connected_as_a_worker_is(environment: dict[str, str], named: dict[str, Any]) -> None:
    assert outcome(environment, named, False) == outcome(environment, named, True)


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ({"broker": "kafka"}, "TIERSTREAM_BROKER: 'kafka' is not host:port, as in 127.0.0.1:9092"),
        ({"security_protocol": "TLS"}, "TIERSTREAM_SECURITY_PROTOCOL: should be one of PLAINTEXT, SSL, .* not 'TLS'"),
        ({"security_protocol": "SASL_SSL"}, "security_protocol=SASL_SSL needs sasl_username and sasl_password"),
        ({"app_version": "two"}, "TIERSTREAM_APP_VERSION: 'two' is not a whole number"),
        ({"app_version": 0}, "TIERSTREAM_APP_VERSION: should be 1 or greater, not 0"),
        ({"topic_prefix": "a b"}, "TIERSTREAM_TOPIC_PREFIX: 'a b' has something other than letters"),
        ({"topics": 3}, "topics: no such setting; there are broker, security_protocol"),
    ],
)
def test_settings_that_can_t_be_used_are_refused_with_a_sentence(named: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=f"^{sentence}"):
        tier_changes(**named)
    assert issubclass(SettingsError, ClientError)


def test_a_password_is_not_shown() -> None:
    found = connection(security_protocol="SASL_SSL", sasl_username="ada", sasl_password="secret")
    assert "secret" not in repr(found)
