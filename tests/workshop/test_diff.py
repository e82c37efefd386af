"""`tierstream policy diff`: what it prints and writes, and how it refuses."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from streams.cli import app
from streams.library import replay
from tests.builders import cdnow, complaint, ms, purchase, shipped_text, with_made_up_complaints

AS_OF = "1997-02-28T00:00:00Z"
A = "annual-spend"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log, and a policy with other thresholds and a table of costs."""
    folder = tmp_path_factory.mktemp("diff")
    wires = with_made_up_complaints(cdnow("USD"))[:4000]
    (folder / "log.jsonl").write_text("".join(json.dumps(one) + "\n" for one in wires), "utf-8")
    until = [one for one in wires if ms(one["occurred_at"]) <= ms(AS_OF)]
    (folder / "until.jsonl").write_text("".join(json.dumps(one) + "\n" for one in until), "utf-8")
    text = shipped_text(A).replace("version = 1", "version = 2").replace('min_spend = "200.00"', 'min_spend = "250.00"')
    text = text.replace('min_spend = "75.00"', 'min_spend = "60.00"')
    costs = '\n[value]\ncost_to_serve = { silver = "5.00", gold = "12.00", platinum = "40.00" }\n'
    (folder / "mine.toml").write_text(text + costs, "utf-8")
    return folder


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(folder)
    return lambda *arguments: CliRunner().invoke(app, ["policy", "diff", *arguments], env={"COLUMNS": "120"})


def both(run: Callable[..., Result], name: str, *arguments: str) -> tuple[dict[str, Any], str]:
    """The JSON and the page of a comparison with mine.toml."""
    found = run(*arguments, "-p", A, "-p", "mine.toml", "--json", f"{name}.json", "--html", f"{name}.html")
    assert found.exit_code == 0, found.output
    return json.loads(Path(f"{name}.json").read_text("utf-8")), Path(f"{name}.html").read_text("utf-8")


def test_the_report_has_the_moves_their_costs_and_the_movers(run: Callable[..., Result]) -> None:
    found, page = both(run, "whole", "log.jsonl")
    assert [one["policy"] for one in found["policies"]] == ["annual-spend@1", "annual-spend@2"]
    moves = {(one["from"], one["to"]): one for one in found["moves"]}
    assert moves["member", "silver"]["direction"] == 1
    assert moves["gold", "silver"]["direction"] == -1
    assert sum(one["customers"] for one in found["moves"]) == found["all"]["customers"]
    assert moves["gold", "silver"]["customers"] == found["all"]["down"] > 0
    assert found["policies"][0]["cost_to_serve"] is None
    tiers = found["policies"][1]["tiers"]
    costs = 5 * tiers["silver"] + 12 * tiers["gold"] + 40 * tiers["platinum"]
    assert found["policies"][1]["cost_to_serve"]["total"] == f"{costs}.00"
    worth = [float(one["lifetime_value"]) for one in found["movers"]]
    assert worth == sorted(worth, reverse=True)
    assert len(worth) <= 100
    down = next(one for one in found["movers"] if one["direction"] < 0)
    assert down["why"]["b"].endswith("reaches gold")
    months = [one["month"] for one in found["by_month"]]
    assert months == sorted(months)
    assert found["verdict"][0] in page
    assert down["customer_id"] in page


