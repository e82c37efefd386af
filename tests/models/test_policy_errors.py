"""Problems in a policy file are reported by line, with a way to fix them."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.policy import SHIPPED, PolicyError, Problem, load, parse
from tests.builders import policy_text, shipped_text

ANNUAL, RHYTHM, PYRAMID, QUINTILES = "annual-spend", "subscription-like", "pyramid", "rfm-quintiles"

# (shipped policy, text in it, its replacement, the setting named, the problem, how to fix it)
SLIPS = [
    (RHYTHM, "[window]", "[window", "", "not TOML", "Mend the syntax"),
    (RHYTHM, 'id = "subscription-like"', 'id = "Sub Like"', "id", "is not an id", "Use lower-case letters"),
    (RHYTHM, "version = 1", "version = 0", "version", "0 is not a version", "Start with 1"),
    (RHYTHM, "version = 1", 'version = "1"', "version", "expected `int`, got `str`", "Write a value of that kind"),
    (RHYTHM, 'currency = "USD"', 'currency = "usd"', "currency", "is not a currency", "three capital letters"),
    (RHYTHM, 'currency = "USD"', 'currency = "USD"\nrates.EUR = "0"', "rates.EUR", "is not a rate", 'as in "7.10"'),
    (RHYTHM, 'currency = "USD"', 'currency = "USD"\nrates.EUR = "1e999"', "rates.EUR", "is not a rate", 'as in "7.10"'),
    (RHYTHM, 'currency = "USD"', 'currency = "USD"\nrates.EUR = "1/0"', "rates.EUR", "is not a rate", 'as in "7.10"'),
    (RHYTHM, 'currency = "USD"', 'currency = "USD"\nrates.USD = "1"', "rates.USD", "policy's own currency", "Remove it"),
    (RHYTHM, 'currency = "USD"', 'currency = "USD"\nrates.euro = "1"', "rates.euro", "is not a currency", "ISO 4217"),
    (RHYTHM, 'period = "30d"', 'period = "45m"', "period", "is not a multiple of window.bucket", "such as 30d"),
    (RHYTHM, 'length = "180d"', 'length = "6 months"', "window.length", "is not a duration", "as in 90d"),
    (RHYTHM, 'length = "180d"', 'length = "1h"', "window.length", "1h is too short", "at least 1d"),
    (RHYTHM, 'length = "180d"', 'length = "999999d"', "window.length", "999999d is too long", "at most 36500d"),
    (RHYTHM, 'length = "180d"', 'length = "180d"\nbuckets = "1h"', "window.buckets", "no such setting", "Did you mean 'bucket'?"),
    (RHYTHM, 'length = "180d"', 'length = "180d"\nbucket = "7h"', "window.bucket", "does not divide a day", "Use 1m"),
    (RHYTHM, 'length = "180d"', 'length = "180d"\nbucket = "0d"', "window.bucket", "0d is too short", "at least 1m"),
    (RHYTHM, 'length = "180d"', 'length = "180d"\nutc_offset = "8"', "window.utc_offset", "is not an offset", "as +08:00"),
    (RHYTHM, 'length = "180d"', 'length = "180d"\nutc_offset = "+05:45"', "window.utc_offset", "not a multiple", "smaller buckets"),
    (ANNUAL, 'kind = "calendar-year"', 'kind = "trailing"', "window", "needs a length", 'length = "365d"'),
    (ANNUAL, 'kind = "calendar-year"', 'kind = "calendar-year"\nlength = "365d"', "window.length", "has its year", "Remove it"),
    (ANNUAL, 'kind = "calendar-year"', 'kind = "lunar-year"', "window.kind", "invalid enum value 'lunar-year'", "Write one of trailing, calendar-year, anniversary-year"),
    (ANNUAL, 'base_tier = "member"', 'base_tier = ""', "base_tier", "is empty", "Use 1 to 64 characters"),
    (ANNUAL, 'grace = "period-end"', 'period = "30d"', "downgrade.period", "no such setting", "Remove it"),
    (ANNUAL, 'min_spend = "200.00"', 'min_spend = "200.001"', "tiers[1].min_spend", "more than 2 decimals", "Write"),
    (ANNUAL, 'min_spend = "200.00"', 'min_spend = "20.00"', "tiers[1].min_spend", "asks for less than the tier 'silver'", "in order"),
    (ANNUAL, 'min_spend = "200.00"', 'min_spend = "-1"', "tiers[1].min_spend", "-1 is out of range", "from 0 up"),
    (ANNUAL, 'min_spend = "200.00"', 'min_spent = "200"', "tiers[1].min_spent", "no such setting", "Did you mean 'min_spend'?"),
    (ANNUAL, 'min_spend = "200.00"', "min_score = 3", "tiers[1].min_score", "there is no [score]", "Add the table [score]"),
    (ANNUAL, 'min_spend = "200.00"', "min_satisfaction = 101", "tiers[1].min_satisfaction", "101 is out of range", "0 to 100"),
    (ANNUAL, 'name = "gold"', 'name = "silver"', "tiers[1].name", "is there already", "a name of its own"),
    (ANNUAL, 'name = "gold"', 'name = ""', "tiers[1].name", "is empty or too long", "1 to 64 characters"),
    (RHYTHM, 'max_recency = "60d"', 'max_recency = "91d"', "tiers[1].max_recency", "asks for less", "in order"),
    (PYRAMID, "top_share = 0.20", "top_share = 20", "tiers[0].top_share", "20.0 is not a share", "such as 0.05"),
    (PYRAMID, "top_share = 0.05", "top_share = 0.30", "tiers[1].top_share", "is not smaller than", "lowest first"),
    (PYRAMID, "top_share = 0.20", 'top_share = 0.20\nmin_spend = "5"', "tiers[0].min_spend", "draw the same line", "Remove one"),
    (PYRAMID, 'every = "1d"', 'every = "1m"', "relative.every", "1m is too short", "at least 1h"),
    (ANNUAL, "alpha_weeks = 6.183", "alpha_weeks = 0", "risk.alpha_weeks", "0.0 is not a parameter", "above 0"),
    (ANNUAL, "alpha_weeks = 6.183", "alpha_weeks = 0.0001", "risk.alpha_weeks", "too short for r = 0.525", "at least 0.00"),
    (ANNUAL, "[downgrade]", '[relative]\nevery = "1d"\n[downgrade]', "relative", "draws no line", "top_share"),
    (QUINTILES, "recency = [1, 1]", "recency = [2, 1]", "segments[9].recency", "is not a range", "[4, 5]"),
    (QUINTILES, "[downgrade]", '[[segments]]\nname = "x"\n[downgrade]', "segments[10]", "are more than 10", "join some"),
    (PYRAMID, "annual_discount = 0.10", "annual_discount = 2", "value.annual_discount", "is not a rate", "such as 0.1"),
    (PYRAMID, "annual_discount = 0.10", 'cost_to_serve = { brass = "1" }', "value.cost_to_serve.brass", "is not known", "lead, iron"),
    (RHYTHM, "min_score = 3.5", "min_score = 3.5001", "tiers[2].min_score", "at most three decimals", "Round it"),
    (RHYTHM, "min_score = 3.5", "min_score = inf", "tiers[2].min_score", "inf is not a number", "Round it"),
    (RHYTHM, "min_score = 3.5", 'min_score = "1e999999"', "tiers[2].min_score", "is not a number", "such as 0.3"),
    (RHYTHM, "min_score = 3.5", "min_score = nan", "tiers[2].min_score", "nan is not a number", "such as 0.3"),
    (RHYTHM, "[2, 4, 6, 9]", "[4, 2]", "score.frequency.breakpoints", "are not ascending", "from the smallest up"),
    (RHYTHM, "[2, 4, 6, 9]", '["few"]', "score.frequency.breakpoints", "'few'", "Write"),
    (RHYTHM, "recency = { weight = 0.4", "recency = { weight = -1", "score.recency.weight", "is negative", "from 0 up"),
    (RHYTHM, 'grace = "14d"', 'grace = "period-end"', "downgrade.grace", "has no period-end", "such as 30d"),
    (RHYTHM, 'grace = "14d"', 'grace = "999999d"', "downgrade.grace", "too long", "at most 36500d"),
    (RHYTHM, 'step = "direct"', 'step = "two"', "downgrade.step", "invalid enum value 'two'", "Write one of one, direct"),
    (ANNUAL, "r = 0.525", "r = 0", "risk.r", "is not a parameter", "a number above 0"),
    (ANNUAL, "r = 0.525", "", "risk.r", "is missing", "Add r = ..."),
    (ANNUAL, "a = 0.891", "a = 1.0", "risk.a", "no expectation at a = 1", "Use 0.999"),
    (ANNUAL, 'horizon = "90d"', 'horizon = "1h"', "risk.horizon", "1h is too short", "at least 1d"),
    (ANNUAL, "raise_at = 0.80", "raise_at = 0.70", "risk.levels[0]", "ease_below <= raise_at", "Raise at a higher"),
    (ANNUAL, "raise_at = 0.90\nease_below = 0.86", "raise_at = 0.79\nease_below = 0.70", "risk.levels[1]", "is not above the level 'watch'", "in order"),
    (ANNUAL, 'name = "watch"', 'name = "none"', "risk.levels[0].name", "'none' is taken", "a name of its own"),
    (ANNUAL, "low = 0.2, ", "", "risk.complaints.severity", "has medium, high, critical", "Give each of low"),
    (ANNUAL, "low = 0.2", "low = -0.2", "risk.complaints.severity.low", "never lowers the risk", "Write 0 to 10"),
    (ANNUAL, "repeat_factor = 1.5", "repeat_factor = 0.5", "risk.complaints.repeat_factor", "out of range", "1 to 10"),
    (ANNUAL, "protection = 0.25", "protection = -1.0", "risk.complaints.protection", "out of range", "0 to 10"),
    (ANNUAL, 'step = "7d"', 'step = "1h"', "risk.complaints.step", "very small beside forget_after", "Use a longer one"),
    (ANNUAL, "neutral = 70", "neutral = 700", "risk.satisfaction.neutral", "not within 0 and 100", "0 to 100"),
    (ANNUAL, "per_ten_points = 0.15", "per_ten_points = -1.0", "risk.satisfaction.per_ten_points", "never raises", "0 to 10"),
    (ANNUAL, 'cause = "complaints"', 'cause = "boredom"', "actions[0].cause", "is not among base, rhythm", "leave it out"),
    (ANNUAL, 'cool_down = "30d"', 'cool_down = "soon"', "alerts.cool_down", "is not a duration", "as in 90d"),
    (ANNUAL, 'cool_down = "30d"', 'level = "doom"', "alerts.level", "'doom' is not among watch, high, critical", "leave it out for the lowest"),
    (ANNUAL, "budget = 40", "budget = 0", "alerts.budget", "0 is out of range", "or leave it out"),
    (ANNUAL, "budget = 40", "incident_customers = 1", "alerts.incident_customers", "1 alerts are no incident", "Write 2 or more"),
    (ANNUAL, 'do_zh = "客户经理亲自致电：致歉，商定补救办法，并跟进落实"', 'do_zh = " "', "actions[0].do_zh", "is empty", "Say what to do"),
    (ANNUAL, 'within = "4h"', 'within = "soon"', "actions[0].within", "is not a duration", "as in 90d"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "there", "instead", "where", "what", "fix"), SLIPS)
def test_a_slip_is_reported_with_its_line_and_a_way_to_fix_it(
    name: str, there: str, instead: str, where: str, what: str, fix: str
) -> None:
    problem = first_problem(shipped_text(name), there, instead, where)
    assert what in problem.what
    assert fix in problem.fix
    assert f"line {problem.line}: {where}" in str(problem)


def first_problem(text: str, there: str, instead: str, where: str) -> Problem:
    """The problem caused by the replaced text, at its line (or at its table's, if it is missing)."""
    assert there in text
    at = text.index(there)
    changed = text.replace(there, instead, 1)
    with pytest.raises(PolicyError) as caught:
        parse(changed, "mine.toml")
    problem = next(one for one in caught.value.problems if one.where == where)
    said = changed.splitlines()[problem.line - 1]
    table_or_setting = where.rpartition(".")[2].partition("[")[0]
    assert table_or_setting in said or said.startswith("["), said
    expected_line = text[:at].count("\n") + 1 + instead.count("\n")
    assert 0 <= expected_line - problem.line <= (12 if said.startswith("[") else 0)
    assert str(caught.value).startswith(f"mine.toml, line {caught.value.problems[0].line}: ")
    return problem


def test_every_problem_is_reported_at_once() -> None:
    text = policy_text(version=0, currency="usd", downgrade={"grace": "soon"})
    with pytest.raises(PolicyError) as caught:
        parse(text)
    assert [problem.where for problem in caught.value.problems] == ["version", "currency", "downgrade.grace"]
    assert [text.splitlines()[problem.line - 1] for problem in caught.value.problems] == [
        "version = 0",
        'currency = "usd"',
        'grace = "soon"',
    ]


def test_no_tier_and_no_level_are_said() -> None:
    with pytest.raises(PolicyError, match=r"tiers: there is no tier. Add \[\[tiers\]\]"):
        parse(policy_text(tiers=[]))
    with pytest.raises(PolicyError, match=r"there is no level. Add \[\[risk.levels\]\]"):
        parse(policy_text(risk={"levels": []}))


def test_a_tier_that_asks_for_nothing_is_a_slip() -> None:
    with pytest.raises(PolicyError, match=r"tiers\[0\]: asks for nothing. Give it at least one of min_spend"):
        parse(policy_text(tiers=[{"name": "silver"}]))


def test_an_assumed_satisfaction_is_a_score() -> None:
    with pytest.raises(PolicyError, match=r"satisfaction.assume: 101 is not within 0 and 100"):
        parse(policy_text(satisfaction={"assume": 101}))


def test_a_file_that_is_not_there_is_answered_with_the_shipped_ones() -> None:
    with pytest.raises(PolicyError, match=r"can't read it: No such file or directory. Give the path .* annual-spend"):
        load("no-such-policy")


def test_a_file_that_is_no_text_is_said(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyError, match="it is not UTF-8 text"):
        load(path)


def test_a_policy_can_be_loaded_by_path_or_by_shipped_name(tmp_path: Path) -> None:
    for name in SHIPPED:
        path = tmp_path / f"{name}.toml"
        path.write_text(shipped_text(name), "utf-8")
        assert load(path) == load(name)
        assert load(name).ref == f"{name}@1"
