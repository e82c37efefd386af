"""The Helm chart rendered by Helm itself, for several installations."""

from __future__ import annotations

import copy
import json
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import helm_python as helm
import yaml
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from streams.settings import IngestSettings, PushSettings, RegistrySettings, Settings
from streams.web.settings import ConsoleSettings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "kubernetes"
CHART = FOLDER / "tierstream"
KINDS: dict[str, type[BaseSettings]] = {
    "TIERSTREAM_CONSOLE_": ConsoleSettings,
    "TIERSTREAM_PUSH_": PushSettings,
    "TIERSTREAM_INGEST_": IngestSettings,
    "TIERSTREAM_REGISTRY_": RegistrySettings,
    "TIERSTREAM_": Settings,
}
"""The settings by their prefixes, the longest first."""

POLICY = (ROOT / "models" / "policies" / "annual-spend.toml").read_text("utf-8")
MAPPING = (
    'topic = "purchases"\n[columns]\nevent_id = "id"\ncustomer_id = "buyer"\namount = "total"\noccurred_at = "at"\n'
)
REDIS = {"redis": {"url": "redis://redis:6379/0"}}
EVERYTHING: dict[str, Any] = {
    "image": {"repository": "images.example.com/tierstream", "digest": f"sha256:{'ab' * 32}", "pullSecrets": ["images"]},
    "kafka": {
        "brokers": "kafka-1:9093, kafka-2:9094",
        "securityProtocol": "SASL_SSL",
        "sasl": {"mechanism": "SCRAM-SHA-256", "username": "tierstream", "secret": {"name": "kafka-login"}},
        "caSecret": {"name": "kafka-ca"},
    },
    "redis": {"urlSecret": {"name": "redis-login", "key": "address"}},
    "settings": {
        "policy": "mine.toml", "shadow": "annual-spend", "app_id": "shop", "app_version": 2, "topic_prefix": "shop-",
        "partitions": 16, "replication": 2, "delivery": "at-least-once", "clock": "event", "until": "2026-01-01T00:00:00Z",
        "max_batch": 100000, "max_idle": "10s", "profile_interval": "2s", "commit_interval": "500ms",
        "session_timeout": "20s", "log_level": "DEBUG", "log_format": "text", "tracing_endpoint": "http://collector:4318",
    },
    "policies": {"mine.toml": POLICY},
    "topics": {"saslSecret": {"name": "kafka-admin"}},
    "worker": {"replicas": 3, "env": [{"name": "TIERSTREAM_LOG_SALT", "valueFrom": {"secretKeyRef": {"name": "salt", "key": "salt"}}}]},
    "console": {
        "replicas": 3,
        "filesSecret": "people",
        "settings": {
            "url": "https://tiers.example.com:8443", "proxies": "10.0.0.0/8", "session_idle": "10m", "session_length": "8h",
            "action_timeout": "5s", "oidc_issuer": "https://login.example.com", "oidc_client_id": "tiers",
            "oidc_scope": "openid", "oidc_name_claim": "email", "oidc_roles_claim": "roles", "oidc_roles": {"leads": "manager"},
        },
        "ingress": {"enabled": True, "className": "nginx", "annotations": {"a": "b"}, "tlsSecret": "tiers-tls"},
        "env": [{"name": "TIERSTREAM_CONSOLE_OIDC_CLIENT_SECRET", "valueFrom": {"secretKeyRef": {"name": "oidc", "key": "secret"}}}],
    },
    "push": {
        "enabled": True, "secret": {"name": "webhook"}, "changes": ["opened", "lost"], "agents": 5,
        "settings": {"patience": "5m", "timeout": "5s", "at_once": 4, "group": "crm"},
    },
    "ingest": {
        "enabled": True, "replicas": 2, "mappings": {"orders.toml": MAPPING},
        "settings": {"sources": "erp.orders=orders.toml shop.charges=stripe-charges", "group": "erp", "since": "now"},
        "env": [{"name": "TIERSTREAM_REGISTRY_URL", "value": "https://registry:8081"}, {"name": "PYTHONFAULTHANDLER", "value": "1"}],
    },
    "command": {"args": ["rebuild", "--to-version", 3]},
    "pods": {
        "serviceAccountName": "tierstream", "annotations": {"a": "b"}, "labels": {"team": "loyalty"},
        "nodeSelector": {"kubernetes.io/arch": "amd64"}, "priorityClassName": "high",
        "tolerations": [{"key": "streams", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "disk", "operator": "NotIn", "values": ["slow"]}]}]}}},
    },
    "serviceMonitor": {"enabled": True, "job": "shop", "labels": {"release": "monitoring"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "monitoring"}},
    "networkPolicy": {
        "enabled": True,
        "consoleFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
        "extraEgress": [{"ports": [{"port": 8081, "protocol": "TCP"}]}],
    },
}  # fmt: skip
VALUES: dict[str, dict[str, Any]] = {
    "defaults": REDIS,
    "everything": EVERYTHING,
    "managed": yaml.safe_load((FOLDER / "managed.yaml").read_text("utf-8")),
    "least": {
        "console": {"enabled": False}, "topics": {"createdBy": "none"}, "worker": {"replicas": 1, "strategy": "Recreate"},
        "networkPolicy": {"enabled": True, "metricsFrom": []},
    },
}  # fmt: skip


class Rendered(NamedTuple):
    """What Helm made of values."""

    objects: list[dict[str, Any]]
    notes: str
    text: str

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [one for one in self.objects if one["kind"] in kinds]

    def pods(self) -> dict[str, dict[str, Any]]:
        """The pods, by their components: what has a `spec` with containers."""
        found = {one["metadata"]["name"]: one for one in self.of("Pod")}
        found |= {one["metadata"]["name"]: one["spec"]["template"] for one in self.of("Deployment", "Job")}
        return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one for one in found.values()}

    def container(self, component: str) -> dict[str, Any]:
        (found,) = self.pods()[component]["spec"]["containers"]
        return typing.cast(dict[str, Any], found)


@cache
def chart() -> helm.Chart:
    return helm.Chart.load(CHART)


def render(values: Mapping[str, Any]) -> Rendered:
    """As an installation does: values are held against the schema before templates have them."""
    given = copy.deepcopy(dict(values))
    chart().validate_schema(given)
    files = chart().render(given, name="tierstream", namespace="loyalty")
    notes = next(text for path, text in files.items() if path.endswith("NOTES.txt"))
    text = "\n---\n".join(text for path, text in files.items() if path.endswith(".yaml"))
    return Rendered([one for one in yaml.safe_load_all(text) if one], notes, text)


@cache
def release(name: str) -> Rendered:
    return render(VALUES[name])


def secret_fields() -> Iterator[str]:
    for prefix, kind in KINDS.items():
        for field, hint in typing.get_type_hints(kind).items():
            if SecretStr in (hint, *typing.get_args(hint)):
                yield f"{prefix}{field.upper()}"


def schema() -> dict[str, Any]:
    return typing.cast(dict[str, Any], json.loads((CHART / "values.schema.json").read_text("utf-8")))
