"""`tierstream policy fit` and `tierstream policy backtest` as their users meet them, on the CDNOW sample with made-up complaints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from models import load
from models.policy.parameters_file import read_parameters
from streams.cli import app
from tests.builders import cdnow, shipped_text, some_customers, with_made_up_complaints

OWN = 'fitted_on = "CDNOW sample, 39 weeks of 1997"\nr = 0.525\nalpha_weeks = 6.183\na = 0.891\nb = 1.614\nhorizon = "90d"\n'


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "cdnow.jsonl"
    wires = some_customers(with_made_up_complaints(cdnow()), 2)
    path.write_text("".join(json.dumps(wire) + "\n" for wire in wires))
    return path


def policy_with(parameters: Path) -> Path:
    path = parameters.with_name("mine.toml")
    text = shipped_text("annual-spend")
    assert OWN in text
    path.write_text(text.replace(OWN, f'parameters = "{parameters.name}"\n'))
    return path


def test_a_fit_is_used_by_a_policy_and_named_in_every_announcement(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "params.toml"
    result = run("policy", "fit", log, "--out", out, "--horizon", "60d")
    assert result.exit_code == 0, result.output
    assert "area under the ROC curve" in result.output
    assert f"written to {out}" in result.output
    fitted = read_parameters(out)
    assert fitted.fit.horizon == "60d"
    assert fitted.metrics.auc > 0.7
    assert fitted.metrics.brier < fitted.metrics.brier_of_base_rate
    assert fitted.complaints is not None
    mine = policy_with(out)
    replayed = run("replay", log, "--policy", mine, "--out", tmp_path / "replayed", "--json")
    assert replayed.exit_code == 0, replayed.output
    ref = f"annual-spend@1+{fitted.digest}"
    bodies = [json.loads(line) for line in (tmp_path / "replayed" / "churn-risk.jsonl").read_text().splitlines()]
    assert {body["policy"] for body in bodies} == {ref}
    terms = {one["term"]: one["log_odds"] for one in bodies[0]["contributions"]}
    assert {"frequency", "spend"} <= set(terms)
    assert sum(terms.values()) == pytest.approx(bodies[0]["after"]["log_odds"], abs=1e-9)


def test_the_same_log_gives_the_same_parameters(log: Path, tmp_path: Path) -> None:
    files = [tmp_path / "one.toml", tmp_path / "other.toml"]
    for file in files:
        assert run("policy", "fit", log, "--out", file).exit_code == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_fit_is_json_for_machines(log: Path, tmp_path: Path) -> None:
    result = run("policy", "fit", log, "--out", tmp_path / "params.toml", "--json")
    body = json.loads(result.output)
    assert body["metrics"]["auc"] > 0.7
    assert body["digest"] == read_parameters(tmp_path / "params.toml").digest


def test_a_backtest_writes_what_it_prints(log: Path, tmp_path: Path) -> None:
    report, page = tmp_path / "report.json", tmp_path / "report.html"
    result = run(
        "policy",
        "backtest",
        log,
        "--policy",
        "annual-spend",
        "--policy",
        "subscription-like",
        "--json",
        report,
        "--html",
        page,
    )
    assert result.exit_code == 0, result.output
    body = json.loads(report.read_text())
    names = [model["name"] for model in body["models"]]
    assert names == [
        "recency", "own rhythm", "frequency", "MBG/NBD, fitted", "score card, fitted", "annual-spend@1", "subscription-like@1",
    ]  # fmt: skip
    for model in body["models"]:
        assert {"name", "auc", "brier", "lift_5", "lift_10"} <= set(model)
        assert 0.5 < model["auc"] < 1
        assert len(model["by_origin"]) == len(body["origins"]) == 4
    annual, rhythm = body["policies"]
    assert annual["alerts"] > 500
    assert 0 < annual["precision"] < 1
    hasty = annual["without_grace_hold_and_hysteresis"]
    assert hasty["tier_changes_per_customer"] > annual["tier_changes_per_customer"]
    assert hasty["risk_changes_per_customer"] > annual["risk_changes_per_customer"]
    assert rhythm["losses"] == annual["losses"]
    for line in body["verdict"]:
        assert line.split()[0] in result.output
    html = page.read_text()
    assert html.startswith("<!DOCTYPE html>")
    assert "subscription-like@1" in html


def test_parameters_fitted_to_the_tested_outcomes_are_reported(log: Path, tmp_path: Path) -> None:
    whole, earlier = tmp_path / "whole.toml", tmp_path / "earlier.toml"
    assert run("policy", "fit", log, "--out", whole).exit_code == 0
    assert run("policy", "fit", log, "--out", earlier, "--until", "1997-12-01").exit_code == 0
    report = tmp_path / "report.json"
    for parameters, fair in ((whole, False), (earlier, True)):
        policy = policy_with(parameters)
        result = run("policy", "backtest", log, "--policy", policy, "--cut", "1998-01-01", "--json", report)
        assert result.exit_code == 0, result.output
        body = json.loads(report.read_text())
        ref = load(policy).ref
        assert next(one for one in body["models"] if one["name"] == ref)["is_out_of_sample"] is fair
        assert any("figures flatter it" in line for line in body["verdict"]) is not fair


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fit", "--horizon", "2y"], "is not a duration"),
        (["fit", "--horizon", "400d"], "give a longer log or a shorter --horizon"),
        (["fit", "--until", "1997-02-01"], "give a longer log or a shorter --horizon"),
        (["fit", "--out", "/no/such/folder/params.toml"], "give another --out"),
        (["fit", "--policy", "none.toml"], "Give the path of a TOML file"),
        (["backtest", "--cut", "1998-06-01"], "can be cut between 1997-01-29 and 1998-03-30"),
        (["backtest", "--cut", "soon"], "is not a time"),
        (["backtest", "--html", "/no/such/folder/report.html", "--cut", "1998-01-01"], "give another file"),
    ],
)
def test_an_impossible_request_is_refused_with_what_to_give(
    log: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    name, *options = arguments
    if name == "fit" and "--out" not in options:
        options += ["--out", str(tmp_path / "params.toml")]
    result = run("policy", name, log, *options)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_logs_without_purchases_or_with_too_few_customers_are_refused(log: Path, tmp_path: Path) -> None:
    lines = log.read_text().splitlines()
    empty, small = tmp_path / "complaints.jsonl", tmp_path / "small.jsonl"
    empty.write_text("\n".join(line for line in lines if '"complaints"' in line))
    small.write_text("\n".join(line for line in lines if '"00' in line))
    assert "there is no purchase in the log" in run("policy", "fit", empty, "--out", tmp_path / "p.toml").output
    assert "customers" in run("policy", "fit", small, "--out", tmp_path / "p.toml").output
    assert not (tmp_path / "p.toml").exists()
