"""What docs/examples has for other languages: its generated types, and the documents held against their users' tools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from models.outputs import TIER_CHANGES
from scripts import client_types, documents
from scripts.client_types import EXAMPLES, npm_ci
from tests.integration.example_clients import CACHE

if not all(map(shutil.which, ("node", "npm", "gofmt"))) and not os.environ.get("CI"):
    pytest.skip("needs Node with npm, and Go", allow_module_level=True)


# ---------------------------------------------------------------- types
@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return client_types.files()


def test_the_types_in_docs_are_those_generated_from_the_code(generated: dict[str, str]) -> None:
    present = {path.relative_to(EXAMPLES).as_posix() for one in client_types.GENERATED for path in EXAMPLES.glob(one)}
    assert present == set(generated)
    for name, text in generated.items():
        assert (EXAMPLES / name).read_text("utf-8") == text, (
            f"{name} is older than the code: run ./scripts/client-types"
        )


def test_every_field_of_every_schema_is_in_the_types(generated: dict[str, str]) -> None:
    go, typescript = generated["go/tierstream/types.go"], generated["node/tierstream.ts"]
    for name, schema in client_types.bodies()["definitions"].items():
        for field in schema.get("properties", {}):
            assert f'`json:"{field}' in go, f"{name}.{field}"
            assert f"  {field}: " in typescript or f"  {field}?: " in typescript, f"{name}.{field}"


def test_the_programs_in_javascript_are_well_typed(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "node", tmp_path, dirs_exist_ok=True)
    (tmp_path / "node_modules").symlink_to(npm_ci(EXAMPLES / "node", CACHE / "node") / "node_modules")
    tools = client_types.node_folder() / "node_modules"
    options = ["--noEmit", "--strict", "--allowJs", "--checkJs", "--module", "nodenext", "--target", "es2022"]
    options += [
        "--skipLibCheck",
        "--allowImportingTsExtensions",
        "--typeRoots",
        str(tools / "@types"),
        "--types",
        "node",
    ]
    command = ["node", str(tools / "typescript" / "bin" / "tsc"), *options, "produce.mjs", "follow.mjs"]
    assert checked(command, tmp_path) == (0, "")
    program = tmp_path / "follow.mjs"
    program.write_text(program.read_text("utf-8").replace("before.tier", "before.level"), "utf-8")
    status, said = checked(command, tmp_path)
    assert status != 0
    assert "'level' does not exist" in said


def checked(command: list[str], folder: Path) -> tuple[int, str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout


def test_the_java_example_has_the_version_of_kafka_that_runs_here() -> None:
    ours = (client_types.ROOT / "streams" / "local" / "kafka.pom.xml").read_text("utf-8")
    example = (EXAMPLES / "java" / "pom.xml").read_text("utf-8")
    version = ours.partition("<kafka.version>")[2].partition("<")[0]
    assert f"<kafka.version>{version}</kafka.version>" in example


def properties(name: str) -> dict[str, str]:
    lines = (EXAMPLES / "connect" / name).read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_sink_of_kafka_connect_reads_what_is_committed_and_keeps_one_row_a_customer() -> None:
    worker, sink = properties("worker.properties"), properties("tier-changes-to-postgresql.properties")
    assert worker["connector.client.config.override.policy"] == "All", "else consumer.override is refused"
    assert sink["consumer.override.isolation.level"] == "read_committed"
    assert sink["topics"] == TIER_CHANGES
    assert (sink["insert.mode"], sink["primary.key.mode"]) == ("upsert", "record_key")
    assert sink["primary.key.fields"] == sink["transforms.key.field"] == "customer_id"
    for part in ("key", "value"):
        assert sink[f"{part}.converter"] == "org.apache.kafka.connect.storage.StringConverter", "the key without quotes"
    assert sink["transforms"].split(",") == ["key", "body"]


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit) as ended:
        client_types.main([])
    assert ended.value.code == 2
    assert "no node found: it needs Node with npm, and Go" in capsys.readouterr().err


# ---------------------------------------------------------------- AsyncAPI
def parsed(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What AsyncAPI's own parser says about a document; without its advice to take the newest version of AsyncAPI."""
    path = folder / "asyncapi.json"
    path.write_text(json.dumps(document), "utf-8")
    found: dict[str, Any] = json.loads(client_types.run_node("asyncapi.mjs", str(path)))
    return found | {"wrong": [one for one in found["wrong"] if one["code"] != "asyncapi-latest-version"]}


def test_asyncapis_own_parser_finds_nothing_wrong_and_every_message(tmp_path: Path) -> None:
    found = parsed(documents.asyncapi(), tmp_path)
    assert found["wrong"] == []
    for topic, classes in documents.carried_bodies().items():
        assert set(found["channels"][topic]) >= {one.__name__ for one in classes}


def test_asyncapis_own_parser_notices_a_reference_that_leads_nowhere(tmp_path: Path) -> None:
    document = documents.asyncapi()
    del document["components"]["messages"]["Erasure"]
    assert "invalid-ref" in {one["code"] for one in parsed(document, tmp_path)["wrong"]}
