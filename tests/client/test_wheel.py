"""The small distribution for clients: built, installed alone, and used as its users would."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest

from scripts.build_client import REQUIREMENTS, BuildError, build, leftovers, modules, rewritten
from scripts.requirements import select
from tests.builders import ms, policy_text, purchase
from tests.outputs import bodies
from tests.running import Fold, policy_of
from tests.scripts.imports import ROOT

PROGRAM = """
import importlib.util, json, sys
from confluent_kafka import Producer
import tierstream_client
from tierstream_client import ClientError, TierChange, contracts, tier_changes

assert importlib.util.find_spec("models") is None and importlib.util.find_spec("streams") is None
bodies = [line.encode() for line in open(sys.argv[1])]
assert isinstance(contracts.decode("tier-changes", bodies[0]), TierChange)

mock = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})
broker = next(iter(mock.list_topics(timeout=10).brokers.values()))
address = f"{broker.host}:{broker.port}"
producer = Producer({"bootstrap.servers": address})
for body in [*bodies, *bodies]:
    producer.produce("shop-tier-changes", key=json.loads(body)["customer_id"], value=body)
assert producer.flush(10) == 0
with tier_changes(broker=address, topic_prefix="shop-", idle_seconds=1.0) as changes:
    print(json.dumps([[change.customer_id, change.seq, change.after.tier] for change in changes]))
try:
    tier_changes(broker="nowhere")
except ClientError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of an environment that has the client, with its dependencies as they are locked, and nothing else."""
    folder = tmp_path_factory.mktemp("client")
    venv.create(folder / "venv")
    found = folder / "venv" / "bin" / "python"
    (folder / "requirements.txt").write_text(select(ROOT / "requirements.lock", set(REQUIREMENTS.values())))
    pip = [sys.executable, "-m", "pip", "--python", str(found), "--disable-pip-version-check"]
    install = [*pip, "install", "--quiet", "--no-compile"]
    subprocess.run([*install, "--require-hashes", "-r", str(folder / "requirements.txt")], check=True, timeout=200)
    subprocess.run([*install, "--no-deps", str(wheel)], check=True, timeout=60)
    subprocess.run([*pip, "check"], check=True, timeout=60)
    yield found


@pytest.fixture(scope="module")
def announced() -> list[bytes]:
    fold = Fold(policy_of(policy_text()))
    for customer_id, amount in (("ada", "120"), ("bob", "90"), ("eve", "150")):
        fold.apply(purchase(customer_id, amount, on="2026-01-31"))
    fold.advance(ms("2027-03-01"))
    return [body for topic, body in bodies(fold.outputs) if topic == "tier-changes"]


def test_the_client_follows_a_topic_where_nothing_else_is_installed(
    python: Path, announced: list[bytes], tmp_path: Path
) -> None:
    (tmp_path / "announced.jsonl").write_bytes(b"\n".join(announced))
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [str(python), "-I", "program.py", "announced.jsonl"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    changes, refused = done.stdout.splitlines()
    # The mock cluster has four partitions: customers come in any order, each in their own.
    expected = [[one["customer_id"], one["seq"], one["after"]["tier"]] for one in map(json.loads, announced)]
    assert len(expected) >= 4
    assert sorted(json.loads(changes)) == sorted(expected)
    assert refused == "TIERSTREAM_BROKER: 'nowhere' is not host:port, as in 127.0.0.1:9092"


def test_the_wheel_has_one_package_and_needs_three_others(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        fields = Parser().parsestr(archive.read(metadata).decode())
    assert {top for top in tops if not top.endswith(".dist-info")} == {"tierstream_client"}
    assert len(fields.get_all("Requires-Dist") or []) <= 3
    assert fields["Name"] == "tierstream-client"


def test_the_client_is_made_of_the_modules_that_it_imports() -> None:
    found = modules()
    assert found["streams.client"] == ""
    assert found["models.contracts"] == "contracts"
    assert all(module.startswith(("streams.client", "models.")) for module in found)


def test_what_is_not_for_clients_fails_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.build_client.CLIENT", "streams.library")
    with pytest.raises(BuildError, match=r"imports streams\.|imports models,"):
        modules()


def test_imports_and_names_in_docstrings_are_those_of_the_package() -> None:
    names = {"streams.client": "", "streams.client.changes": "changes", "models.contracts": "contracts"}
    source = '"""As in streams.client.changes.\n\n    from models.contracts import Erasure\n"""\nfrom models.contracts import A\n'
    expected = '"""As in tierstream_client.changes.\n\n    from tierstream_client.contracts import Erasure\n"""\nfrom .contracts import A\n'
    assert rewritten(source, names) == expected
    assert list(leftovers(expected)) == []
    assert list(leftovers("import models.fold")) == ["models.fold", "models.fold"]
