"""The values of the Helm chart: the schema knows what the program allows, wrong ones are refused, and the pages name existing ones."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import typing
from collections.abc import Mapping
from typing import Any

import helm_python as helm
import pytest
import yaml
from pydantic_settings import BaseSettings

from models.bodies import TOPIC_BODIES
from streams.notify.push_cli import CHANGE_NAMES
from streams.settings import (
    RegistrySettings,
    Settings,
)
from streams.topics import topics_of
from tests.scripts.chart import (
    CHART,
    KINDS,
    REDIS,
    ROOT,
    Rendered,
    chart,
    release,
    render,
    schema,
    secret_fields,
)

DURATION = typing.get_type_hints(Settings, include_extras=True)["max_idle"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "the console reads Redis: give redis.urlSecret or redis.url, or set console.enabled=false"),
        ({"worker": {"replicas": "two"}}, "'/worker/replicas': got string, want integer"),
        ({"worker": {"replcas": 2}}, "'/worker': additional properties 'replcas' not allowed"),
        ({"settings": {"partitons": 4}}, "'/settings': additional properties 'partitons' not allowed"),
        ({"settings": {"delivery": "once"}}, "'/settings/delivery': value must be one of 'exactly-once', 'at-least-once'"),
        ({"settings": {"session_timeout": 10}}, "'/settings/session_timeout': got number, want string"),
        ({"settings": {"policy": "mine.toml"}}, r"settings.policy is mine.toml, which policies does not have: --set-file 'policies.mine\.toml=mine.toml'"),
        ({"kafka": {"brokers": "kafka"}}, '"kafka" is not host:port, as in kafka:9092'),
        ({"kafka": {"securityProtocol": "SASL_SSL"}}, "needs a user and a password: name their Secret in kafka.sasl.secret.name"),
        ({"kafka": {"sasl": {"secret": {"name": "login"}}}}, "with kafka.securityProtocol=PLAINTEXT nobody signs in to Kafka"),
        ({"kafka": {"caSecret": {"name": "ca"}}}, "kafka.caSecret is for TLS, but kafka.securityProtocol is PLAINTEXT"),
        ({"redis": {"url": "redis://:secret@redis:6379/0"}}, "put the whole address into a Secret and name it in redis.urlSecret"),
        ({"redis": {"urlSecret": {"name": "redis"}}}, "redis.url and redis.urlSecret both say where Redis is"),
        ({"worker": {"replicas": 9}}, "worker.replicas=9, but with settings.partitions=8 only 8 workers would have a partition"),
        ({"worker": {"terminationGracePeriodSeconds": 15}}, "'/worker/terminationGracePeriodSeconds': minimum: got 15, want 30"),
        ({"worker": {"env": [{"name": "TIERSTREAM_POLICY", "value": "a"}]}}, "'/worker/env/0/name': value must be one of 'TIERSTREAM_LOG_SALT'"),
        ({"console": {"ingress": {"enabled": True}}}, "console.ingress needs console.settings.proxies"),
        ({"push": {"enabled": True}}, "push needs an address and a key: name their Secret in push.secret.name"),
        ({"push": {"enabled": True, "secret": {"name": "a"}, "agents": 3, "replicas": 2}}, "push.agents is a budget of one process: set push.replicas=1"),
        ({"ingest": {"enabled": True}}, "ingest needs ingest.settings.sources, as in shop.orders=orders.toml"),
        ({"ingest": {"enabled": True, "settings": {"sources": "a=b.toml"}}}, r"ingest.settings.sources names b.toml, which ingest.mappings does not have: --set-file 'ingest.mappings.b\.toml=b.toml'"),
        ({"policies": {"mine.tml": ""}}, "invalid propertyName 'mine.tml'"),
        ({"image": {"digest": "latest"}}, "'/image/digest'"),
    ],
    ids=lambda one: None if isinstance(one, str) else json.dumps(one)[:60],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_a_sentence(values: dict[str, Any], said: str) -> None:
    with pytest.raises((helm.HelmValuesError, helm.HelmRenderError)) as refused:
        render(values if not values else {**REDIS, **values, "redis": REDIS["redis"] | values.get("redis", {})})
    assert said in str(refused.value)


def expected(kind: type[BaseSettings], field: str) -> dict[str, Any]:
    """What the schema says about a setting, read from the program."""
    hint = typing.get_type_hints(kind, include_extras=True)[field]
    info: dict[str, Any] = kind.model_json_schema()["properties"][field]
    info = info.get("anyOf", [info])[0]
    if hint == DURATION:
        return {"$ref": "#/$defs/duration"}
    if "enum" in info:
        return {"enum": info["enum"]}
    return {name: info[name] for name in ("type", "minimum", "maximum", "pattern") if name in info}


BY_THE_CHART = {
    "broker", "security_protocol", "sasl_mechanism", "sasl_username", "tls_ca_file", "redis_url", "create_topics", "web_host",
    "web_port", "host", "port", "users_file", "keys_file",
}  # fmt: skip
"""Settings that have other values, or that the chart decides."""


@pytest.mark.parametrize(
    ("part", "prefix"),
    [
        ("", "TIERSTREAM_"),
        ("console", "TIERSTREAM_CONSOLE_"),
        ("push", "TIERSTREAM_PUSH_"),
        ("ingest", "TIERSTREAM_INGEST_"),
    ],
)
def test_the_schema_has_every_setting_with_what_the_program_allows(part: str, prefix: str) -> None:
    found = schema()["properties"]
    given = (found[part]["properties"] if part else found)["settings"]["properties"]
    secrets = {one.removeprefix(prefix).lower() for one in secret_fields() if one.startswith(prefix)}
    wanted = set(KINDS[prefix].model_fields) - BY_THE_CHART - secrets - ({"url"} if part == "push" else set())
    assert set(given) == wanted
    for name, says in given.items():
        if name in ("until", "oidc_roles", "oidc_issuer", "tracing_endpoint") or (part, name) == ("console", "url"):
            continue  # more exact than what pydantic knows of them
        assert says == expected(KINDS[prefix], name), name


def test_variables_are_given_directly_only_where_they_have_no_other_place() -> None:
    allowed = schema()["$defs"]["env"]["items"]["properties"]["name"]["then"]["enum"]
    elsewhere = {"TIERSTREAM_SASL_PASSWORD", "TIERSTREAM_PUSH_SECRET"}
    registry = {f"TIERSTREAM_REGISTRY_{name.upper()}" for name in RegistrySettings.model_fields}
    assert set(allowed) == (set(secret_fields()) - elsewhere) | registry


def test_the_schema_knows_the_changes_of_an_alert_and_the_protocols_of_kafka() -> None:
    found = schema()["properties"]
    assert tuple(found["push"]["properties"]["changes"]["items"]["enum"]) == CHANGE_NAMES
    kafka, fields = found["kafka"]["properties"], Settings.model_fields
    assert tuple(kafka["securityProtocol"]["enum"]) == typing.get_args(fields["security_protocol"].annotation)
    assert tuple(kafka["sasl"]["properties"]["mechanism"]["enum"]) == typing.get_args(
        fields["sasl_mechanism"].annotation
    )


def test_every_value_has_a_default_that_the_file_of_values_shows() -> None:
    """Beside settings, which the program's own pages have, and Helm's own `global`."""

    def names(schema_part: Mapping[str, Any]) -> Any:
        if "$ref" in schema_part:
            return names(schema()["$defs"][schema_part["$ref"].rpartition("/")[2]])
        return {
            name: names(one)
            for name, one in schema_part.get("properties", {}).items()
            if name not in ("settings", "global")
        }

    def shown(values: Any) -> Any:
        if not isinstance(values, dict):
            return {}
        return {name: shown(one) for name, one in values.items() if name != "settings"}

    def compare(declared: Any, given: Any, where: str) -> None:
        if declared and where.rpartition("/")[2] not in ("resources", "topologySpreadConstraints"):
            assert set(declared) == set(given), where
            for name in declared:
                compare(declared[name], given[name], f"{where}/{name}")

    compare(names(schema()), shown(yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))), "")


# ---------------------------------------------------------------- what people read
def test_the_notes_say_what_to_do_next() -> None:
    notes = release("defaults").notes
    assert "kubectl --namespace loyalty rollout status deployment/tierstream-worker" in notes
    assert "helm --namespace loyalty test tierstream --logs" in notes
    assert "port-forward service/tierstream-console 6080" in notes
    assert "NOBODY MAY SIGN IN YET" in notes
    managed = release("managed").notes
    assert "https://tiers.example.com" in managed
    assert "NOBODY" not in managed
    assert "Nobody is told" not in managed
    assert "console" not in release("least").notes


def test_a_command_is_run_with_the_settings_of_the_installation() -> None:
    assert "command" not in release("defaults").pods()
    worker, command = (release("everything").container(one) for one in ("worker", "command"))
    assert command["args"] == ["rebuild", "--to-version", "3"]
    assert (command["stdin"], command["tty"]) == (True, True)
    assert [one for one in worker["env"] if one["name"] != "TIERSTREAM_LOG_SALT"] == command["env"]
    assert release("everything").pods()["command"]["spec"]["restartPolicy"] == "Never"


def page() -> str:
    return (ROOT / "docs/deploy.md").read_text("utf-8")


def given_on(line: str) -> dict[str, Any]:
    """The values of a command line, read by Helm's own reader of them."""
    words = shlex.split(line)
    pairs = [(option, value) for option, value in itertools.pairwise(words) if option in ("--set", "--set-file")]
    read = [value if option == "--set" else f"{value.partition('=')[0]}=the text of a file" for option, value in pairs]
    return helm.parse_set_string(",".join(read))


