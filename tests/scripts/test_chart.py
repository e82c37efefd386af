"""Kubernetes takes the objects of the Helm chart, its pods find each other, and the program takes its settings."""

from __future__ import annotations

import copy
import json
import re
import tomllib
import typing
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import jsonschema
import kubernetes_validate
import pytest
import typer
import yaml
from pydantic_settings import BaseSettings

import models
from streams.broker import keyed_queues
from streams.cli import app
from streams.ingest import run as ingest_run
from streams.ingest.sources import find_sources
from streams.settings import (
    DEFAULT_SECRETS_DIR,
    SECRETS_DIR,
    IngestSettings,
    PushSettings,
    Settings,
    SettingsError,
    load_ingest_settings,
    load_push_settings,
    load_registry_settings,
    load_settings,
)
from streams.web import serve
from streams.web.services import record_sender
from streams.web.settings import ConsoleSettings, load_console_settings
from streams.worker.faust_app import GIVE_UP_SECONDS
from tests.scripts.chart import (
    CHART,
    EVERYTHING,
    KINDS,
    REDIS,
    ROOT,
    VALUES,
    release,
    render,
    schema,
    secret_fields,
)

OLDEST, NEWEST = "1.30.0", "1.37.0"
PAGES = {"worker": Settings, "ingest": IngestSettings}
every_release = pytest.mark.parametrize("name", VALUES)


@every_release
def test_helm_s_strict_lint_finds_nothing(name: str) -> None:
    report = helm.lint(CHART, VALUES[name], strict=True, kube_version=f"v{NEWEST}")
    assert report["errors"] == []
    assert [one for one in report["messages"] if one["severity"] > 1] == []
    assert report["total_charts_linted"] == 1


@pytest.fixture
def schemas_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubernetes_validate.utils.schema_contents", _read_schema)


_read_schema = cache(kubernetes_validate.utils.schema_contents)


@pytest.mark.usefixtures("schemas_read_once")
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@every_release
def test_kubernetes_takes_every_object(name: str, version: str) -> None:
    objects = [one for one in release(name).objects if not one["apiVersion"].startswith("monitoring.coreos.com/")]
    assert len(objects) >= 5
    for one in objects:
        kubernetes_validate.validate(one, version, strict=True)


def test_the_oldest_kubernetes_is_the_one_that_the_chart_asks_for() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))["kubeVersion"] == f">={OLDEST}-0"


