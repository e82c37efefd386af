"""`tierstream policy show`: a policy for people who don't read TOML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models import load
from models.policy import SHIPPED
from streams.cli import app
from tests.builders import policy_text


def shown(*arguments: str | Path, width: int = 100) -> str:
    result = CliRunner().invoke(app, ["policy", "show", *map(str, arguments)], env={"COLUMNS": str(width)})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("policy", SHIPPED)
def test_every_tier_level_action_and_segment_is_shown(policy: str) -> None:
    chosen, text = load(policy), shown(policy, width=200)
    names = [tier.name for tier in chosen.ladder.tiers]
    names += [level.name for level in chosen.risk.levels]
    names += [action.do for action in chosen.actions]
    names += [segment.name for segment in chosen.segments]
    assert [name for name in names if name not in text] == []


@pytest.mark.parametrize("policy", SHIPPED)
@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(policy: str, width: int) -> None:
    assert max(map(len, shown(policy, width=width).splitlines())) <= width


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ("annual-spend", "Purchases since 1 January, less refunds. Every year begins at nothing, at midnight UTC."),
        ("annual-spend", "so a tier earned in one year lasts to the end of the next."),
        ("retail-three-tier", "1 USD counts as 7.1 CNY."),
        ("retail-three-tier", "An answer to a survey is valid for 365 days; a missing answer counts as 80."),
        ("retail-three-tier", "A tier is held for at least 180 days."),
        ("subscription-like", "A downgrade is directly to the tier that the customer still qualifies for."),
        ("pyramid", "they are computed again every day, from all customers with an order in the window."),
        ("pyramid", "platinum   the top 1 %"),
        ("rfm-quintiles", "purchases at the customer's own mean, all of it margin, discounted by 10 % a year."),
    ],
)  # fmt: skip
def test_the_meaning_of_settings_is_a_sentence(policy: str, sentence: str) -> None:
    assert sentence in shown(policy, width=400)


def test_a_rate_between_currencies_with_other_decimals_is_per_unit(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(policy_text(currency="JPY", rates={"USD": "150"}, tiers=[{"name": "gold", "min_spend": "20000"}]))
    text = shown(path)
    assert "1 USD counts as 150 JPY." in text
    assert "20,000 JPY" in text


def test_complaints_are_weights_times_factors(tmp_path: Path) -> None:
    # By hand: high 0.9, escalated 1.4: 1.26; medium 0.5, resolved 0.35: 0.175.
    (table,) = (one for one in json.loads(shown("annual-spend", "--json"))["sections"] if one["title"] == "Complaints")
    rows = {row["severity"]: row for row in table["rows"]}
    assert rows["high"]["escalated"] == "+1.26"
    assert rows["medium"]["resolved"] == "+0.175"


def test_texts_of_a_policy_can_not_break_the_tables_of_markdown(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(policy_text(title="a | b <script>", actions=[{"do": "call | write\nnow", "within": "1d"}]))
    lines = shown(path, "--markdown").splitlines()
    assert lines[0] == r"# a \| b \<script\>"
    assert r"| any | any | any | call \| write now | 1 day |" in lines
    for policy in SHIPPED:
        tables = [
            line.count("|") - line.count(r"\|")
            for line in shown(policy, "--markdown").splitlines()
            if line.startswith("|")
        ]
        assert min(tables) >= 3


def test_a_file_that_is_not_a_policy_is_refused() -> None:
    result = CliRunner().invoke(app, ["policy", "show", "none.toml"])
    assert result.exit_code == 2
    assert "can't read it" in result.output
