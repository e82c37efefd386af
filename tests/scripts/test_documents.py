"""The contracts as documents: docs/ has what the code defines, and records that the code writes fit the documents."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given

from models import contracts, load
from models.bodies import TOPIC_BODIES
from models.events import Event, Rejected
from models.outputs import ALERTS, DEAD_LETTERS, PROFILES, TIER_CHANGES, Output
from scripts import documents
from streams.engine.batch import DeadLetter
from streams.engine.envelope import dead_letter_record, output_record
from streams.engine.merge import Record
from streams.settings import Settings
from streams.topics import topics_of
from tests.builders import purchase, some_customers
from tests.models.test_contracts import ALERT
from tests.outputs import all_outputs, varied_log
from tests.running import Fold, policy_of
from tests.strategies import logs, policy_texts

DOCS = Path(__file__).parents[2] / "docs"
ASYNCAPI = json.loads((Path(__file__).parents[1] / "data" / "asyncapi-3.0.0.json").read_bytes())


def closed(schema: Any) -> Any:
    """The schema without room for fields that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(one) for name, one in schema.items()}
    return found | ({"additionalProperties": False} if "properties" in schema and "title" in schema else {})


def validators() -> dict[str, Any]:
    found = {}
    for topic, schema in documents.schemas().items():
        found[topic] = jsonschema_rs.validator_for(closed(schema), validate_formats=True)
    return found


# ---------------------------------------------------------------- the files
def test_the_documents_in_docs_are_those_generated_from_the_code() -> None:
    generated = documents.files()
    present = {path.relative_to(DOCS).as_posix() for path in [*DOCS.glob("schemas/*"), DOCS / "asyncapi.json"]}
    assert present == set(generated)
    for name, content in generated.items():
        assert (DOCS / name).read_bytes() == content, f"{name} is older than the code: run ./scripts/documents"


def test_the_script_writes_the_documents_into_a_folder_and_lists_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents.main(["--out", str(tmp_path / "new")])
    written = [Path(path) for path in capsys.readouterr().out.splitlines()]
    assert {path.relative_to(tmp_path / "new").as_posix(): path.read_bytes() for path in written} == documents.files()


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way", "utf-8")
    with pytest.raises(SystemExit) as ended:
        documents.main(["--out", str(tmp_path / "file")])
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert str(tmp_path / "file") in errors
    assert "--out" in errors


# ---------------------------------------------------------------- the documents
@pytest.mark.parametrize("topic", documents.schemas())
def test_every_schema_is_valid_by_its_meta_schema(topic: str) -> None:
    schema = documents.schemas()[topic]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(schema)


def test_the_asyncapi_document_is_valid_by_the_official_schema() -> None:
    official = jsonschema_rs.validator_for(ASYNCAPI)
    document = documents.asyncapi()
    assert [str(error) for error in official.iter_errors(document)] == []
    del document["operations"]["send-tier-changes"]["channel"]
    assert not official.is_valid(document)


def test_every_reference_leads_somewhere_and_no_message_is_left_out() -> None:
    document = documents.asyncapi()
    used = Counter(references(document))
    for reference in used:
        at: Any = document
        for name in reference.removeprefix("#/").split("/"):
            assert name in at, reference
            at = at[name]
    for kind in ("messages", "schemas"):
        for name in document["components"][kind]:
            assert used[f"#/components/{kind}/{name}"], f"nothing refers to {name}"