def strict(schema: Any) -> Any:
    """The schema, in which an object has no properties but those that it names."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(one) for name, one in schema.items()}
    return closed | {"additionalProperties": False} if isinstance(closed.get("properties"), dict) else closed


@every_release
def test_the_prometheus_operator_takes_its_objects(name: str) -> None:
    schemas = json.loads((ROOT / "tests/data/prometheus-operator-0.80.1.json").read_text("utf-8"))
    objects = [one for one in release(name).objects if one["apiVersion"].startswith("monitoring.coreos.com/")]
    assert len(objects) == {"everything": 3, "managed": 2}.get(name, 0)
    for one in objects:
        jsonschema.Draft202012Validator(strict(schemas[one["kind"]])).validate(one)


def test_those_schemas_refuse_a_name_that_is_not_theirs() -> None:
    schemas = json.loads((ROOT / "tests/data/prometheus-operator-0.80.1.json").read_text("utf-8"))
    (monitor, *_) = copy.deepcopy(release("everything").of("ServiceMonitor"))
    monitor["spec"]["endpoints"][0]["intervall"] = "15s"
    assert not jsonschema.Draft202012Validator(strict(schemas["ServiceMonitor"])).is_valid(monitor)


@every_release
def test_no_two_objects_have_one_name(name: str) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in release(name).objects]
    assert len(set(names)) == len(names)
    assert {one["metadata"]["namespace"] for one in release(name).objects} == {"loyalty"}
    assert "<no value>" not in release(name).text + release(name).notes


def test_the_chart_has_the_version_of_the_program() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    said = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert (said["appVersion"], said["version"].replace("-", "")) == (version, version)
    assert release("defaults").container("worker")["image"] == f"tierstream:{version}"


# ---------------------------------------------------------------- containers
def every_pod() -> list[Any]:
    return [
        pytest.param(name, component, id=f"{name}-{component}")
        for name in VALUES
        for component in sorted(render(VALUES[name]).pods())
    ]


every_container = pytest.mark.parametrize(("name", "component"), every_pod())


@every_container
def test_a_pod_may_do_nothing_that_it_need_not(name: str, component: str) -> None:
    spec, container = release(name).pods()[component]["spec"], release(name).container(component)
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert user
    assert spec["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": int(user[1]), "runAsGroup": int(user[2]), "fsGroup": int(user[2]),
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert spec["automountServiceAccountToken"] is False
    assert {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec) == set()
    assert all({"configMap", "secret", "projected", "emptyDir"} & set(volume) for volume in spec["volumes"])
    assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
    assert container["resources"]["requests"]["cpu"]
    # A processor that is taken away makes heartbeats late.
    assert "cpu" not in container["resources"]["limits"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")} == {"tmp"}


@every_container
def test_a_process_is_probed_where_it_has_pages_and_never_killed_for_not_being_ready(name: str, component: str) -> None:
    container = release(name).container(component)
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    probes = {
        one: container[f"{one}Probe"] for one in ("startup", "liveness", "readiness") if f"{one}Probe" in container
    }
    assert {probe["httpGet"]["port"] for probe in probes.values()} <= set(ports)
    asked = {one: probe["httpGet"]["path"] for one, probe in probes.items()}
    alive_and_ready = {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    if component in PAGES:
        assert asked == alive_and_ready
        assert list(ports.values()) == [PAGES[component].model_fields["web_port"].default]
    elif component == "console":
        assert asked == dict.fromkeys(alive_and_ready, "/signin")
        assert list(ports.values()) == [ConsoleSettings.model_fields["port"].default]
    else:
        assert (asked, ports) == ({}, {})


def test_kubernetes_waits_longer_than_a_process_takes_to_stop() -> None:
    pods = {component: pod["spec"] for component, pod in release("everything").pods().items()}
    (console,) = pods["console"]["containers"]
    before_the_signal = console["lifecycle"]["preStop"]["sleep"]["seconds"]
    takes = {
        "worker": GIVE_UP_SECONDS,
        "ingest": ingest_run.STOP_SECONDS,
        "push": keyed_queues.STOP_SECONDS,
        "console": before_the_signal + serve.STOP_SECONDS + record_sender.FLUSH_SECONDS,
    }
    for component, seconds in takes.items():
        assert pods[component]["terminationGracePeriodSeconds"] >= seconds + 10, component
    least = schema()["properties"]["worker"]["properties"]["terminationGracePeriodSeconds"]["minimum"]
    assert least > GIVE_UP_SECONDS


def test_a_worker_that_is_replaced_leaves_after_its_successor_has_caught_up() -> None:
    (worker,) = (one for one in release("defaults").of("Deployment") if one["metadata"]["name"] == "tierstream-worker")
    assert worker["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }
    (worker,) = release("least").of("Deployment")
    assert worker["spec"]["strategy"] == {"type": "Recreate"}


def test_a_push_with_a_budget_ends_before_its_successor_starts() -> None:
    types = {}
    for agents in (0, 5):
        found = render({**REDIS, "push": {"enabled": True, "secret": {"name": "webhook"}, "agents": agents}})
        (push,) = (one for one in found.of("Deployment") if one["metadata"]["name"] == "tierstream-push")
        types[agents] = push["spec"]["strategy"]["type"]
        assert ("--agents=5" in found.container("push")["args"]) == (agents == 5)
    assert types == {0: "RollingUpdate", 5: "Recreate"}


def test_workers_and_consoles_are_spread_over_nodes() -> None:
    for component in ("worker", "console"):
        pod = release("defaults").pods()[component]
        (spread,) = pod["spec"]["topologySpreadConstraints"]
        assert spread["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_a_new_version_of_the_chart_alone_starts_no_pod_again() -> None:
    for one in release("everything").of("Deployment"):
        assert {"helm.sh/chart", "app.kubernetes.io/version"} < set(one["metadata"]["labels"])
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(one["spec"]["template"]["metadata"]["labels"])


@pytest.mark.parametrize(
    ("component", "value"),
    [("worker", {"policies": {"mine.toml": "a"}}), ("ingest", {"ingest": {"mappings": {"orders.toml": "a"}}})],
)
def test_a_changed_file_starts_its_pods_again(component: str, value: dict[str, Any]) -> None:
    changed = copy.deepcopy(EVERYTHING)
    for key, part in value.items():
        changed[key] = {**changed[key], **part}
    before, after = (
        one.pods()[component]["metadata"]["annotations"] for one in (release("everything"), render(changed))
    )
    assert before != after


# ---------------------------------------------------------------- the program takes what it is given
SECRETS = {
    "TIERSTREAM_SASL_USERNAME": "lin", "TIERSTREAM_SASL_PASSWORD": "secret", "TIERSTREAM_LOG_SALT": "12345678",
    "TIERSTREAM_REDIS_URL": "rediss://tierstream:secret@redis.example.com:6380/0",
    "TIERSTREAM_PUSH_URL": "https://crm.example.com/alerts", "TIERSTREAM_PUSH_SECRET": "0123456789abcdef",
    "TIERSTREAM_CONSOLE_OIDC_CLIENT_SECRET": "secret",
}  # fmt: skip


def environment(name: str, component: str) -> dict[str, str]:
    """A container's environment, as the kubelet makes it."""
    given = release(name).container(component)["env"]
    names = [one["name"] for one in given]
    assert len(set(names)) == len(names)
    return {one["name"]: SECRETS[one["name"]] if "valueFrom" in one else one["value"] for one in given}


