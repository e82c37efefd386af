"""`tierstream policy test`: test customers are run through a policy like unit tests."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from models.policy import SHIPPED
from streams.cli import app
from tests.builders import ROOT, policy_text

ADA = """
[[customers]]
name = "Ada"
events = [
  { on = "2026-01-05", amount = "120.00" },   # gold from $100
  { on = 2026-01-20, refund = "30.00", of = "2026-01-05" },
]
expect = [
  { at = "2026-01-10", tier = "gold" },
  { at = "2026-02-01", EXPECTED },
]
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(policy_text())
    return path


def outcome_of(policy: Path, text: str, *options: str, name: str = "customers.toml") -> Result:
    file = policy.with_name(name)
    file.write_text(text)
    return run("policy", "test", policy, file, *options)


@pytest.mark.parametrize("policy", SHIPPED)
def test_the_test_customers_of_a_shipped_policy_are_as_expected(policy: str) -> None:
    result = run("policy", "test", policy)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1].endswith(" as expected, 0 not")


def test_an_outcome_as_expected_is_a_line_and_the_status_is_0(policy: Path) -> None:
    # 120 - 30 = 90: too little for gold, so it is lost after a grace of 30 days from 20 January.
    result = outcome_of(policy, ADA.replace("EXPECTED", 'tier = "gold", spend = "90.00", downgrade_at = "2026-02-19"'))
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "ok      2026-01-10            Ada",
        "ok      2026-02-01            Ada",
        "small@1: 2 as expected, 0 not",
    ]


def test_a_difference_is_reported_with_its_line_and_the_figures_of_the_rule(policy: Path) -> None:
    result = outcome_of(policy, ADA.replace("EXPECTED", 'tier = "silver"'))
    assert result.exit_code == 1
    file = policy.with_name("customers.toml")
    assert result.output.splitlines()[1:4] == [
        "FAILED  2026-02-01            Ada",
        f"        {file}, line 10: tier should be 'silver', but is 'gold'",
        "            silver asks for spend at least 50.00 (90.00: met); gold asks for spend at least 100.00 (90.00: not met); "
        "gold is lost on 2026-02-19T00:00:00Z unless that changes; the latest change was downgrade_scheduled, 2026-01-20T00:00:00Z",
    ]


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ('spend = "91.00"', ("spend", "91.00", "90.00")),
        ("orders = 2", ("orders", "2", "1")),
        ("locked = true", ("locked", "yes", "no")),
        ('keeps = "nothing"', ("keeps", "nothing", "$10.00 by 2026-02-18 keeps gold")),
        ('downgrade_at = "none"', ("downgrade_at", "none", "2026-02-19T00:00:00Z")),
        ('risk = "high"', ("risk", "high", "none")),
        ("probability = 0.5", ("probability", "0.50", "0.79")),
        ('alert = "open"', ("alert", "open", "none")),
        ('stage = "new"', ("stage", "new", "none")),
        ("satisfaction = 80", ("satisfaction", "80", "none")),
        ('announced = { tier-changes = ["downgrade"] }', ("tier-changes", "downgrade", "downgrade_scheduled")),
    ],
)
def test_every_kind_of_expectation_can_fail(policy: Path, expected: str, actual: tuple[str, str, str]) -> None:
    result = outcome_of(policy, ADA.replace("EXPECTED", expected), "--json")
    assert result.exit_code == 1
    body: dict[str, Any] = json.loads(result.output)
    assert not body["ok"]
    (failed,) = (one for one in body["outcomes"] if not one["ok"])
    assert (failed["customer"], failed["at"], failed["line"]) == ("Ada", "2026-02-01T00:00:00Z", 10)
    (found,) = failed["differences"]
    assert (found["what"], found["expected"], found["actual"]) == actual


def test_late_events_are_accepted_and_the_refusal_of_one_too_late_can_be_expected(policy: Path) -> None:
    text = """
[[customers]]
name = "late"
events = [
  { on = "2026-03-01", amount = "60.00" },
  { on = "2026-01-01", amount = "40.00" },                       # 60 + 40 = 100
  { on = "2024-01-01", amount = "40.00", refused = "too_late" },   # more than 365 days before 2026-03-01
]
expect = [
  { at = "2026-02-01", tier = "member" },
  { at = "2026-03-01", tier = "gold", spend = "100.00" },
]
"""
    result = outcome_of(policy, text)
    assert result.exit_code == 1
    assert "'member', but is 'not known yet'" in result.output
    assert "1 as expected, 1 not" in result.output
    taken = outcome_of(policy, text.replace(', refused = "too_late"', ""))
    assert "line 7: refused should be 'none', but is 'too_late'" in taken.output


def test_customers_can_be_in_a_json_file(policy: Path) -> None:
    customers = [
        {
            "name": "Bo",
            "events": [{"on": "2026-01-05", "amount": 50}, {"on": "2026-01-06", "feedback": 40}],
            "expect": [{"at": "2026-01-06", "tier": "silver", "satisfaction": 40}],
        }
    ]
    result = outcome_of(policy, json.dumps({"customers": customers}), name="customers.json")
    assert result.exit_code == 0, result.output