HELM = re.compile(r"^ {4}(helm (?:install|upgrade|template) .*)$", re.MULTILINE)


@pytest.mark.parametrize("line", HELM.findall(page()))
def test_helm_does_what_a_command_of_the_page_asks_for(line: str) -> None:
    assert "docs/kubernetes/tierstream" in line
    given = given_on(line.partition(" | ")[0])
    assert given
    values = {**REDIS, **given}
    values["redis"] = REDIS["redis"] | given.get("redis", {})
    assert release_differs(render(values))


def release_differs(found: Rendered) -> bool:
    return found.text != release("defaults").text


def test_every_value_that_the_page_sets_is_one_that_the_schema_takes() -> None:
    inline = re.findall(r"(--set '[^']+'|--set [^\s`']+)", HELM.sub("", page()))
    assert len(inline) > 5
    for option in inline:
        chart().validate_schema(given_on(option))


def test_the_page_has_each_topic_with_the_configuration_that_it_needs() -> None:
    rows = dict(re.findall(r"^\| ((?:`[\w\-{} ]+`(?:, )?)+) \| (`cleanup.*?) \|$", page(), re.MULTILINE))
    said = {name: configs for names, configs in rows.items() for name in re.findall(r"`([^`]+)`", names)}
    wanted = {
        topic.name: ", ".join(f"`{name}={value}`" for name, value in topic.configs.items())
        for topic in topics_of(Settings(app_id="APP"))
    }
    assert said == {name.replace("APP-", "{app id}-"): configs for name, configs in wanted.items()}
    assert set(TOPIC_BODIES) < set(said)
