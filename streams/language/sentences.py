"""The sentences of a body in each language: why a customer is at risk, what to do, what keeps a tier.

In English they are the body's own texts. In Chinese they are built from the figures and dates beside the English text;
or from the text itself, where a figure is only there. The console and the digest both use this module.
"""

from __future__ import annotations

import re
from typing import Any, Final

from models import units
from models.policy import Policy
from streams.language.console_words import words

MOST_REASONS: Final = 2
LEAST_SHARE: Final = 0.1
"""The least share of the largest contribution that a further reason has to have."""


class Sentences:
    """The sentences in English."""

    headings: dict[str, str] = {"satisfaction": "satisfaction ", "basket_trend": "spends less: "}
    """Stands before the evidence of a contribution that does not say itself what it is about."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def contribution(self, one: dict[str, Any]) -> str:
        """The evidence for a term of the score."""
        text: str = one["text"]
        return text

    def reasons(self, contributions: list[dict[str, Any]]) -> list[str]:
        """The main reasons of an alert, the largest contribution first."""
        raising = sorted((one for one in contributions if one["log_odds"] > 0), key=lambda one: -one["log_odds"])
        # A term of every new customer is no reason to call this one; nor is a small contribution.
        reasons = [
            self.headings.get(one["term"], "") + self.contribution(one)
            for one in raising
            if one["term"] != "base" and one["log_odds"] >= raising[0]["log_odds"] * LEAST_SHARE
        ]
        return reasons[:MOST_REASONS]

    def action(self, action: dict[str, Any]) -> str:
        """What to do."""
        do: str = action["do"]
        return do

    def needs(self, needs: dict[str, Any], lock: dict[str, Any] | None) -> str:
        """What keeps, regains or reaches a tier; `lock` is the lock of the customer's tier, if somebody set one."""
        text: str = needs["text"]
        return text


class Chinese(Sentences):
    """The sentences in Chinese."""

    headings = {"satisfaction": "满意度 ", "basket_trend": "消费减少："}

    def contribution(self, one: dict[str, Any]) -> str:
        """The evidence for a term of the score; in English if its text is not known here."""
        if one.get("complaints"):
            return "；".join(map(_complaint, one["complaints"]))
        for pattern, said in CONTRIBUTIONS.get(one["term"], ()):
            match = re.fullmatch(pattern, one["text"])
            if match is not None:
                return match.expand(said)
        return super().contribution(one)

    def action(self, action: dict[str, Any]) -> str:
        """What to do, in the policy's own words; in English if it has no Chinese ones."""
        do: str = action.get("do_zh", action["do"])
        return do

    def needs(self, needs: dict[str, Any], lock: dict[str, Any] | None) -> str:
        """What keeps, regains or reaches a tier."""
        tier, goal = needs["tier"], GOALS[needs["goal"]]
        if lock is not None and needs["goal"] == "keep":
            return f"{tier} 已锁定：{lock['reason']}"
        when = self._when(needs)
        if not needs["missing"]:
            return f"{when}无需更多条件即可{goal} {tier}"
        # In a future period the whole amount is needed, in the present one only the missing part.
        more = "再" if needs["from"] is None else ""
        return f"{when}{'，且'.join(self._missing(one, more) for one in needs['missing'])}，即可{goal} {tier}"

    def _when(self, needs: dict[str, Any]) -> str:
        """The period, in the policy's time zone; its last day still counts."""
        if needs["before"] is None:
            return ""
        last = self._day(units.parse_time(needs["before"]) - 1)
        if needs["from"] is None:
            return f"{last} 之前（含当日）"
        return f"{self._day(units.parse_time(needs['from']))} 至 {last} "

    def _day(self, at_ms: int) -> str:
        return units.format_time(at_ms + self.policy.window.utc_offset_ms)[:10]

    def _missing(self, one: dict[str, Any], more: str) -> str:
        measure, amount = one["measure"], one.get("amount")
        if measure == "satisfaction":
            return f"满意度不低于 {one['at_least']} 分"
        if measure == "recency":
            return f"最近 {_duration(one['within'])}内有购买"
        if measure == "score":
            ways = [self._missing(way, more) for way in one["any_of"]]
            return "，或".join(ways) if ways else f"评分提高 {amount} 分"
        if measure == "active_periods":
            period = _duration(units.format_duration(self.policy.period_ms))
            return f"{more}在 {amount} 个周期（每个 {period}）内下单"
        if measure == "orders":
            return f"{more}下 {amount} 单"
        if amount is None:
            return "消费额位居前列（界线待统计后划定）"
        minor = units.parse_minor(amount, self.policy.decimals)
        return f"{more}消费 {units.money_in_words(minor, self.policy.currency)}"


def sentences(language: str, policy: Policy) -> Sentences:
    """The sentences of a language, about customers under a policy."""
    return Chinese(policy) if language == "zh" else Sentences(policy)


GOALS: Final = {"keep": "保留", "regain": "恢复", "reach": "升至"}
STATUSES: Final = {"opened": "未解决", "escalated": "已升级", "resolved": "已解决", "reopened": "已重新提出"}
DURATIONS: Final = {"d": "天", "h": "小时", "m": "分钟", "s": "秒", "ms": "毫秒"}
CONTRIBUTIONS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "base": ((r"any new customer", "任何新客户"),),
    "rhythm": (
        (r"bought again on (\d+) days?", r"另有 \1 天再次购买"),
        (r"has not bought again yet", "尚未再次购买"),
    ),
    "silence": ((r"(\d+) days? since the last purchase", r"距上次购买已 \1 天"),),
    "complaints": ((r"none remembered", "没有投诉"),),
    "satisfaction": (
        (r"no answer", "没有回复调查"),
        (r"(\d+) of 100, (\d+) is neutral", r"\1 分（满分 100，\2 分为中性）"),
    ),
    "frequency": ((r"(\d+) days? with a purchase", r"共 \1 天有购买"),),
    "spend": ((r"(.+) a purchase, (.+) is typical", r"每次消费 \1，一般为 \2"),),
    "basket_trend": (
        (r"(.+) at last, (.+) on average", r"最近一次 \1，平均 \2"),
        (r"the last purchase's amount is not known", "最近一次消费金额未知"),
    ),
}  # fmt: skip
"""For each term the English texts of models/explain.py, and the same in Chinese."""


def _complaint(one: dict[str, Any]) -> str:
    about = f"“{one['category']}”" if one["category"] else ""
    repeated = "，距另一投诉不久" if one["repeated"] else ""
    severity = words("zh")(f"severity_{one['severity']}")
    return f"{severity}投诉{about}，{one['opened_at'][:10]} 提出，{STATUSES[one['status']]}{repeated}"


def _duration(written: str) -> str:
    """A duration in Chinese.

    >>> _duration("90d"), _duration("1h30m")
    ('90 天', '1 小时 30 分钟')
    """
    parts = re.findall(r"(\d+)(ms|d|h|m|s)", written)
    return " ".join(f"{count} {DURATIONS[unit]}" for count, unit in parts)
