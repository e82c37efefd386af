"""tierstream doctor without a broker: policy, Redis, clocks, a worker, and settings that can't be read."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client
from confluent_kafka.admin import PartitionMetadata, TopicMetadata
from typer.testing import CliRunner

from streams.broker.embedded import EmbeddedRedis
from streams.cli import app
from streams.doctor import checks as doctor
from streams.doctor.finding import Finding
from streams.doctor.kafka import _check_replicas, _check_rights, _check_transactions
from streams.settings import load_settings
from tests.models.test_parameters import FITTED, write

NOBODY = "127.0.0.1:1"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def redis_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(redis_of_all: EmbeddedRedis) -> Iterator[EmbeddedRedis]:
    """A newly installed Redis; after the test its configuration is restored."""
    yield redis_of_all
    client = redis_client.Redis.from_url(redis_of_all.url)
    client.replicaof("NO", "ONE")
    client.config_set("maxmemory", 0)
    client.config_set("maxmemory-policy", "noeviction")
    client.close()


def of_redis(url: str) -> dict[str, Finding]:
    return {one.about: one for one in doctor._check_redis(load_settings(redis_url=url))}


def of_policy(policy: str | Path) -> dict[str, Finding]:
    return {one.about: one for one in doctor._check_policy(load_settings(policy=str(policy)))[1]}


# ---------------------------------------------------------------- the command
def test_problems_are_shown_with_remedies_and_the_status_is_1() -> None:
    done = CliRunner().invoke(app, ["doctor", "--broker", NOBODY, "--policy", "annual-spend"])
    assert done.exit_code == 1
    assert "problem  broker        no Kafka answers at 127.0.0.1:1" in done.output
    assert "-> Start it, or set TIERSTREAM_BROKER" in done.output
    assert done.output.splitlines()[-1] == "1 problem, 2 warnings"


def test_programs_get_the_same_as_json() -> None:
    done = CliRunner().invoke(app, ["doctor", "--broker", NOBODY, "--policy", "nobodys", "--json"])
    assert done.exit_code == 1
    output = json.loads(done.output)
    assert not output["ok"]
    assert [one["about"] for one in output["findings"] if one["status"] == "problem"] == ["policy", "broker"]
    assert all(one["do"] for one in output["findings"] if one["status"] != "ok")


def test_settings_that_can_not_be_read_are_a_problem_each() -> None:
    wrong = {"TIERSTREAM_PARTITIONS": "many", "TIERSTREAM_CLOCK": "sundial"}
    done = CliRunner().invoke(app, ["doctor", "--json"], env=wrong)
    assert done.exit_code == 1
    named = [one["what"].partition(":")[0] for one in json.loads(done.output)["findings"]]
    assert named == ["TIERSTREAM_PARTITIONS", "TIERSTREAM_CLOCK"]


def test_another_server_at_the_address_is_reported_as_no_broker() -> None:
    # In a process of its own: a client that gives up on a broker leaves its sockets to the garbage collector.
    with pages({}) as url:
        command = [sys.executable, "-m", "streams.cli", "doctor", "--broker", url.removeprefix("http://"), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    [found] = [one for one in json.loads(done.stdout)["findings"] if one["about"] == "broker"]
    assert found["status"] == "problem"
    assert "does not answer as Kafka would" in found["what"]
    assert not done.stderr


# ---------------------------------------------------------------- policy
def test_parameters_fitted_on_other_customers_are_a_warning() -> None:
    found = of_policy("annual-spend")
    assert found["policy"].status == "ok"
    assert found["fit"].status == "warning"
    assert "CDNOW" in found["fit"].what


def test_a_fit_is_fine_until_it_is_old(tmp_path: Path) -> None:
    assert of_policy(write(tmp_path, FITTED.as_toml()))["fit"].what.startswith(
        "the risk score was fitted on a log that ended"
    )
    recently = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(time.time() - 7 * 86_400))
    fresh = of_policy(write(tmp_path, FITTED.as_toml().replace("2024-12-01T00:00:00Z", recently)))
    assert fresh["fit"].status == "ok"


def test_a_policy_that_does_not_load_is_a_problem_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("id = ")
    found = of_policy(tmp_path / "mine.toml")["policy"]
    assert found.status == "problem"
    assert "line 1" in found.what


# ---------------------------------------------------------------- Redis
def test_a_sound_redis_is_ok(redis: EmbeddedRedis) -> None:
    found = of_redis(redis.url)
    assert {about: one.status for about, one in found.items()} == {"redis": "ok", "memory": "ok", "clock": "ok"}


def test_a_redis_that_drops_keys_is_a_problem_once_maxmemory_is_set(redis: EmbeddedRedis) -> None:
    client = redis_client.Redis.from_url(redis.url)
    client.config_set("maxmemory-policy", "allkeys-lru")
    assert of_redis(redis.url)["memory"].status == "warning"
    client.config_set("maxmemory", 200_000_000)
    assert of_redis(redis.url)["memory"].status == "problem"
    client.config_set("maxmemory-policy", "noeviction")
    assert of_redis(redis.url)["memory"].status == "ok"
    client.set("much", bytes(4_000_000))  # so large that the memory of connections does not matter
    client.config_set("maxmemory", client.info()["used_memory"] + 50_000)
    assert "of maxmemory is used" in of_redis(redis.url)["memory"].what
    client.delete("much")
    client.close()


def test_a_replica_is_a_problem(redis: EmbeddedRedis) -> None:
    client = redis_client.Redis.from_url(redis.url)
    client.replicaof("127.0.0.1", 1)
    assert of_redis(redis.url)["redis"].status == "problem"
    client.close()


def test_a_user_without_rights_on_redis_is_a_warning(redis: EmbeddedRedis) -> None:
    client = redis_client.Redis.from_url(redis.url)
    client.execute_command("ACL", "SETUSER", "shy", "on", ">secret", "+ping", "~*")
    found = of_redis(redis.url.replace("unix://", "unix://shy:secret@"))["redis"]
    assert found.status == "warning"
    assert "may not query Redis" in found.what
    client.close()


def test_the_examination_changes_nothing_in_redis(redis: EmbeddedRedis) -> None:
    client = redis_client.Redis.from_url(redis.url)
    client.set("tierstream:customer:ada", "as it is")
    before = client.info("persistence")["rdb_changes_since_last_save"]
    of_redis(redis.url)
    assert client.info("persistence")["rdb_changes_since_last_save"] == before
    client.close()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "http://127.0.0.1:6379"])
def test_a_redis_that_can_not_be_reached_is_a_problem(url: str) -> None:
    assert of_redis(url)["redis"].status == "problem"


@pytest.mark.parametrize(
    ("ahead_seconds", "status"), [(0.5, "ok"), (-10, "warning"), (10, "warning"), (-600, "problem")]
)
def test_a_difference_of_clocks_is_reported(
    redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, ahead_seconds: float, status: str
) -> None:
    monkeypatch.setattr(doctor, "now_seconds", lambda: time.time() - ahead_seconds)
    found = of_redis(redis.url)["clock"]
    assert found.status == status
    if status != "ok":
        assert ("ahead of" if ahead_seconds > 0 else "behind") in found.what


# ---------------------------------------------------------------- a worker
@contextmanager
def pages(answers: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A server that answers as a worker would."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


READY = {"ready": True, "policy": "annual-spend@1", "customers": 3, "events": 4, "waits_for": []}
WORKERS: list[tuple[dict[str, Any], dict[str, Any], list[tuple[str, str]]]] = [
    ({"alive": True}, READY, [("worker", "ok"), ("clock", "ok")]),
    ({"alive": True}, READY | {"ready": False, "waits_for": ["purchases"]}, [("worker", "warning"), ("clock", "ok")]),
    ({"alive": False, "failure": "no space"}, READY, [("worker", "problem"), ("clock", "ok")]),
    ({"alive": True}, READY | {"policy": "other@7"}, [("worker", "ok"), ("worker", "problem"), ("clock", "ok")]),
]


@pytest.mark.parametrize(("health", "stats", "wanted"), WORKERS)
def test_a_workers_health_stats_and_policy_are_examined(
    health: dict[str, Any], stats: dict[str, Any], wanted: list[tuple[str, str]]
) -> None:
    settings = load_settings(policy="annual-spend")
    policy, _ = doctor._check_policy(settings)
    with pages({"/healthz": health, "/stats": stats}) as url:
        found = list(doctor._check_worker(url, settings, policy))
    assert [(one.about, one.status) for one in found] == wanted


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "not a url", "http://"])
def test_a_worker_that_does_not_answer_is_a_problem(url: str) -> None:
    found = list(doctor._check_worker(url, load_settings(), None))
    assert [one.status for one in found] == ["problem"]


# ---------------------------------------------------------------- clusters that one node can't imitate
def topic(replicas: int, in_sync: int, leader: int = 1) -> TopicMetadata:
    partition = PartitionMetadata()
    partition.id, partition.leader = 0, leader
    partition.replicas, partition.isrs = [1, 2, 3][:replicas], [1, 2, 3][:in_sync]
    found = TopicMetadata()
    found.topic, found.partitions = "tier-changes", {0: partition}
    return found


def test_a_partition_without_a_leader_is_a_problem() -> None:
    found = list(_check_replicas([topic(3, 0, leader=-1)], 3))
    assert [one.status for one in found] == ["problem", "ok"]


def test_missing_rights_are_named() -> None:
    [found] = _check_rights(load_settings(), {"tier-changes": {"READ", "DESCRIBE"}})
    assert found.status == "problem"
    assert "tier-changes (WRITE)" in found.what
    assert not list(_check_rights(load_settings(), {"tier-changes": {"READ", "WRITE"}}))


ENOUGH = {
    "transaction.state.log.min.isr": "2", "transaction.state.log.replication.factor": "3", "transaction.max.timeout.ms": "900000",
}  # fmt: skip


@pytest.mark.parametrize(
    ("configs", "state", "brokers", "status"),
    [
        (ENOUGH, topic(3, 2), 3, "ok"),
        (ENOUGH, topic(3, 1), 3, "problem"),
        (ENOUGH, None, 1, "problem"),
        (ENOUGH, None, 3, "ok"),
        (ENOUGH | {"transaction.max.timeout.ms": "1000"}, None, 3, "problem"),
        ({}, None, 3, "warning"),
    ],
)
def test_transactions_need_enough_replicas_and_time(
    configs: dict[str, str | None], state: TopicMetadata | None, brokers: int, status: str
) -> None:
    [found] = _check_transactions(configs, state, brokers)
    assert found.status == status
