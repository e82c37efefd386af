"""The words of the digest, in each language. Sentences about an alert come from streams/language/sentences.py."""

from __future__ import annotations

from typing import Final

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
    "gone": "{amount} lost",
    "kept_means": "The amount kept counts alerts that were saved, and customers who recovered after somebody contacted them.",
    "now": "Now",
    "urgent": "The most urgent",
    "nothing": "No alert is open.",
    "at_stake": "{amount} at stake",
    "why": "why",
    "do": "do",
    "by": "by",
    "overdue": "overdue",
    "no_action": "look at the alert",
    "incidents": "Incidents",
    "incident": "{customers} customers complain about {category}, since {since}",
    "incident_means": "One cause, many customers: fix it first.",
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