def test_without_thresholds_in_the_file_its_customers_are_the_base(tmp_path: Path) -> None:
    # Ten customers spent 1 to 10 dollars. top_share 0.2 is rank 10 - 2 = 8: from $9. docs/policies.md has the same by
    # hand.
    policy = tmp_path / "mine.toml"
    policy.write_text(policy_text(tiers=[{"name": "best", "top_share": 0.2}]))
    text = "".join(
        f'[[customers]]\nname = "${amount}"\nevents = [{{ on = "2026-01-05", amount = {amount} }}]\n'
        f'expect = [{{ at = "2026-01-06", tier = "{"best" if amount >= 9 else "member"}" }}]\n'
        for amount in range(1, 11)
    )
    result = outcome_of(policy, text)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('amount = "120.00"', 'amount = "120.00", feedback = 4', "line 5: customers[0].events[0]: has several kinds, amount and feedback"),
        ('amount = "120.00"', 'id = "a"', "line 5: customers[0].events[0]: does not say what happens"),
        ('amount = "120.00"', 'amount = "abc"', "line 5: customers[0].events[0]: bad_amount: "),
        ('amount = "120.00"', 'amount = "1", severity = "low"', "line 5: customers[0].events[0].severity: is not a key of amount"),
        ('refund = "30.00"', 'refnud = "30.00"', "line 6: customers[0].events[1]: object contains unknown field `refnud`"),
        ('on = "2026-01-05"', 'on = "soon"', "line 5: customers[0].events[0].on: 'soon' is not a time. Write 2026-01-31"),
        ("EXPECTED", 'tier = "golden"', "line 10: customers[0].expect[1].tier: 'golden' is not among member, silver, gold"),
        ("EXPECTED", 'score = "3"', "line 10: customers[0].expect[1].score: small@1 has no score"),
        ('{ at = "2026-02-01", EXPECTED }', '{ at = "2026-01-01", tier = "gold" }', "line 10: customers[0].expect[1]: is earlier than the one before it"),
        ('{ at = "2026-02-01", EXPECTED }', '{ at = "2026-02-01" }', "line 10: customers[0].expect[1]: expects nothing"),
        ("[[customers]]", "[[lines]]\non = 2026-01-01\ntop_spend = [1]\n[[customers]]", "line 2: lines: small@1 has no thresholds that follow its base"),
        ("[[customers]]", "[[customers]", "line 2: not TOML"),
    ],
)  # fmt: skip
def test_mistakes_in_a_file_are_reported_with_their_lines(policy: Path, before: str, after: str, said: str) -> None:
    assert before in ADA
    result = outcome_of(policy, ADA.replace(before, after).replace("EXPECTED", 'tier = "gold"'))
    assert result.exit_code == 2
    assert f"{policy.with_name('customers.toml')}, {said}" in result.output


def test_mistakes_in_tables_of_events_are_reported_with_their_lines_too(policy: Path) -> None:
    text = '[[customers]]\nname = "Ada"\nexpect = []\n[[customers.events]]\non = "2026-01-05"\namount = 1\n[[customers.events]]\non = "soon"\namount = 1\n'
    assert "line 8: customers[0].events[1].on: 'soon' is not a time" in outcome_of(policy, text).output


def test_a_missing_file_and_a_policy_without_one_are_refused(policy: Path) -> None:
    assert run("policy", "test", policy).exit_code == 2
    result = run("policy", "test", policy, policy.with_name("none.toml"))
    assert result.exit_code == 2
    assert "can't read it: No such file or directory" in result.output


@pytest.mark.parametrize("policy", SHIPPED)
def test_the_written_example_can_be_run(policy: str, tmp_path: Path) -> None:
    example = tmp_path / "customers.toml"
    assert run("policy", "test", policy, "--write-example", example).exit_code == 0
    result = run("policy", "test", policy, example)
    assert result.exit_code == 0, result.output
    if policy == "annual-spend":
        # By hand: silver 75, gold 200, platinum 500 in four orders; a cent less is the tier below.
        tiers = [
            line.split('tier = "')[1].split('"')[0] for line in example.read_text().splitlines() if "tier = " in line
        ]
        assert tiers == ["member", "silver", "member", "gold", "silver", "platinum", "gold"]
    assert run("policy", "test", policy, "--write-example", example).exit_code == 2


def test_the_example_of_the_documentation_prints_what_is_written_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "policies.md").read_text("utf-8")
    example = re.search(r'    \[\[customers\]\]\n    name = "Ada.*?\n\n', text, re.DOTALL)
    assert example is not None
    monkeypatch.chdir(tmp_path)
    Path("customers.toml").write_text(textwrap.dedent(example[0]))
    result = run("policy", "test", "annual-spend", "customers.toml")
    assert result.exit_code == 1
    assert textwrap.indent(result.output, "    ") in text