def secret_items(name: str, component: str) -> dict[str, tuple[str, str]]:
    """The files of a container's folder of secrets, each with the Secret and the key that it is."""
    sources = [
        source["secret"]
        for volume in release(name).pods()[component]["spec"]["volumes"]
        if volume["name"] == "secrets"
        for source in volume["projected"]["sources"]
    ]
    return {item["path"]: (source["name"], item["key"]) for source in sources for item in source["items"]}


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], dict[str, BaseSettings]]:
    """Put a container's environment and secrets around this process; returns the settings that it reads."""

    def started(name: str, component: str) -> dict[str, BaseSettings]:
        for variable, value in environment(name, component).items():
            monkeypatch.setenv(variable, value)
        # As the kubelet lays files of Secrets: each a link through ..data into a folder of this state.
        folder = tmp_path / component
        state = folder / "..2026_01_01"
        state.mkdir(parents=True)
        (folder / "..data").symlink_to(state.name)
        for file in secret_items(name, component):
            (state / file).write_text(SECRETS[file.upper()])
            (folder / file).symlink_to(f"..data/{file}")
        monkeypatch.setenv(SECRETS_DIR, str(folder))
        loaders: dict[str, Callable[[], BaseSettings]] = {
            "TIERSTREAM_": load_settings, "TIERSTREAM_REGISTRY_": load_registry_settings,
            "TIERSTREAM_CONSOLE_": load_console_settings, "TIERSTREAM_INGEST_": load_ingest_settings,
        }  # fmt: skip
        if component == "push":
            loaders["TIERSTREAM_PUSH_"] = load_push_settings
        return {prefix: load() for prefix, load in loaders.items()}

    return started


@every_container
def test_the_program_knows_every_variable_of_a_container_and_takes_its_value(
    name: str, component: str, start: Callable[[str, str], dict[str, BaseSettings]]
) -> None:
    read = start(name, component)
    files = [file.upper() for file in secret_items(name, component)]
    variables = [one["name"] for one in release(name).container(component)["env"]]
    assert not set(files) & set(variables)
    for variable in (*files, *variables):
        if variable.startswith("TIERSTREAM_"):
            prefix = next(one for one in KINDS if variable.startswith(one))
            field = variable.removeprefix(prefix).lower()
            assert field in KINDS[prefix].model_fields, variable
            assert field in read[prefix].model_fields_set, variable
    if files:
        (folder,) = (one for one in release(name).container(component)["volumeMounts"] if one["name"] == "secrets")
        assert folder["mountPath"] == DEFAULT_SECRETS_DIR


def test_every_setting_of_the_values_arrives(start: Callable[[str, str], dict[str, BaseSettings]]) -> None:
    worker = start("everything", "worker")["TIERSTREAM_"]
    given = EVERYTHING["settings"]
    assert isinstance(worker, Settings)
    assert {name for name in given if name not in worker.model_fields_set} == set()
    assert worker.policy == "/etc/tierstream/policies/mine.toml"
    assert (worker.shadow, worker.app_version, worker.max_batch) == ("annual-spend", 2, 100_000)
    assert (worker.broker, worker.max_idle, worker.until) == ("kafka-1:9093,kafka-2:9094", 10_000, 1_767_225_600_000)
    assert (worker.sasl_username, worker.create_topics) == ("tierstream", False)
    console = start("everything", "console")["TIERSTREAM_CONSOLE_"]
    assert isinstance(console, ConsoleSettings)
    assert console.oidc_roles == {"leads": "manager"}
    assert (console.is_secure, console.session_idle, console.host) == (True, 600_000, "0.0.0.0")
    push = start("everything", "push")["TIERSTREAM_PUSH_"]
    assert isinstance(push, PushSettings)
    assert (push.patience, push.at_once, push.group) == (300_000, 4, "crm")


