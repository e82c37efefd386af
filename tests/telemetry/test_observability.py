"""Dashboard, alert rules and compose file fit the metrics of a worker, and docs/monitoring.md."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import models
from streams.settings import Settings, load_settings
from streams.telemetry.stats import OUTCOMES, STEPS
from streams.worker.app import create_app
from tests.observability import FOLDER, alert_rules, dashboard, expressions, labels_used, names_used

ROOT = Path(__file__).parents[2]
OF_PROMETHEUS = {"job", "instance", "le"}
"""Labels that Prometheus adds when it scrapes, and that of histograms."""


def metrics_of_a_worker() -> tuple[set[str], set[str]]:
    """The names of a worker's samples, and the names of their labels."""
    app = create_app(load_settings(redis_url="redis://127.0.0.1:6379/0"), models.load("annual-spend"))
    names, labels = set(), set()
    for family in app.stats.registry.collect():
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        names |= {family.name + ending for ending in endings}
        labels |= set(getattr(family, "_labelnames", ())) | {name for one in family.samples for name in one.labels}
    # Counters that have not counted anything yet have no samples with labels.
    for collector in vars(app.stats).values():
        labels |= set(getattr(collector, "_labelnames", ()))
    return names, labels


def test_a_worker_has_every_metric_of_the_dashboard_and_the_alerts() -> None:
    assert len(names_used()) > 25
    assert names_used() - metrics_of_a_worker()[0] == set()


def test_a_worker_has_every_label_of_their_expressions() -> None:
    assert labels_used() - metrics_of_a_worker()[1] - OF_PROMETHEUS == set()


def test_the_outcomes_and_steps_in_their_expressions_exist() -> None:
    together = "\n".join(expressions())
    for label, values in (("outcome", OUTCOMES), ("step", STEPS)):
        chosen = {part.split('"')[1] for part in together.split(label)[1:] if part.startswith(('="', '!="'))}
        assert chosen
        assert chosen <= set(values)


def test_the_dashboard_shows_every_metric_of_a_worker() -> None:
    shown = "\n".join(target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", []))
    ours = {
        name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in metrics_of_a_worker()[0]
    }
    assert {name for name in ours if name.startswith("tierstream_") and name not in shown} == set()


def test_panels_have_titles_of_their_own_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["title"] for panel in panels}) == len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.parametrize("rule", alert_rules(), ids=lambda rule: rule["alert"])
def test_an_alert_has_a_severity_and_a_runbook(rule: dict[str, object]) -> None:
    name, labels, annotations = str(rule["alert"]), rule["labels"], rule["annotations"]
    assert labels in ({"severity": "critical"}, {"severity": "warning"})
    assert isinstance(annotations, dict)
    assert annotations["summary"]
    assert annotations["runbook"] == f"docs/monitoring.md#{name.lower()}"
    assert f"\n#### {name}\n" in (ROOT / "docs" / "monitoring.md").read_text("utf-8")


def test_the_compose_file_has_prometheus_and_grafana_as_an_option() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    optional = {name for name, service in services.items() if service.get("profiles") == ["monitoring"]}
    assert optional == {"prometheus", "grafana"}
    for name in optional:
        sources = [volume.split(":")[0] for volume in services[name]["volumes"]]
        assert all((ROOT / source).is_file() for source in sources if source.startswith("./"))
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])
    scraped = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))["scrape_configs"][0]
    assert scraped["job_name"] == "tierstream"
    assert scraped["dns_sd_configs"] == [
        {"names": ["worker"], "type": "A", "port": Settings.model_fields["web_port"].default, "refresh_interval": "10s"}
    ]
    assert services["worker"]["environment"]["TIERSTREAM_WEB_HOST"] == "0.0.0.0"
    assert services["worker"]["environment"]["TIERSTREAM_BROKER"] == "kafka:9092"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, which comes with Prometheus")
def test_the_alerts_fire_on_their_causes_and_are_silent_on_an_ordinary_day() -> None:
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]):
        done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
