"""The digest's words, in each language, and how a contribution's text is said in another than English."""

from __future__ import annotations

import re
from typing import Any, Final

Words = dict[str, str]

EN: Final[Words] = {
    "title": "Customers at risk, {day}",
    "open": "open",
    "held": "held back",
    "snoozed": "snoozed",
    "yesterday": "On {day} (UTC)",
    "breached": "deadlines missed",
    "saved": "saved",
    "lost": "lost",
    "kept": "{amount} kept",
    "gone": "{amount} gone",
    "kept_means": "What was kept counts alerts that were saved, and customers who recovered after they were contacted.",
    "now": "Now",
    "urgent": "The most urgent",
    "nothing": "Nothing is open.",
    "at_stake": "{amount} at stake",
    "why": "why",
    "do": "do",
    "by": "by",
    "overdue": "overdue",
    "no_action": "look at it",
    "incidents": "Incidents",
    "incident": "{customers} customers complain about {category}, since {since}",
    "incident_means": "One cause, many customers: mend that first.",
    "console": "Open the console",
    "more": "and {count} more",
}
ZH: Final[Words] = {
    "title": "流失风险客户，{day}",
    "open": "待处理",
    "held": "暂缓",
    "snoozed": "已延后",
    "yesterday": "{day}（UTC）",
    "breached": "逾期",
    "saved": "已挽回",
    "lost": "已流失",
    "kept": "保住 {amount}",
    "gone": "损失 {amount}",
    "kept_means": "“保住”包括已挽回的预警，以及联系后自行恢复的客户。",
    "now": "当前",
    "urgent": "最紧急",
    "nothing": "没有待处理的预警。",
    "at_stake": "涉及价值 {amount}",
    "why": "原因",
    "do": "措施",
    "by": "期限",
    "overdue": "已逾期",
    "no_action": "请查看",
    "incidents": "集中事件",
    "incident": "{customers} 位客户投诉“{category}”，始于 {since}",
    "incident_means": "同一原因影响多位客户：请先解决它。",
    "console": "打开控制台",
    "more": "另有 {count} 条",
}
WORDS: Final = {"en": EN, "zh": ZH}

_BEFORE_EN: Final = {"satisfaction": "satisfaction ", "basket_trend": "spends less: "}
_SEVERITIES_ZH: Final = {"low": "轻微", "medium": "一般", "high": "严重", "critical": "非常严重"}
_STATUSES_ZH: Final = {"opened": "未解决", "escalated": "已升级", "resolved": "已解决", "reopened": "重新提出"}
_TEXTS_ZH: Final = (
    (r"(\d+) days? since the last purchase", r"已 \1 天没有购买"),
    (r"bought again on (\d+) days?", r"曾在 \1 天复购"),
    (r"has not bought again yet", r"尚未复购"),
    (r"any new customer", r"新客户"),
    (r"none remembered", r"没有投诉"),
    (r"no answer", r"没有回复满意度调查"),
    (r"(\d+) of 100, (\d+) is neutral", r"满意度 \1 分（满分 100，\2 为中性）"),
    (r"(\d+) days? with a purchase", r"有 \1 天购买"),
    (r"(.+) a purchase, (.+) is typical", r"每次消费 \1，通常为 \2"),
    (r"(.+) at last, (.+) on average", r"最近消费 \1，平均 \2"),
    (r"the last purchase's amount is not known", r"最近一次消费金额未知"),
)
"""What models/explain.py says, and the same in Chinese."""


def reason(contribution: dict[str, Any], language: str) -> str:
    """A contribution in words.

    >>> reason({"term": "silence", "text": "35 days since the last purchase"}, "zh")
    '已 35 天没有购买'
    """
    text: str = contribution["text"]
    if language != "zh":
        return _BEFORE_EN.get(contribution["term"], "") + text
    if contribution.get("complaints"):
        return "；".join(map(_complaint_zh, contribution["complaints"]))
    for pattern, words in _TEXTS_ZH:
        match = re.fullmatch(pattern, text)
        if match is not None:
            return match.expand(words)
    return text


def _complaint_zh(one: dict[str, Any]) -> str:
    about = f"“{one['category']}”" if one["category"] else ""
    return f"{_SEVERITIES_ZH[one['severity']]}投诉{about}，{_STATUSES_ZH[one['status']]}，{one['opened_at'][:10]}"