def references(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        if isinstance(document.get("$ref"), str):
            yield document["$ref"]
        for one in document.values():
            yield from references(one)
    elif isinstance(document, list):
        for one in document:
            yield from references(one)


def test_every_topic_is_a_channel_with_its_partitions_and_its_cleanup() -> None:
    settings = Settings.model_construct()
    channels = documents.asyncapi()["channels"]
    topics = {topic.name: topic.configs for topic in topics_of(settings)}
    assert set(channels) == set(topics)
    for name, configs in topics.items():
        bound = channels[name]["bindings"]["kafka"]
        assert bound["partitions"] == settings.partitions
        assert bound["topicConfiguration"]["cleanup.policy"] == [configs["cleanup.policy"]]
        assert str(bound["topicConfiguration"].get("retention.ms")) == configs.get("retention.ms", "None")


MURMUR2_INTERNAL = ("audit", "undelivered", "tierstream-carried")


def test_tags_tell_public_channels_from_internal_ones_and_every_channel_says_its_key_and_partition() -> None:
    channels = documents.asyncapi()["channels"]
    tags = {name: one["tags"][0]["$ref"].rpartition("/")[2] for name, one in channels.items()}
    assert {name for name, tag in tags.items() if tag == "input"} == set(TOPIC_BODIES)
    assert {name for name, tag in tags.items() if tag == "output"} == {*contracts.OUTPUT_BODIES, DEAD_LETTERS}
    assert tags["journal"] == tags["census"] == tags["audit"] == tags["undelivered"] == "internal"
    for name, one in channels.items():
        assert one["x-key"] and one["x-partition"]
        assert ("murmur2_random" in one["x-partition"]) == (tags[name] == "input" or name in MURMUR2_INTERNAL)


def test_the_application_receives_inputs_and_sends_all_else_that_is_not_internal() -> None:
    operations = documents.asyncapi()["operations"]
    received = {name for name, one in operations.items() if one["action"] == "receive"}
    assert received == {f"receive-{topic}" for topic in TOPIC_BODIES}
    assert set(operations) - received == {f"send-{topic}" for topic in (*contracts.OUTPUT_BODIES, DEAD_LETTERS)}


def test_a_field_is_described_by_its_docstring_even_if_inherited_or_renamed() -> None:
    defined = documents.schemas()[TIER_CHANGES]["$defs"]
    assert defined["Erasure"]["properties"]["previous_seq"]["description"].endswith("0 if this is the first.")
    assert defined["Needs"]["properties"]["from"]["description"].startswith("From when on")
    assert defined["TierChange"]["properties"]["needs"]["description"].startswith("What keeps the tier")


# ---------------------------------------------------------------- records that are written
@pytest.mark.parametrize("name", ["retail-three-tier", "pyramid", "rfm-quintiles"])
def test_all_outputs_about_cdnow_customers_fit_the_schemas(name: str) -> None:
    policy = load(name)
    by_topic = validators()
    checked = 0
    for topic, value in all_outputs(policy, some_customers(varied_log(policy), 3)):
        by_topic[topic].validate(json.loads(value))
        checked += 1
    assert checked > 1_000


@given(policy_texts(), logs())
def test_inputs_and_outputs_of_a_random_log_fit_the_schemas(text: str, log: list[Any]) -> None:
    for wire in log:
        body = {name: value for name, value in wire.items() if name != "topic"}
        BY_TOPIC[wire["topic"]].validate(body)
    for topic, value in all_outputs(policy_of(text), log):
        BY_TOPIC[topic].validate(json.loads(value))


BY_TOPIC = validators()


def test_an_alert_fits_its_schema() -> None:
    BY_TOPIC[ALERTS].validate(ALERT)


@pytest.mark.parametrize(
    ("topic", "change"),
    [
        ("purchases", {"amount": True}),
        ("purchases", {"amount": None}),
        ("purchases", {"customer_id": ""}),
        ("purchases", {"kind": "theft"}),
        ("purchases", {"occurred_at": "yesterday"}),
        ("alerts", {"previous_seq": -1}),
        ("alerts", {"change": "upgrade"}),
        ("alerts", {"mood": "fair"}),
    ],
)
def test_a_body_that_breaks_a_contract_does_not_fit_its_schema(topic: str, change: dict[str, Any]) -> None:
    good = ALERT if topic == "alerts" else purchase("ada", "12.50", on="2026-01-31")
    body = {name: value for name, value in (good | change).items() if name != "topic"}
    assert not BY_TOPIC[topic].is_valid(body)


@pytest.mark.parametrize("amount", ["12.50", 12.5, 12, "0", "1e2"])
def test_an_amount_may_be_written_as_the_decoder_takes_it(amount: Any) -> None:
    wire = purchase("ada", amount, on="2026-01-31")
    body = {name: value for name, value in wire.items() if name != "topic"}
    BY_TOPIC["purchases"].validate(body)
    decoded = load("annual-spend").decoder().decode("purchases", json.dumps(body | {"currency": "USD"}).encode())
    assert isinstance(decoded, Event | Rejected)


def test_the_headers_of_announcements_fit_the_document() -> None:
    outputs: list[Output] = []
    for policy in (load("retail-three-tier"), load("pyramid")):
        fold = Fold(policy)
        for wire in some_customers(varied_log(policy), 3, 1):
            fold.apply(wire)
        outputs += fold.outputs
    messages = documents.asyncapi()["components"]["messages"]
    of_change = {
        (topic, change): jsonschema_rs.validator_for(messages[body.__name__]["headers"], validate_formats=True)
        for topic, bodies in contracts.OUTPUT_BODIES.items()
        for body in bodies
        for change in contracts.changes_of(body)
    }
    assert {one.topic for one in outputs} == set(contracts.OUTPUT_BODIES) - {PROFILES}
    assert {one.change for one in outputs} >= {"upgrade", "erase", "raised", "stage"}
    for one in outputs:
        written = {name: value.decode() for name, value in output_record(one)[2]}
        of_change[one.topic, one.change].validate(written)
        assert not of_change[one.topic, one.change].is_valid(written | {"ce_type": "io.tierstream.else"})
    assert "headers" not in messages["Profile"]


def test_the_headers_of_dead_letters_fit_the_document() -> None:
    headers = documents.asyncapi()["components"]["messages"]["DeadLetter"]["headers"]
    validator = jsonschema_rs.validator_for(headers)
    rejected = Rejected("not_json", "not JSON: unexpected end")
    record = Record("purchases", 1, 42, b"ada", b"{" * 1_000_000, 1_000, rejected)
    written = {
        name: value.decode()
        for name, value in dead_letter_record(DeadLetter(rejected.code, rejected.detail, record))[2]
    }
    validator.validate(written)
    assert "value_bytes" in written
    assert not validator.is_valid(written | {"reason": "bad mood"})
