"""The compose file, run as it is on an engine. Only the ports on this machine are others; and where the engine is the tests'
own, images stand in for Kafka's and Redis's. The tests go on from each other's state, in their order.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from testcontainers.core.config import testcontainers_config

from streams.settings import load_settings
from tests.builders import ROOT, purchase
from tests.containers.broker import composed, kafka_settings, running_compose_kafka
from tests.containers.compose_cli import compose_command
from tests.containers.engine import Engine
from tests.containers.stand_ins import IMAGE, KAFKA, REDIS
from tests.integration.harness import Site, free_port, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(1500)]

OURS = ("worker", "console")
UP_SECONDS = 300
KILL = """
import os, pathlib, signal
commands = {int(path.parent.name): path.read_bytes() for path in pathlib.Path("/proc").glob("[0-9]*/cmdline")}
os.kill(next(pid for pid, command in commands.items() if pid > 1 and command.endswith(b"/tierstream\\0worker\\0")), signal.SIGKILL)
"""


@dataclass
class Installation:
    """The services of the compose file, running."""

    engine: Engine
    command: Sequence[str | Path]
    site: Site
    console: str
    key: str = ""

    def compose(self, *arguments: str) -> str:
        """What Docker Compose prints."""
        return self.engine.run(*self.command, *arguments, seconds=UP_SECONDS)

    def up(self) -> None:
        """Start all services, two workers among them, and wait until they are healthy."""
        try:
            self.compose("up", "--detach", "--wait", "--no-build", "--scale", "worker=2")
        except AssertionError as error:
            said = self.compose("ps", "--all") + self.compose("logs", "--tail", "50")
            raise AssertionError(f"{error}\n{said}") from None

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What the engine knows of a service's containers."""
        ids = self.compose("ps", "--all", "--quiet", service).split()
        return list(json.loads(self.engine.docker("inspect", *ids)))

    def tiers(self) -> dict[str, list[str]]:
        """The tiers that each customer got, as announced; each announcement names the one before, so that none is missing."""
        found: dict[str, list[str]] = {}
        last: dict[str, int] = {}
        for message in self.site.read("tier-changes"):
            body = json.loads(message.value())
            customer = body["customer_id"]
            assert body["previous_seq"] == last.get(customer, 0), f"a tier change is missing or repeated before {body}"
            last[customer] = body["seq"]
            found.setdefault(customer, []).append(body["after"]["tier"])
        return found

    def buy(self, amounts: dict[str, str]) -> None:
        """Each customer buys, now; the purchases are produced from this machine."""
        now = time.time_ns() // 1_000_000
        bodies = [purchase(one, amount, on=now, currency="CNY", id=uuid.uuid4().hex) for one, amount in amounts.items()]
        self.site.produce([(body.pop("topic"), body) for body in bodies])

    def wait_for(self, wanted: dict[str, list[str]]) -> None:
        """Wait until these customers' tiers are these, and were no others."""

        def arrived() -> bool:
            found = self.tiers()
            return {one: found.get(one) for one in wanted} == wanted

        def why() -> str:
            return f"{wanted}; there are {self.tiers()}\n{self.compose('logs', '--tail', '40', 'worker')}"

        wait_until(arrived, 120, why)

    def tier(self, customer: str) -> str | None:
        """The customer's tier, as the console's look-ups have it; None while they don't know the customer."""
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = httpx.get(f"{self.console}/v1/customers/{customer}", headers=headers, timeout=30)
        if answer.status_code == 404:
            return None
        assert answer.status_code == 200, answer.text
        return str(answer.json()["tier"])


