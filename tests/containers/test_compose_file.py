"""What docker-compose.yml says, held against what it names, by the rules that every service of it keeps. No engine is needed;
test_compose.py runs it.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.ingest.run import STOP_SECONDS as INGEST_STOP_SECONDS
from streams.settings import IngestSettings, PushSettings, Settings, SettingsFromOutside
from streams.web.serve import STOP_SECONDS as CONSOLE_STOP_SECONDS
from streams.web.settings import ConsoleSettings
from streams.worker.faust_app import GIVE_UP_SECONDS
from tests.builders import ROOT
from tests.containers.compose_cli import compose_command

FILE = ROOT / "docker-compose.yml"
CORE = {"kafka", "redis", "topics", "worker", "hello", "console"}
OURS = {"topics", "worker", "hello", "console", "ingest", "push"}
PROFILES = {"monitoring": {"prometheus", "grafana"}, "ingest": {"ingest"}, "push": {"push"}}
KINDS: tuple[type[SettingsFromOutside], ...] = (Settings, ConsoleSettings, PushSettings, IngestSettings)
FOR_COMPOSE = {"TIERSTREAM_EXTRAS", "TIERSTREAM_CONFIG", "TIERSTREAM_SECRETS"}
"""Variables that the file itself reads, and no process."""


def compose(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Docker Compose on the file, in an environment without settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TIERSTREAM_", "COMPOSE_"))}
    command = [*compose_command(), "--file", str(FILE), "--env-file", os.devnull, *words]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=60, check=False)


def services(**environment: str) -> dict[str, Any]:
    """All services as Docker Compose understands them: anchors merged, variables filled in, paths and durations written out."""
    told = compose("--profile", "*", "config", "--format", "json", **environment)
    assert told.returncode == 0, told.stderr
    found: dict[str, Any] = json.loads(told.stdout)["services"]
    return found


@pytest.fixture(scope="module")
def read() -> dict[str, Any]:
    return services()


def written() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
    return found


def seconds(duration: str) -> float:
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([hms])", duration))


def test_docker_compose_takes_the_file_without_a_warning() -> None:
    told = compose("--profile", "*", "config", "--quiet")
    assert (told.returncode, told.stderr) == (0, "")


def test_without_a_profile_there_is_all_that_a_first_hour_needs_and_each_profile_adds_its_services() -> None:
    found = {profile: set(compose("--profile", profile, "config", "--services").stdout.split()) for profile in PROFILES}
    assert set(compose("config", "--services").stdout.split()) == CORE
    assert found == {profile: CORE | more for profile, more in PROFILES.items()}


def test_a_fresh_checkout_has_every_file_that_is_mounted(read: dict[str, Any]) -> None:
    mounted = {
        Path(one["source"]) for service in read.values() for one in service.get("volumes", []) if one["type"] == "bind"
    }
    assert len(mounted) > 4
    assert [path for path in mounted if not path.exists()] == []
    in_git = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert all(any(name.startswith(str(path.relative_to(ROOT))) for name in in_git) for path in mounted)


def test_folder_and_secrets_of_ones_own_may_be_elsewhere(tmp_path: Path) -> None:
    read = services(TIERSTREAM_CONFIG=str(tmp_path / "mine"))
    for name in OURS:
        own = [one for one in read[name]["volumes"] if one["target"] == "/etc/tierstream"]
        assert [(one["source"], one.get("read_only")) for one in own] == [(str(tmp_path / "mine"), True)]
        assert read[name]["working_dir"] == "/etc/tierstream"
    told = compose("--profile", "*", "config", "--format", "json", TIERSTREAM_SECRETS=str(tmp_path / "hidden"))
    assert json.loads(told.stdout)["secrets"]["tierstream_push_secret"]["file"] == str(
        tmp_path / "hidden" / "tierstream_push_secret"
    )


def test_secrets_are_files_with_names_of_settings_and_no_environment_has_one(read: dict[str, Any]) -> None:
    of_settings = {
        (kind.model_config["env_prefix"] + name).lower()
        for kind in KINDS
        for name, field in kind.model_fields.items()
        if "SecretStr" in str(field.annotation)
    }
    given = {name: [one["target"] for one in read[name].get("secrets", [])] for name in OURS}
    assert given == {name: [] for name in OURS} | {"push": ["/run/secrets/tierstream_push_secret"]}
    assert "tierstream_push_secret" in of_settings
    for name in OURS:
        assert not of_settings & {variable.lower() for variable in read[name]["environment"]}


def test_nobody_can_sign_in_to_grafana(read: dict[str, Any]) -> None:
    environment = read["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"  # whose password would be the usual one
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"  # also for an account that an earlier version has made
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_every_variable_of_a_service_of_ours_is_a_setting(read: dict[str, Any]) -> None:
    known = {(kind.model_config["env_prefix"] + name).upper() for kind in KINDS for name in kind.model_fields}
    assert {variable for name in OURS for variable in read[name]["environment"]} <= known
    asked_for = set(re.findall(r"\$\{(\w+)", FILE.read_text("utf-8")))
    assert asked_for - FOR_COMPOSE <= known
    assert asked_for >= FOR_COMPOSE


def test_settings_of_the_file_env_reach_every_service_of_ours(tmp_path: Path) -> None:
    shutil.copy(FILE, tmp_path)
    settings = {
        "MAX_IDLE": "7s",
        "PARTITIONS": "3",
        "PUSH_URL": "https://example.com/a",
        "INGEST_SOURCES": "shop=shop.toml",
    }
    (tmp_path / ".env").write_text("".join(f"TIERSTREAM_{name}={value}\n" for name, value in settings.items()))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TIERSTREAM_", "COMPOSE_"))}
    command = [*compose_command(), "--profile", "*", "config", "--format", "json"]
    told = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=60, check=True)
    read = json.loads(told.stdout)["services"]
    for name in OURS:
        environment = read[name]["environment"]
        assert (environment["TIERSTREAM_MAX_IDLE"], environment["TIERSTREAM_PARTITIONS"]) == ("7s", "3")
    assert read["push"]["environment"]["TIERSTREAM_PUSH_URL"] == "https://example.com/a"
    # A worker would read the sources beside its own work, as a member of the same group.
    sources = {name: read[name]["environment"]["TIERSTREAM_INGEST_SOURCES"] for name in ("ingest", "worker")}
    assert sources == {"ingest": "shop=shop.toml", "worker": ""}


def test_every_service_is_bounded_in_memory_processes_and_log(read: dict[str, Any]) -> None:
    for name, service in read.items():
        assert 256 << 20 <= int(service["mem_limit"]) <= 2 << 30, name
        assert 0 < service["pids_limit"] <= 512, name
        assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}, name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_services_of_ours_have_no_privilege_and_write_nowhere_but_where_they_have_to(read: dict[str, Any]) -> None:
    for name in OURS:
        service = read[name]
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is service["init"] is True, name
        assert "cap_add" not in service and "privileged" not in service and "user" not in service, name
        assert [one.partition(":")[0] for one in service["tmpfs"]] == ["/tmp"], name
        writable = {one["target"] for one in service["volumes"] if not one.get("read_only")}
        assert writable == ({"/var/lib/tierstream"} if name == "console" else set()), name


def test_ports_are_those_of_this_machine_alone(read: dict[str, Any]) -> None:
    published = {name: [port["published"] for port in service.get("ports", [])] for name, service in read.items()}
    assert {name for name, ports in published.items() if ports} == {"kafka", "console", "prometheus", "grafana"}
    assert all(port["host_ip"] == "127.0.0.1" for service in read.values() for port in service.get("ports", []))


def test_images_have_whole_versions_and_digests(read: dict[str, Any]) -> None:
    others = {name: service["image"] for name, service in read.items() if name not in OURS}
    for image in others.values():
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+(-alpine)?@sha256:[0-9a-f]{64}", image), image
    assert {read[name]["image"] for name in OURS} == {"tierstream:local"}


def test_a_service_is_given_longer_to_stop_than_it_gives_itself(read: dict[str, Any]) -> None:
    grace = {name: seconds(read[name].get("stop_grace_period", "10s")) for name in OURS}
    assert grace["worker"] >= GIVE_UP_SECONDS + 5
    assert grace["ingest"] >= INGEST_STOP_SECONDS + 5
    assert grace["console"] >= CONSOLE_STOP_SECONDS + 5


def test_up_waits_for_each_service_in_turn_and_no_end_of_one_is_taken_for_a_failure(read: dict[str, Any]) -> None:
    depends = {
        name: {other: one["condition"] for other, one in service.get("depends_on", {}).items()}
        for name, service in read.items()
    }
    healthy, ended = "service_healthy", "service_completed_successfully"
    assert depends["topics"] == {"kafka": healthy}
    assert depends["worker"] == {"topics": ended, "redis": healthy}
    assert depends["hello"] == {"worker": healthy}
    assert depends["console"] == {"redis": healthy, "hello": ended}
    for name, service in read.items():
        if (
            service.get("restart") == "no"
        ):  # `up --wait` takes its end for a failure, unless another service waits for it
            assert any(of.get(name) == ended for of in depends.values()), name
        elif name != "push":  # it has no pages
            assert "healthcheck" in service, name


def test_what_hello_says_are_commands_and_addresses_that_there_are(read: dict[str, Any]) -> None:
    from streams.cli import COMMANDS

    python, flags, program = read["hello"]["entrypoint"]
    assert (python, flags) == ("python", "-ISc")
    said = subprocess.run(["python3", flags, program], capture_output=True, text=True, check=True).stdout
    assert f"http://127.0.0.1:{read['console']['ports'][0]['published']}" in said
    commands = re.findall(r"docker compose exec (\w+) tierstream ([a-z-]+)", said)
    assert len(commands) == said.count("docker compose") == 4
    known = {name for below in COMMANDS.values() for name in below}
    assert all(service in read and command in known for service, command in commands)


# ------------------------------------------------------------ health
class _Page(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def page(status: int) -> Iterator[http.server.HTTPServer]:
    handler = type("Page", (_Page,), {"status": status})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def check(service: dict[str, Any], old_port: int, port: int) -> int:
    """The exit status of a service's health check, which is pointed to another port."""
    kind, *command = service["healthcheck"]["test"]
    assert kind == "CMD"
    assert sum(str(old_port) in word for word in command) == 1
    aimed = [word.replace("$$", "$").replace(str(old_port), str(port)) for word in command]
    return subprocess.run(aimed, capture_output=True, timeout=20, check=False).returncode


@pytest.mark.parametrize(
    ("name", "port", "path"),
    [
        ("worker", Settings.model_fields["web_port"].default, "/healthz"),
        ("ingest", IngestSettings.model_fields["web_port"].default, "/healthz"),
        ("console", ConsoleSettings.model_fields["port"].default, "/signin"),
    ],
)
def test_a_service_is_healthy_if_its_page_answers_well(read: dict[str, Any], name: str, port: int, path: str) -> None:
    with page(200) as well, page(503) as ill:
        assert check(read[name], port, well.server_port) == 0
        assert check(read[name], port, ill.server_port) != 0
        assert well.asked == ill.asked == [path]  # type: ignore[attr-defined]
    assert check(read[name], port, well.server_port) != 0  # nobody listens there any more
