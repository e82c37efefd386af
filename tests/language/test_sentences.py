"""What bodies say in sentences is said in Chinese too, whatever the policy and the log."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import load
from models.policy import SHIPPED, Policy
from streams.language.sentences import Sentences, sentences
from tests.builders import DAY, Wire, ms
from tests.outputs import all_outputs
from tests.running import policy_of
from tests.strategies import TIERS, logs, policy_texts

NAMES = (*TIERS, "delivery", "a promise", "USD")
"""What the policies and logs of the strategies call things, and which stays."""


def said_of(say: Sentences, body: dict[str, Any]) -> list[str]:
    """Every sentence that a page or a digest takes from a body."""
    after = body.get("after") or {}
    found = []
    for holder in (body, after, body.get("risk", {})):
        contributions = holder.get("contributions", [])
        found += [say.contribution(one) for one in contributions] + say.reasons(contributions)
        if holder.get("action") and "do_zh" in holder["action"]:
            found.append(say.action(holder["action"]))
    if body.get("needs"):
        found.append(say.needs(body["needs"], after["lock"]))
    for name in ("keeps", "reaches"):
        if body.get(name):
            found.append(say.needs(body[name], body["lock"]))
    return found


@given(policy_texts(), logs(), st.integers(0, 800))
def test_no_sentence_of_a_random_log_is_english(text: str, log: list[Wire], more_days: int) -> None:
    policy = policy_of(text)
    say, english = sentences("zh", policy), sentences("en", policy)
    for _, value in all_outputs(policy, log, max(ms(one["occurred_at"]) for one in log) + more_days * DAY):
        body = json.loads(value)
        for one in said_of(say, body):
            assert not re.search("[A-Za-z]{2}", re.sub("|".join(NAMES), "", one)), one
        assert len(said_of(english, body)) == len(said_of(say, body))


def needs(goal: str, *missing: dict[str, Any], since: str | None = None, before: str | None = None) -> dict[str, Any]:
    return {"goal": goal, "tier": "gold", "from": since, "before": before, "missing": list(missing), "text": "English"}


SPEND = {"measure": "spend", "amount": "1200.50", "text": "$1,200.50"}
ORDERS = {"measure": "orders", "amount": 2, "text": "2 more orders"}
SCORE = {"measure": "score", "amount": "0.4", "any_of": [SPEND, ORDERS], "text": "$1,200.50 or 2 more orders"}
PERIODS = {"measure": "active_periods", "amount": 1, "text": "orders in 1 more period of 30d"}
RECENCY = {"measure": "recency", "within": "90d", "text": "a purchase within 90d"}
YEAR = {"since": "2027-01-01T00:00:00Z", "before": "2028-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("body", "lock", "said"),
    [
        (needs("keep", SPEND, **YEAR), None, "2027-01-01 至 2027-12-31 消费 $1,200.50，即可保留 gold"),
        (needs("regain", SPEND, ORDERS, before="2028-01-01T00:00:00Z"), None, "2027-12-31 之前（含当日）再消费 $1,200.50，且再下 2 单，即可恢复 gold"),
        (needs("reach", SCORE), None, "再消费 $1,200.50，或再下 2 单，即可升至 gold"),
        (needs("reach", {**SCORE, "any_of": []}), None, "评分提高 0.4 分，即可升至 gold"),
        (needs("reach", PERIODS, RECENCY), None, "再在 1 个周期（每个 30 天）内下单，且最近 90 天内有购买，即可升至 gold"),
        (needs("reach", {"measure": "satisfaction", "at_least": 80}), None, "满意度不低于 80 分，即可升至 gold"),
        (needs("reach", {"measure": "spend", "amount": None}), None, "消费额位居前列（界线待统计后划定），即可升至 gold"),
        (needs("keep"), None, "无需更多条件即可保留 gold"),
        (needs("keep"), {"reason": "媒体联系人"}, "gold 已锁定：媒体联系人"),
    ],
)  # fmt: skip
def test_what_a_tier_needs_by_hand(body: dict[str, Any], lock: dict[str, Any] | None, said: str) -> None:
    policy = load("annual-spend")
    assert sentences("zh", policy).needs(body, lock) == said
    assert sentences("en", policy).needs(body, lock) == "English"


def test_days_are_those_of_the_policy_s_clock() -> None:
    before = "2027-12-31T16:00:00Z"
    assert "2027-12-31 之前" in sentences("zh", load("retail-three-tier")).needs(
        needs("keep", ORDERS, before=before), None
    )


def complaint(status: str, **more: Any) -> dict[str, Any]:
    return {
        "category": "delivery", "severity": "critical", "status": status, "opened_at": "2026-11-22T08:00:00Z", "repeated": False,
    } | more  # fmt: skip


@pytest.mark.parametrize(
    ("term", "text", "complaints", "said"),
    [
        ("silence", "1 day since the last purchase", None, "距上次购买已 1 天"),
        ("rhythm", "bought again on 3 days", None, "另有 3 天再次购买"),
        ("satisfaction", "20 of 100, 70 is neutral", None, "20 分（满分 100，70 分为中性）"),
        ("spend", "$30.00 a purchase, $24.46 is typical", None, "每次消费 $30.00，一般为 $24.46"),
        ("basket_trend", "$40.00 at last, $30.00 on average", None, "最近一次 $40.00，平均 $30.00"),
        ("complaints", "none remembered", [], "没有投诉"),
        ("complaints", "English", [complaint("opened")], "非常严重投诉“delivery”，2026-11-22 提出，未解决"),
        (
            "complaints", "English", [complaint("resolved", category=None, severity="low"), complaint("reopened", repeated=True)],
            "轻微投诉，2026-11-22 提出，已解决；非常严重投诉“delivery”，2026-11-22 提出，已重新提出，距另一投诉不久",
        ),
    ],
)  # fmt: skip
def test_what_a_score_rests_on_by_hand(term: str, text: str, complaints: list[Any] | None, said: str) -> None:
    one = {"term": term, "text": text} | ({} if complaints is None else {"complaints": complaints})
    assert sentences("zh", load("annual-spend")).contribution(one) == said
    assert sentences("en", load("annual-spend")).contribution(one) == text


def test_the_main_reasons_say_what_they_are_about_and_leave_out_what_hardly_weighs() -> None:
    def one(term: str, log_odds: float, text: str) -> dict[str, Any]:
        return {"term": term, "log_odds": log_odds, "text": text}

    contributions = [
        one("base", 0.9, "any new customer"), one("rhythm", -0.5, "bought again on 1 day"),
        one("silence", 0.08, "20 days since the last purchase"), one("satisfaction", 0.4, "20 of 100, 70 is neutral"),
        one("basket_trend", 0.2, "$1.00 at last, $9.00 on average"),
    ]  # fmt: skip
    policy = load("annual-spend")
    assert sentences("en", policy).reasons(contributions) == [
        "satisfaction 20 of 100, 70 is neutral",
        "spends less: $1.00 at last, $9.00 on average",
    ]
    assert sentences("zh", policy).reasons(contributions) == [
        "满意度 20 分（满分 100，70 分为中性）",
        "消费减少：最近一次 $1.00，平均 $9.00",
    ]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_policies_say_what_to_do_in_chinese(name: str) -> None:
    policy: Policy = load(name)
    for action in policy.actions:
        assert action.do_zh is not None and re.search("[一-鿿]", action.do_zh), action.do
        assert not re.search("[A-Za-z]", action.do_zh)


def test_an_action_that_a_policy_has_in_english_alone_is_told_in_english() -> None:
    assert sentences("zh", load("annual-spend")).action({"do": "Call", "before": None}) == "Call"
