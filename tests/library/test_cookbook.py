"""The commands and programs of the cookbook print what it shows."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest

from models import load
from models.outputs import ALERTS, TIER_CHANGES
from scripts import cookbook
from tests.builders import some_customers
from tests.outputs import all_outputs, varied_log


def test_the_cookbook_prints_what_it_shows(tmp_path: Path) -> None:
    shown = cookbook.COOKBOOK.read_text("utf-8")
    assert cookbook.run(shown, tmp_path).splitlines() == shown.splitlines(), "renew it: python -m scripts.cookbook"


def test_other_output_than_the_one_shown_is_noticed(tmp_path: Path) -> None:
    text = "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n\n```console\n$ echo one; exit 3\ntwo\n```\n"
    assert cookbook.run(text, tmp_path) == (
        "```python\nprint(1 + 1)\n```\n\n```text\n2\n```\n\n```console\n$ echo one; exit 3\none\n```\n"
    )


def test_the_contents_and_the_links_of_the_cookbook_are_right() -> None:
    text = cookbook.COOKBOOK.read_text("utf-8")
    headings = re.findall(r"^## \d+\. (.*)$", text, re.M)
    listed = re.findall(r"^\d+\. \[(.*)\]\(#", text, re.M)
    assert headings == listed
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (cookbook.COOKBOOK.parent / link).exists(), link


def test_the_sql_of_the_cookbook_counts_what_python_counts_also_with_repeats_and_erasures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load("annual-spend")
    by_topic: dict[str, list[Any]] = {TIER_CHANGES: [], ALERTS: []}
    for topic, value in all_outputs(policy, some_customers(varied_log(policy), 15)):
        if topic in by_topic:
            by_topic[topic].append(json.loads(value))
    facts = tmp_path / "facts"
    facts.mkdir()
    for topic, announced in by_topic.items():
        repeated = [*announced, *announced[-50:]]
        (facts / f"{topic}.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in repeated), "utf-8")
    monkeypatch.chdir(tmp_path)
    page = cookbook.COOKBOOK.read_text("utf-8")
    queries = dict(re.findall(r'^(as_of|moves|outcomes) = """\n(.*?)"""$', page, re.M | re.S))
    database = duckdb.connect()
    database.sql("set timezone = 'UTC'")
    as_of, moves, outcomes = (database.sql(queries[name]).fetchall() for name in ("as_of", "moves", "outcomes"))

    then: dict[str, str | None] = {}
    flows: Counter[tuple[str, str, str]] = Counter()
    erased = 0
    for one in sorted(by_topic[TIER_CHANGES], key=lambda one: one["seq"]):
        if one["occurred_at"] < "1998":
            then[one["customer_id"]] = one["after"] and one["after"]["tier"]
            erased += one["after"] is None
        if one["change"] in ("upgrade", "downgrade"):
            flows[one["occurred_at"][:7], one["before"]["tier"], one["after"]["tier"]] += 1
    assert erased
    tiers = Counter(tier for tier in then.values() if tier is not None)
    assert len(tiers) > 1
    assert as_of == sorted(tiers.items())
    assert moves == sorted((*flow, count) for flow, count in flows.items())
    ledger: dict[tuple[str, int], tuple[str, str]] = {}
    for one in sorted(by_topic[ALERTS], key=lambda one: one["seq"]):
        alert = one["customer_id"], one["after"]["number"]
        ledger[alert] = ledger.get(alert, (one["after"]["level"], ""))[0], one["after"]["state"]
    assert len(set(ledger.values())) > 4
    assert outcomes == sorted((*kind, count) for kind, count in Counter(ledger.values()).items())