@pytest.fixture(scope="module")
def installation(engine: Engine, build_log: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("compose")
    (folder / "config").mkdir()
    broker, console = free_port(), free_port()
    services = composed()
    kafka = kafka_settings(services["kafka"], f"127.0.0.1:{broker}", broker)
    changed = {
        "kafka": {"environment": kafka, "ports": [f"127.0.0.1:{broker}:{broker}"]},
        "redis": {},
        "console": {"ports": [f"127.0.0.1:{console}:6080"]},
    }
    if engine.tools:
        changed["kafka"]["image"], changed["redis"]["image"] = KAFKA, REDIS
    override = folder / "override.yml"
    # JSON is YAML; !override takes the place of what the compose file has, where lists would be added to each other.
    override.write_text(json.dumps({"services": changed}).replace('"ports": [', '"ports": !override ['), "utf-8")
    files = ("--file", ROOT / "docker-compose.yml", "--file", override)
    # No file .env of this checkout, and no folder of somebody's policies.
    command = [
        *compose_command(),
        *files,
        "--project-directory",
        folder,
        "--project-name",
        f"tierstream-{folder.parent.name}",
    ]
    partitions = int(services["worker"]["environment"]["TIERSTREAM_PARTITIONS"])
    site = Site(load_settings(broker=f"127.0.0.1:{broker}", partitions=partitions), folder)
    running = Installation(engine, command, site, f"http://127.0.0.1:{console}")
    try:
        running.up()
        yield running
    finally:
        running.compose("down", "--volumes", "--timeout", "5")


def test_testcontainers_run_the_compose_file_s_kafka_with_transactions(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine.tools:
        monkeypatch.setenv("DOCKER_HOST", engine.environment["DOCKER_HOST"])
        # What cleans up after it is an image of a registry.
        monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
    with running_compose_kafka(KAFKA if engine.tools else None) as address:
        producer = Producer({"bootstrap.servers": address, "transactional.id": "one"})
        topic = "transactions"
        admin = AdminClient({"bootstrap.servers": address})
        for future in admin.create_topics([NewTopic(topic, 1)]).values():
            future.result(30)
        producer.init_transactions(60)
        for text, ends in (("aborted", producer.abort_transaction), ("committed", producer.commit_transaction)):
            producer.begin_transaction()
            producer.produce(topic, text.encode())
            ends(30)
        site = Site(load_settings(broker=address, partitions=1), ROOT)
        # The broker answers before the end of a transaction is in every partition.
        wait_until(lambda: bool(site.read_topic(topic)), 60, "the committed record")
        assert [one.value() for one in site.read_topic(topic)] == [b"committed"]


def test_all_services_become_healthy_and_one_says_where_to_look(installation: Installation) -> None:
    said = installation.compose("logs", "--no-log-prefix", "hello")
    assert "http://127.0.0.1:6080" in said
    assert len(installation.containers("worker")) == 2
    for service in ("kafka", "redis", *OURS):
        for container in installation.containers(service):
            assert container["State"]["Health"]["Status"] == "healthy", service


def test_containers_have_no_root_no_capability_and_nothing_to_write_on(installation: Installation) -> None:
    for service in OURS:
        for container in installation.containers(service):
            assert container["Config"]["Image"] == IMAGE
            assert container["Config"]["User"] == "10001:10001"
            assert container["HostConfig"]["ReadonlyRootfs"]
            assert container["HostConfig"]["CapDrop"] == ["ALL"]
        ask = "import os; print(os.getuid(), os.access('/', os.W_OK), os.statvfs('/').f_flag & os.ST_RDONLY)"
        assert installation.compose("exec", "-T", service, "python", "-c", ask).split() == ["10001", "False", "1"]


def test_a_purchase_from_this_machine_becomes_a_tier_change(installation: Installation) -> None:
    installation.buy({"ada": "20000.00"})
    installation.wait_for({"ada": ["mass"]})


def test_console_and_look_ups_answer(installation: Installation) -> None:
    assert httpx.get(f"{installation.console}/signin", timeout=30).status_code == 200
    assert httpx.get(f"{installation.console}/v1/customers/ada", timeout=30).status_code == 401
    add = (
        "exec",
        "-T",
        "console",
        "tierstream",
        "console",
        "keys",
        "add",
        "crm",
        "--scope",
        "customers:read",
        "--json",
    )
    installation.key = json.loads(installation.compose(*add))["key"]
    wait_until(lambda: installation.tier("ada") == "mass", 60, "the look-up of a customer")


def test_a_worker_that_is_killed_comes_back_and_nothing_is_lost_or_said_twice(installation: Installation) -> None:
    many = [f"c{number}" for number in range(16)]
    installation.compose("exec", "-T", "--index", "1", "worker", "python", "-c", KILL)
    installation.buy(dict.fromkeys(many, "20000.00"))
    installation.wait_for({one: ["mass"] for one in many})

    def is_back() -> bool:
        found = installation.containers("worker")
        restarts = sorted(one["RestartCount"] for one in found)
        return restarts == [0, 1] and all(one["State"]["Health"]["Status"] == "healthy" for one in found)

    wait_until(is_back, 120, "the killed worker to be restarted")


def test_a_restart_of_workers_and_redis_loses_nothing(installation: Installation) -> None:
    installation.compose("restart", "worker", "redis")
    installation.buy({"bea": "60000.00"})
    installation.wait_for({"bea": ["middle"]})
    wait_until(lambda: installation.tier("bea") == "middle", 60, "the look-up of a customer")


def test_down_and_up_keep_the_state(installation: Installation) -> None:
    installation.compose("down")
    assert installation.compose("ps", "--all", "--quiet") == ""
    installation.up()
    assert installation.tier("bea") == "middle"
    # She has spent 60,000 together with what she bought before.
    installation.buy({"ada": "40000.00"})
    installation.wait_for({"ada": ["mass", "middle"]})