def test_moves_are_counted_by_region_and_by_segment(run: Callable[..., Result], folder: Path) -> None:
    regions = [None, "EU", "US"]
    log = [
        wire | ({} if (region := regions[int(wire["customer_id"]) % 3]) is None else {"region": region})
        for wire in map(json.loads, (folder / "log.jsonl").read_text("utf-8").splitlines())
        if wire["topic"] == "purchases"
    ]
    (folder / "regions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in log), "utf-8")
    ours = ["-p", A, "-p", "rfm-quintiles", "--as-of", AS_OF]
    said = run("regions.jsonl", *ours, "--json", "regions.json", "--html", "regions.html")
    assert said.exit_code == 0, said.output
    found = json.loads(Path("regions.json").read_text("utf-8"))
    # The same as in a replay under the policy.
    replayed = replay([one for one in log if ms(one["occurred_at"]) <= ms(AS_OF)], "rfm-quintiles", until=AS_OF)
    profiles = list(replayed.profiles)
    assert {one["region"]: one["customers"] for one in found["by_region"]} == Counter(one.region for one in profiles)
    assert [one["region"] for one in found["by_region"]] == ["EU", "US", None]
    segments = {one["segment"]: one["customers"] for one in found["by_segment"]}
    assert segments == Counter(one.segment for one in profiles)
    assert {one["policy"] for one in found["by_segment"]} == {"b"}
    for part in ("by_region", "by_segment"):
        for number in ("customers", "up", "down"):
            assert sum(one[number] for one in found[part]) == found["all"][number], part
    page = Path("regions.html").read_text("utf-8")
    for text in ("Customers by region", "Customers by segment of rfm-quintiles@1", "none known"):
        assert text in page
        assert text in said.output
    assert "champions" in page
    assert all(one["kind"] == "first purchase" for one in found["cohorts"])


def test_the_same_log_gives_the_same_report_however_many_processes_read_it(run: Callable[..., Result]) -> None:
    once, again = both(run, "once", "log.jsonl"), both(run, "again", "log.jsonl")
    assert once == again
    assert both(run, "shared", "log.jsonl", "--workers", "3") == once


def test_events_after_the_instant_of_the_comparison_do_not_count(run: Callable[..., Result]) -> None:
    found, _ = both(run, "as-of", "log.jsonl", "--as-of", AS_OF)
    until, _ = both(run, "until", "until.jsonl", "--as-of", AS_OF)
    assert found | {"logs": []} == until | {"logs": []}
    assert found["as_of"] == AS_OF


def test_the_page_loads_nothing(run: Callable[..., Result]) -> None:
    _, page = both(run, "page", "log.jsonl")
    assert "//" not in page.replace("http://www.w3.org/", "")
    assert "default-src 'none'" in page
    assert 'class="chart sankey"' in page


def test_alerts_are_counted_per_agent_and_compared_with_the_budget(run: Callable[..., Result]) -> None:
    alone, _ = both(run, "alone", "log.jsonl")
    four, _ = both(run, "four", "log.jsonl", "--agents", "4")
    for one, shared in zip(alone["policies"], four["policies"], strict=True):
        assert shared["alerts"]["mean"] == pytest.approx(one["alerts"]["mean"] / 4, abs=1e-3)
        assert shared["alerts"]["total"] == one["alerts"]["total"]
        assert shared["alerts"]["days_over_budget"] <= one["alerts"]["days_over_budget"]


def test_policies_with_different_currencies_each_use_the_records_they_accept(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    euros = (
        shipped_text(A).replace('id = "annual-spend"', 'id = "euro"').replace('currency = "USD"', 'currency = "EUR"')
    )
    (tmp_path / "euro.toml").write_text(euros, "utf-8")
    wires = [
        purchase("ada", "300", on="2024-01-01", currency="USD", id="1"),
        purchase("bob", "300", on="2024-01-02", currency="EUR", id="2"),
        complaint("bob", on="2024-01-03", id="3"),
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(one) + "\n" for one in wires) + "no event\n", "utf-8")
    result = run(str(log), "-p", A, "-p", str(tmp_path / "euro.toml"), "--json", str(tmp_path / "out.json"))
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out.json").read_text("utf-8"))
    rejected = [one["rejected"] for one in found["policies"]]
    assert rejected == [{"missing_field": 1, "unknown_currency": 1}] * 2
    assert {(one["from"], one["to"]): one["customers"] for one in found["moves"]} == {
        ("gold", "–"): 1, ("member", "gold"): 1,
    }  # fmt: skip


def test_one_policy_is_not_enough(run: Callable[..., Result]) -> None:
    result = run("log.jsonl", "-p", A)
    assert result.exit_code == 2
    assert "--policy is given 1 times; give it twice" in result.output


def test_thresholds_that_depend_on_all_customers_need_one_process(run: Callable[..., Result]) -> None:
    result = run("log.jsonl", "-p", A, "-p", "pyramid", "--workers", "2")
    assert result.exit_code == 2
    assert "leave out --workers" in result.output
    assert run("log.jsonl", "-p", A, "-p", "pyramid").exit_code == 0


def test_a_file_that_can_not_be_written_is_named_in_the_message(run: Callable[..., Result]) -> None:
    result = run("log.jsonl", "-p", A, "-p", "mine.toml", "--html", "nowhere/page.html")
    assert result.exit_code == 2
    assert "can't write nowhere/page.html" in result.output