def test_a_large_number_is_written_as_people_write_it() -> None:
    """Helm reads 1000000 as a fraction, which it would write 1e+06."""
    found = render({**REDIS, "settings": {"app_version": 1_000_000}}).container("worker")["env"]
    assert {"name": "TIERSTREAM_APP_VERSION", "value": "1000000"} in found


def test_who_creates_topics_is_one_of_three(start: Callable[[str, str], dict[str, BaseSettings]]) -> None:
    assert "topics" in release("defaults").pods()
    assert "topics" not in release("least").pods()
    by_workers = render({**REDIS, "topics": {"createdBy": "workers"}})
    assert "topics" not in by_workers.pods()
    (said,) = (
        one["value"] for one in by_workers.container("worker")["env"] if one["name"] == "TIERSTREAM_CREATE_TOPICS"
    )
    assert said == "true"
    settings = start("defaults", "worker")["TIERSTREAM_"]
    assert isinstance(settings, Settings)
    assert not settings.create_topics


def test_topics_are_created_before_anything_else_is_there() -> None:
    (job,) = release("everything").of("Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    made_here = {one["metadata"]["name"] for one in release("everything").of("ConfigMap", "Secret", "ServiceAccount")}
    spec = job["spec"]["template"]["spec"]
    needed = {volume.get("configMap", {}).get("name") for volume in spec["volumes"]}
    assert made_here
    assert not needed & made_here
    assert secret_items("everything", "topics") == {
        "tierstream_sasl_username": ("kafka-admin", "username"),
        "tierstream_sasl_password": ("kafka-admin", "password"),
    }


def test_links_to_services_would_be_taken_for_settings_and_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes would tell every pod of the namespace where the Service tierstream-console is."""
    (console,) = (one for one in release("defaults").of("Service") if one["metadata"]["name"] == "tierstream-console")
    variable = f"{console['metadata']['name'].upper().replace('-', '_')}_PORT"
    monkeypatch.setenv(variable, "tcp://10.96.0.17:6080")
    with pytest.raises(SettingsError, match="TIERSTREAM_CONSOLE_PORT"):
        load_console_settings()
    for name in VALUES:
        assert {pod["spec"]["enableServiceLinks"] for pod in release(name).pods().values()} == {False}


@every_container
def test_a_container_runs_a_command_that_exists_with_options_that_exist(name: str, component: str) -> None:
    command: Any = typer.main.get_command(app)
    words = list(release(name).container(component)["args"])
    while words and hasattr(command, "get_command") and command.get_command(typer.Context(command), words[0]):
        command = command.get_command(typer.Context(command), words.pop(0))
    assert command.name != "root"
    known = {option for one in command.params for option in one.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known
    assert not hasattr(command, "get_command") or command.invoke_without_command


def files_of(name: str, component: str, folder: str) -> dict[str, str]:
    """The files of a ConfigMap of the chart that a container has in a folder."""
    pod = release(name).pods()[component]
    (volume,) = (
        one["name"] for one in release(name).container(component)["volumeMounts"] if one["mountPath"] == folder
    )
    (source,) = (one["configMap"]["name"] for one in pod["spec"]["volumes"] if one["name"] == volume)
    (files,) = (one["data"] for one in release(name).of("ConfigMap") if one["metadata"]["name"] == source)
    return typing.cast(dict[str, str], files)


def test_a_policy_of_one_s_own_is_where_its_setting_says(tmp_path: Path) -> None:
    for component in ("worker", "console", "push", "ingest", "doctor", "command"):
        (path,) = (
            one["value"]
            for one in release("everything").container(component)["env"]
            if one["name"] == "TIERSTREAM_POLICY"
        )
        files = files_of("everything", component, str(Path(path).parent))
        (tmp_path / Path(path).name).write_text(files[Path(path).name])
    assert models.load(str(tmp_path / "mine.toml")).ref == models.load("annual-spend").ref


def test_the_ingest_finds_the_mappings_that_its_sources_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container = release("everything").container("ingest")
    for file, text in files_of("everything", "ingest", container["workingDir"]).items():
        (tmp_path / file).write_text(text)
    monkeypatch.chdir(tmp_path)
    (sources,) = (one["value"] for one in container["env"] if one["name"] == "TIERSTREAM_INGEST_SOURCES")
    assert set(find_sources(sources.split(), Settings())) == {"erp.orders", "shop.charges"}


# ---------------------------------------------------------------- secrets
@every_release
def test_no_secret_is_written_into_an_object(name: str) -> None:
    assert release(name).of("Secret") == []
    secrets = set(secret_fields())
    assert {"TIERSTREAM_SASL_PASSWORD", "TIERSTREAM_PUSH_SECRET", "TIERSTREAM_CONSOLE_OIDC_CLIENT_SECRET"} < secrets
    for component in release(name).pods():
        for one in release(name).container(component)["env"]:
            assert one["name"] not in secrets or "secretKeyRef" in one["valueFrom"], one["name"]


def test_each_process_has_the_secrets_that_it_needs_as_files_and_no_others() -> None:
    kafka, redis = {"tierstream_sasl_password"}, {"tierstream_redis_url"}
    push = {"tierstream_push_url", "tierstream_push_secret"}
    expected = dict.fromkeys(("worker", "console", "doctor", "command"), kafka | redis)
    expected |= {"push": kafka | redis | push, "ingest": kafka, "topics": {"tierstream_sasl_username"} | kafka}
    assert {one: set(secret_items("everything", one)) for one in release("everything").pods()} == expected
    assert secret_items("everything", "worker")["tierstream_redis_url"] == ("redis-login", "address")
    assert secret_items("managed", "worker") == {
        "tierstream_sasl_username": ("tierstream-kafka", "username"),
        "tierstream_sasl_password": ("tierstream-kafka", "password"),
        "tierstream_redis_url": ("tierstream-redis", "url"),
    }
    assert all(secret_items("defaults", one) == {} for one in release("defaults").pods())


def test_people_and_keys_come_from_a_secret_that_may_change() -> None:
    pod, container = release("managed").pods()["console"]["spec"], release("managed").container("console")
    (volume,) = (one for one in pod["volumes"] if one["name"] == "people")
    assert volume["secret"] == {"secretName": "tierstream-people", "defaultMode": 0o440}
    (mount,) = (one for one in container["volumeMounts"] if one["name"] == "people")
    # A file that is mounted by subPath stays as it was.
    assert "subPath" not in mount
    values = {one["name"]: one.get("value") for one in container["env"]}
    for variable, file in (("USERS", "console-users.toml"), ("KEYS", "console-keys.toml")):
        assert values[f"TIERSTREAM_CONSOLE_{variable}_FILE"] == f"{mount['mountPath']}/{file}"


# ---------------------------------------------------------------- who finds whom
def selected(name: str, selector: Mapping[str, str]) -> set[str]:
    """The components whose pods have these labels."""
    return {
        component
        for component, pod in release(name).pods().items()
        if selector.items() <= pod["metadata"]["labels"].items()
    }


@every_release
def test_every_selector_finds_the_pods_of_its_component_and_no_others(name: str) -> None:
    found = release(name)
    for one in found.of("Deployment", "PodDisruptionBudget"):
        component = one["metadata"]["labels"]["app.kubernetes.io/component"]
        assert selected(name, one["spec"]["selector"]["matchLabels"]) == {component}
    for one in found.of("Service"):
        component = one["metadata"]["labels"]["app.kubernetes.io/component"]
        assert selected(name, one["spec"]["selector"]) == {component}
        ports = {port["name"]: port["containerPort"] for port in found.container(component)["ports"]}
        assert {port["targetPort"]: port["port"] for port in one["spec"]["ports"]} == ports
    guarded = {one["metadata"]["name"] for one in found.of("PodDisruptionBudget")}
    # Push may stop at any time: alerts wait on their topic.
    assert guarded == {one["metadata"]["name"] for one in found.of("Deployment")} - {"tierstream-push"}


def test_prometheus_finds_workers_and_ingest_and_their_jobs_have_names_of_their_own() -> None:
    found = release("everything")
    jobs = {}
    for one in found.of("ServiceMonitor"):
        labels = one["spec"]["selector"]["matchLabels"]
        services = [
            service for service in found.of("Service") if labels.items() <= service["metadata"]["labels"].items()
        ]
        (service,), (endpoint,) = services, one["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        # A worker that restores is not ready, and is what one wants to see.
        assert service["spec"]["publishNotReadyAddresses"] is True
        (relabelled,) = endpoint["relabelings"]
        assert relabelled["targetLabel"] == "job"
        jobs[service["metadata"]["name"]] = relabelled["replacement"]
    assert jobs == {"tierstream-worker": "shop", "tierstream-ingest": "shop-ingest"}


def test_the_rules_are_those_of_the_page_with_the_job_of_the_installation() -> None:
    text = (ROOT / "docs/observability/alerts.yml").read_text("utf-8")
    (rules,) = (one["spec"] for one in release("managed").of("PrometheusRule"))
    assert rules == yaml.safe_load(text)
    (others,) = (one["spec"] for one in release("everything").of("PrometheusRule"))
    assert others == yaml.safe_load(text.replace('job="tierstream"', 'job="shop"'))
    assert others != rules


def test_the_ingress_leads_to_the_console_at_its_address() -> None:
    (ingress,) = release("everything").of("Ingress")
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == "tiers.example.com"
    assert ingress["spec"]["tls"] == [{"hosts": ["tiers.example.com"], "secretName": "tiers-tls"}]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    (service,) = (one for one in release("everything").of("Service") if one["metadata"]["name"] == backend["name"])
    assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}


# ---------------------------------------------------------------- NetworkPolicy
def policy_of(name: str, component: str) -> dict[str, Any]:
    """The one NetworkPolicy of a component's pods."""
    labels = release(name).pods()[component]["metadata"]["labels"]
    (found,) = (
        one["spec"]
        for one in release(name).of("NetworkPolicy")
        if one["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    )
    assert found["policyTypes"] == ["Ingress", "Egress"]
    return typing.cast(dict[str, Any], found)


def reaches(name: str, component: str) -> set[tuple[int, str]]:
    return {(port["port"], port["protocol"]) for rule in policy_of(name, component)["egress"] for port in rule["ports"]}


DNS = {(53, "UDP"), (53, "TCP")}
EXTRA = {(8081, "TCP")}


@pytest.mark.parametrize(
    ("component", "ports"),
    [
        ("worker", {6379, 6380, 4318}), ("console", {6379, 6380, 4318, 443}), ("push", {6379, 6380, 80, 443}),
        ("ingest", set()), ("topics", set()), ("doctor", {6379, 6380, 6066}), ("command", {6379, 6380, 6066, 80, 443}),
    ],
)  # fmt: skip
def test_a_pod_reaches_what_it_needs_and_nothing_else(component: str, ports: set[int]) -> None:
    kafka = {9093, 9094}
    assert reaches("everything", component) == DNS | EXTRA | {(port, "TCP") for port in kafka | ports}


def test_without_a_secret_the_port_of_redis_is_that_of_its_address() -> None:
    found = render({"redis": {"url": "redis://redis.example.com:7000/1"}, "networkPolicy": {"enabled": True}})
    (worker,) = (one for one in found.of("NetworkPolicy") if one["metadata"]["name"] == "tierstream-worker")
    assert [port["port"] for port in worker["spec"]["egress"][1]["ports"]] == [9092, 7000]


def test_only_those_who_are_named_reach_a_pod() -> None:
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    for component, port in (("worker", 6066), ("ingest", 6067)):
        (rule,) = policy_of("everything", component)["ingress"]
        assert rule["ports"] == [{"port": port, "protocol": "TCP"}]
        assert rule["from"][0] == monitoring
        ours = [one["podSelector"]["matchLabels"] for one in rule["from"][1:]]
        assert [selected("everything", one) for one in ours] == [{"doctor"}, {"command"}]
    (rule,) = policy_of("everything", "console")["ingress"]
    assert rule == {"ports": [{"port": 6080, "protocol": "TCP"}], "from": EVERYTHING["networkPolicy"]["consoleFrom"]}
    for component in ("push", "topics", "doctor", "command"):
        assert "ingress" not in policy_of("everything", component)
    (rule,) = policy_of("least", "worker")["ingress"]
    assert len(rule["from"]) == 2
