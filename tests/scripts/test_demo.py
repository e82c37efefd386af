"""The demo shows what a person wants to see, and leaves nothing behind, in whatever phase it ends."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import httpx
import jsonschema_rs
import pytest

from tests.builders import ROOT
from tests.integration.harness import wait_until
from tests.local.program import SECONDS, Program, as_in_a_background_job

DEMO = str(ROOT / "scripts" / "demo.py")
TOPICS = {"tier": "tier-changes", "level": "churn-risk"}


def test_it_ends_with_a_picture_four_announcements_in_words_and_all_of_them_in_json(tmp_path: Path) -> None:
    demo = Program(tmp_path, [DEMO, "--json"])
    address = demo.wait_for(r"^The web console:\n(http://127\.0\.0\.1:\d+)\nSign in as developer with \S+$")[1]
    assert httpx.get(f"{address}/signin").status_code == 200
    assert demo.ended(demo.below()) == 0
    summary = json.loads(demo.said().splitlines()[-1])
    assert sum(summary["tiers"].values()) == summary["customers"] == 2357
    for tier, customers in summary["tiers"].items():
        assert re.search(rf"^{tier} +{customers:,} +[█▏▎▍▌▋▊▉]", demo.said(), re.MULTILINE)
    told = re.findall(r"^(\d{4}-\d\d-\d\d)  Customer (\d{4}) (climbed|went|will lose)", demo.said(), re.MULTILINE)
    assert [one[:2] for one in told] == [
        (body["occurred_at"][:10], body["customer_id"]) for body in summary["announcements"]
    ]
    assert len(told) == 4
    for body in summary["announcements"]:
        (topic,) = (name for key, name in TOPICS.items() if key in body["after"])
        schema = json.loads((ROOT / "docs" / "schemas" / f"{topic}.json").read_text())
        jsonschema_rs.validator_for(schema).validate(body)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ended_while_it_starts_it_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    demo = Program(tmp_path, [DEMO], as_in_a_background_job)
    demo.wait_for("worker and the web console start")
    wait_until(lambda: len(demo.below()) > 1, SECONDS, "Redis and the worker")
    assert demo.end(number) == 130


def test_ended_while_it_runs_it_leaves_nothing(tmp_path: Path) -> None:
    demo = Program(tmp_path, [DEMO, "--speed", "1"], as_in_a_background_job)
    demo.wait_for("Sign in as developer")
    assert len(demo.below()) == 3
    assert demo.end(signal.SIGTERM) == 130
