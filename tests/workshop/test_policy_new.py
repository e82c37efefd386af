"""`tierstream policy new`: a policy proposed from the spend of a log's customers, compared with pandas on the CDNOW
sample.
"""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from models import load
from streams.cli import app
from streams.workshop.policies.round_thresholds import SpendDistribution, TooFew, propose_thresholds
from tests.builders import ROOT, cdnow, purchase, refund

NICE = {1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.5, 8.0}


def run(*arguments: str | Path, input: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], input=input)


def written_log(path: Path, events: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_log(tmp_path_factory.mktemp("log") / "cdnow.jsonl", cdnow())


def sample() -> pd.DataFrame:
    """The CDNOW sample, read without any of our code."""
    frame = pd.read_csv(
        ROOT / "scripts" / "data" / "CDNOW_sample.txt",
        sep=r"\s+",
        header=None,
        names=["master", "id", "day", "cds", "dollars"],
    )
    frame["day"] = pd.to_datetime(frame["day"].astype(str))
    return frame


def in_window(frame: pd.DataFrame, window: str) -> pd.Series:
    """What each customer with an order in the window spent in it."""
    end = frame["day"].max()
    if window == "calendar-year":
        kept = frame[frame["day"].dt.year == 1997]  # 365 days of it in the log, of 1998 only 181
    elif window == "trailing":
        kept = frame[frame["day"] > end - pd.Timedelta(days=365)]
    else:
        first = frame.groupby("id")["day"].transform("min")
        # Everybody began in the first quarter of 1997: their first year was over by June 1998.
        kept = frame[frame["day"] < first + pd.DateOffset(years=1)]
    return kept.groupby("id")["dollars"].sum().sort_values()


@pytest.mark.parametrize("window", ["trailing", "calendar-year", "anniversary-year"])
def test_the_table_is_what_pandas_finds_in_the_log(log: Path, tmp_path: Path, window: str) -> None:
    result = run("policy", "new", log, "--out", tmp_path / "mine.toml", "--window", window, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.output)["tiers"]
    spend = in_window(sample(), window)
    threshold_above = np.inf
    for row in rows:
        threshold = -np.inf if row["min_spend"] is None else float(row["min_spend"])
        chosen = spend[(spend.round(2) >= threshold) & (spend.round(2) < threshold_above)]
        assert row["customers"] == len(chosen)
        assert row["share"] == pytest.approx(len(chosen) / len(spend), abs=1e-6)
        assert row["share_of_spend"] == pytest.approx(chosen.sum() / spend.sum(), abs=1e-6)
        threshold_above = threshold


@pytest.mark.parametrize("by", ["customers", "spend"])
@pytest.mark.parametrize("window", ["trailing", "calendar-year"])
def test_thresholds_are_the_round_ones_nearest_to_the_shares_wanted(
    log: Path, tmp_path: Path, window: str, by: str
) -> None:
    shares = (0.3, 0.1, 0.02)
    result = run(
        "policy",
        "new",
        log,
        "--out",
        tmp_path / "mine.toml",
        "--window",
        window,
        "--by",
        by,
        "--shares",
        "30, 10, 2",
        "--json",
    )
    spend = in_window(sample(), window).round(2).to_numpy()
    every_round = [
        digits * 10.0**power
        for power in range(5)
        for digits in sorted(NICE)
        if digits * 10**power == int(digits * 10**power)
    ]

    def share_from(threshold: float) -> float:
        above = spend[spend >= threshold]
        return len(above) / len(spend) if by == "customers" else above.sum() / spend.sum()

    thresholds = [float(row["min_spend"]) for row in reversed(json.loads(result.output)["tiers"][:-1])]
    assert thresholds == sorted(set(thresholds))
    for threshold, wanted in zip(thresholds, shares, strict=True):
        assert threshold in every_round
        near = [other for other in every_round if spend.max() >= other]
        best = min(near, key=lambda other: abs(np.log(share_from(other) / wanted)))
        assert share_from(threshold) == pytest.approx(share_from(best), abs=1e-9)


def test_moves_and_tiers_over_the_year_are_those_of_a_replay(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.toml"
    proposed = json.loads(run("policy", "new", log, "--out", out, "--json").output)
    assert run("replay", log, "--policy", out, "--out", tmp_path / "replayed").exit_code == 0
    end = pd.Timestamp("1998-06-30", tz="UTC")
    begin = end - pd.Timedelta(days=12 * (365 / 12))
    moved = set()
    ends = [end - number * pd.Timedelta(days=365 / 12) for number in range(12)]
    first = sample().groupby("id")["day"].min().dt.tz_localize("UTC")
    tiers: list[dict[str, str]] = [{} for _ in ends]
    for line in (tmp_path / "replayed" / "tier-changes.jsonl").read_text().splitlines():
        body = json.loads(line)
        at = pd.Timestamp(body["occurred_at"])
        for month_end, of_month in zip(ends, tiers, strict=True):
            if at <= month_end:
                of_month[body["customer_id"]] = body["after"]["tier"]
        if begin < at <= end:
            # The log has days: two purchases of one day are one, so two upgrades at one midnight are.
            moved.add((body["change"], body["customer_id"], body["occurred_at"]))
    counts = Counter(change for change, *_ in moved)
    assert counts["upgrade"] > 100
    for change, a_month in proposed["moves_a_month"].items():
        assert a_month == pytest.approx(counts[change] / 12, abs=0.001)
    known = sum(int((first <= month_end).sum()) for month_end in ends)
    in_tier = Counter(tier for of_month in tiers for tier in of_month.values())
    for row in proposed["tiers"][:-1]:
        assert row["share_over_the_year"] == pytest.approx(in_tier[row["tier"]] / known, abs=1e-6)


def test_the_default_answers_give_a_valid_policy(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.toml"
    result = run("policy", "new", log, "--out", out, "--no-fit", input="\n" * 20)
    assert result.exit_code == 0, result.output
    assert "Currency [USD]" in result.output
    assert "Thresholds, these or others [200, 400, 800]" in result.output
    assert f"tierstream policy check {out}" in result.output
    assert run("policy", "check", out).exit_code == 0
    policy = load(out)
    assert (policy.id, policy.currency, policy.window.kind) == ("mine", "USD", "trailing")
    assert [tier.name for tier in policy.ladder.tiers] == ["member", "silver", "gold", "platinum"]
    defaults = tmp_path / "defaults.toml"
    assert run("policy", "new", log, "--out", defaults, "--id", "mine", "--yes", "--no-fit").exit_code == 0
    assert defaults.read_text() == out.read_text()


def test_typed_answers_are_used_and_invalid_ones_are_asked_again(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.toml"
    answers = [
        'The "best" club', "Not An Id", "club", "EUR", "USD", "two", "2", "base, up, up", "base, up, top", "calendar-year",
        "period-end", "direct", "customers", "10, 20", "20, 10", "50, 40", "50, 250", "",
    ]  # fmt: skip
    result = run("policy", "new", log, "--out", out, "--no-fit", input="\n".join(answers) + "\n")
    assert result.exit_code == 0, result.output
    for said in (
        "'Not An Id' is not an id",
        "'EUR' is not among USD",
        "'two' is not a number from 1 to 5",
        "different names",
    ):
        assert said in result.output
    assert "each smaller than the one before" in result.output
    assert "each larger than the one before" in result.output
    raw = tomllib.loads(out.read_text())
    assert (raw["title"], raw["id"], raw["window"]["kind"]) == ('The "best" club', "club", "calendar-year")
    assert raw["downgrade"] == {"grace": "period-end", "step": "direct"}
    assert [(tier["name"], tier["min_spend"]) for tier in raw["tiers"]] == [("up", "50"), ("top", "250")]


def test_questions_are_asked_on_a_terminal(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.toml"
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "streams.cli", "policy", "new", str(log), "--out", str(out), "--no-fit", "--tiers", "1"],
        stdin=follower, stdout=follower, stderr=follower, cwd=ROOT, env={**os.environ, "COLUMNS": "100", "TERM": "dumb"},
    )  # fmt: skip
    os.close(follower)
    text, answered = "", 0
    try:
        while select.select([leader], [], [], 60)[0]:
            try:
                text += os.read(leader, 4096).decode()
            except OSError:  # the other side is closed
                break
            # A prompt ends with its default in brackets and a colon.
            if text.endswith("]: ") and text.count("]: ") > answered:
                answered += 1
                os.write(leader, b"top tier, best\n" if "Their names" in text.splitlines()[-1] else b"\n")
        assert process.wait(60) == 0, text
    finally:
        process.kill()
        os.close(leader)
    assert answered >= 8
    assert [tier.name for tier in load(out).ladder.tiers] == ["top tier", "best"]


def test_the_policy_names_the_file_of_its_fit(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.toml"
    result = run("policy", "new", log, "--out", out, "--yes", "--fit")
    assert result.exit_code == 0, result.output
    policy = load(out)
    assert policy.parameters
    assert policy.risk.mbg.r != 0.525
    assert (tmp_path / "mine-params.toml").exists()
    again = run("policy", "new", log, "--out", tmp_path / "other.toml", "--yes", "--no-fit")
    assert "tierstream policy fit" in again.output


def test_no_file_is_overwritten_unless_forced(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.toml"
    out.write_text("precious")
    result = run("policy", "new", log, "--out", out, "--yes", "--no-fit")
    assert result.exit_code == 2
    assert "already exists" in result.output
    assert out.read_text() == "precious"
    assert run("policy", "new", log, "--out", out, "--yes", "--no-fit", "--force").exit_code == 0
    assert load(out).id == "mine"


def test_input_that_ends_leaves_nothing_behind(log: Path, tmp_path: Path) -> None:
    result = run("policy", "new", log, "--out", tmp_path / "mine.toml", input="\n\n")
    assert result.exit_code == 130
    assert "was not written; --yes takes every default" in result.output
    assert not list(tmp_path.iterdir())


def test_the_currency_with_the_most_purchases_is_proposed_and_others_are_named(tmp_path: Path) -> None:
    events = [purchase(f"c{n}", str(1500 * (n + 1)), on="2026-01-05", currency="JPY") for n in range(20)]
    events += [
        purchase("c1", "5.00", on="2026-01-06", currency="EUR"),
        purchase("c1", "5.00", on="2026-01-06", currency="??"),
    ]
    out = tmp_path / "mine.toml"
    result = run("policy", "new", written_log(tmp_path / "all.jsonl", events), "--out", out, "--tiers", "1", "--yes")
    assert result.exit_code == 0, result.output
    assert "1 records could not be used" in result.output
    assert "20 customers are too few" in result.output
    assert "# EUR = " in out.read_text()
    policy = load(out)
    # By hand: of 1,500, 3,000 ... 30,000 the top fifth, four of twenty, begins at 25,500; 25,000 lets the same four in.
    assert policy.currency == "JPY"
    assert policy.ladder.tiers[1].min_spend_minor == 25_000


def test_a_refund_is_subtracted_in_the_window_of_its_purchase(tmp_path: Path) -> None:
    events = [purchase(f"c{n}", "100", on="2026-01-05") for n in range(9)]
    events += [purchase("big", "500", on="2026-01-05"), refund("big", "400", on="2026-02-01", of="2026-01-05")]
    result = run(
        "policy", "new", written_log(tmp_path / "log.jsonl", [dict(event, topic="purchases") for event in events]),
        "--out", tmp_path / "mine.toml", "--names", "member, gold", "--lines", "200", "--json",
    )  # fmt: skip
    assert [row["customers"] for row in json.loads(result.output)["tiers"]] == [0, 10]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--window", "weekly"], "--window: 'weekly' is not among trailing, calendar-year, anniversary-year"),
        (["--tiers", "9"], "--tiers: '9' is not a number from 1 to 5"),
        (["--names", "a, a"], "--names: write 2 to 6 different names"),
        (["--shares", "5, 20, 1"], "--shares: write 3 per cents"),
        (["--lines", "5"], "--lines: write 3 amounts"),
        (["--grace", "period-end"], "--grace: a trailing window has no period-end"),
        (["--currency", "CNY"], "--currency: 'CNY' is not among USD"),
        (["--utc-offset", "east"], "'east' is not an offset from UTC"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_by_name(
    log: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    result = run("policy", "new", log, "--out", tmp_path / "mine.toml", "--yes", *options)
    assert result.exit_code == 2
    assert said in result.output
    assert not list(tmp_path.iterdir())


def test_a_log_without_purchases_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "purchases.jsonl"
    empty.write_text("")
    result = run("policy", "new", empty, "--yes", "--out", tmp_path / "mine.toml")
    assert result.exit_code == 2
    assert "there is no purchase in the log" in result.output


def test_too_few_customers_for_the_tiers_are_an_error() -> None:
    with pytest.raises(TooFew, match="too few, or too much alike"):
        propose_thresholds(SpendDistribution([1000, 1000, 1000]), [0.4, 0.2, 0.05], "customers", 2)
    assert propose_thresholds(SpendDistribution([1000, 5000, 20000]), [0.6, 0.3], "customers", 2) == [5000, 20000]
