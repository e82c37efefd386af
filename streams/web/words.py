"""The words of the console: one table, each key in English and in Chinese."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, get_args

Language = Literal["en", "zh"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)

WORDS: Final[dict[str, tuple[str, str]]] = {
    "title": ("Tierstream", "Tierstream"),
    "skip": ("Skip to content", "跳到正文"),
    "navigation": ("Main", "主导航"),
    "queue": ("Queue", "待办队列"),
    "overview": ("Overview", "概览"),
    "customer": ("Customer", "客户"),
    "sign_in": ("Sign in", "登录"),
    "sign_in_with": ("Sign in with your organisation", "使用组织账号登录"),
    "sign_out": ("Sign out", "退出登录"),
    "name": ("Name", "用户名"),
    "password": ("Password", "密码"),
    "role_viewer": ("viewer", "查看者"),
    "role_agent": ("agent", "客服"),
    "role_manager": ("manager", "主管"),
    "wrong_password": ("Name or password is wrong.", "用户名或密码错误。"),
    "too_many_tries": ("Too many failed attempts. Try again in {minutes} min.", "失败次数过多，请在 {minutes} 分钟后重试。"),
    "provider_failed": ("Signing in did not work. Ask your administrator; the reason is in the console's log.", "登录失败，请联系管理员；原因见控制台日志。"),
    "theme": ("Switch between light and dark", "切换浅色与深色"),
    "other_language": ("中文", "English"),
    "not_found": ("There is nothing here.", "这里什么也没有。"),
    "customer_unknown": ("Nothing is known of this customer.", "没有该客户的资料。"),
    "not_allowed": ("Your role may not do this.", "您的角色无权执行此操作。"),
    "went_wrong": ("Something went wrong. It has been logged.", "出错了，已记录。"),
    "store_away": ("Redis does not answer. Try again in a moment.", "Redis 没有响应，请稍后重试。"),
    "stale_page": ("This page is too old, or the request came from elsewhere. Load it again.", "页面已过期，或请求来自其他网站，请重新加载。"),
    "broker_away": ("Not done: the broker did not confirm it. Look again in a moment, then repeat it.", "未完成：消息代理没有确认。请稍后查看并重试。"),
    "back": ("Back to the queue", "返回队列"),
    "nothing_yet": ("Nothing here yet.", "暂无内容。"),
    # ------------------------------------------------------------ queue
    "state": ("State", "状态"),
    "tier": ("Tier", "等级"),
    "cause": ("Cause", "原因"),
    "region": ("Region", "地区"),
    "category": ("Complaint category", "投诉类别"),
    "owner": ("Owner", "负责人"),
    "all": ("All", "全部"),
    "show": ("Show", "查看"),
    "mine": ("Mine", "我的"),
    "why": ("Why", "为什么"),
    "at_stake": ("At stake", "涉及价值"),
    "what_to_do": ("What to do", "建议措施"),
    "by_when": ("By when", "截止"),
    "act": ("Act", "处理"),
    "claim": ("Claim", "认领"),
    "claim_next": ("Claim the next one", "认领下一个"),
    "act_contacted": ("Contacted", "已联系"),
    "act_saved": ("Saved", "已挽回"),
    "act_lost": ("Lost", "已流失"),
    "act_released": ("Give back", "退回队列"),
    "act_snoozed": ("Snooze", "稍后处理"),
    "act_dismissed": ("Dismiss", "不予处理"),
    "cancel": ("Cancel", "取消"),
    "until": ("until", "直到"),
    "reason": ("Reason", "理由"),
    "keys": ("Keys", "快捷键"),
    "key_move": ("next and previous row", "下一行、上一行"),
    "key_open": ("open the customer", "打开客户"),
    "queue_sizes": ("{open} open, {held} held, {snoozed} snoozed", "待处理 {open}，暂缓 {held}，稍后 {snoozed}"),
    "queue_sizes_short": ("{held} held, {snoozed} snoozed", "暂缓 {held}，稍后 {snoozed}"),
    "budget_left": ("you may take {left} of {budget} more today", "今天还可认领 {left} 个（共 {budget} 个）"),
    "over_budget": ("You have taken as many alerts today as the policy allows; the rest waits for tomorrow.", "您今天的认领数量已达上限，其余留待明天。"),
    "waits_for_budget": ("over today’s budget", "超出今日额度"),
    "already_taken": ("Somebody else was quicker.", "已被他人认领。"),
    "nobody_waits": ("There is no alert to claim.", "没有可认领的预警。"),
    "queue_empty": ("Nobody waits. Well done.", "没有待处理的预警，辛苦了。"),
    "queue_none_such": ("No alert is like that. Choose fewer filters.", "没有符合条件的预警，请减少筛选条件。"),
    "incident": ("{customers} customers at once complain about {category}.", "{customers} 位客户同时投诉“{category}”。"),
    "breached": ("too late", "已超时"),
    "claimed_by": ("{who} is taking it", "{who} 正在认领"),
    "pages": ("Pages", "分页"),
    "preceding": ("Previous", "上一页"),
    "following": ("Next", "下一页"),
    "state_open": ("open", "待处理"),
    "state_held": ("held", "暂缓"),
    "state_snoozed": ("snoozed", "稍后"),
    "state_closed": ("closed", "已结束"),
    "state_acknowledged": ("claimed", "已认领"),
    "state_contacted": ("in contact", "联系中"),
    "state_saved": ("saved", "已挽回"),
    "state_lost": ("lost", "已流失"),
    "state_dismissed": ("dismissed", "不予处理"),
    "state_recovered": ("recovered", "自行恢复"),
    "hold_cool-down": ("held: too soon after the last one", "暂缓：距上次预警太近"),
    "hold_complaint-open": ("held: a complaint is open", "暂缓：投诉尚未解决"),
    "term_base": ("any new customer", "新客户基准"),
    "term_rhythm": ("rhythm", "购买节奏"),
    "term_silence": ("silence", "久未购买"),
    "term_complaints": ("complaints", "投诉"),
    "term_satisfaction": ("satisfaction", "满意度"),
    "term_frequency": ("frequency", "购买次数"),
    "term_spend": ("spend", "消费额"),
    "term_basket_trend": ("shrinking baskets", "客单价下降"),
    # ------------------------------------------------------------ customer
    "since": ("since", "自"),
    "risk": ("Churn risk", "流失风险"),
    "lifetime_value": ("Lifetime value", "客户终身价值"),
    "bought": ("Orders", "订单"),
    "satisfaction": ("Satisfaction", "满意度"),
    "segment": ("Segment", "分群"),
    "stage": ("Stage", "生命周期"),
    "alert": ("Alert", "预警"),
    "risk_over_time": ("Risk and spend over time", "风险与消费走势"),
    "purchases": ("purchases", "购买"),
    "point_in_time": ("At this point in time", "查看某一时刻"),
    "why_this_risk": ("Why this risk", "风险构成"),
    "log_odds_note": ("Log-odds: to the right what raises the risk, to the left what lowers it. They add up to the score.", "对数几率：向右增加风险，向左降低风险，相加即为总分。"),
    "this_tier": ("This tier", "当前等级"),
    "base_tier": ("The lowest tier; nothing is needed to keep it.", "最低等级，无需保级。"),
    "likely_to_climb": ("Likely to climb.", "有望升级。"),
    "not_likely_to_climb": ("Not likely to climb soon.", "近期升级可能性不大。"),
    "story": ("What happened", "经过"),
    "purchase": ("Purchase", "购买"),
    "orders_n": ("orders: {n}", "订单：{n}"),
    "as_of": ("As of {at}.", "截至 {at}。"),
    "complaint": ("Complaint", "投诉"),
    "complaint_opened": ("opened", "提出"),
    "complaint_escalated": ("escalated", "升级"),
    "complaint_resolved": ("resolved", "解决"),
    "complaint_reopened": ("reopened", "重新提出"),
    "severity_low": ("low", "轻微"),
    "severity_medium": ("medium", "一般"),
    "severity_high": ("high", "严重"),
    "severity_critical": ("critical", "非常严重"),
    "change_upgrade": ("Tier up", "升级"),
    "change_downgrade": ("Tier down", "降级"),
    "change_downgrade_scheduled": ("Will lose the tier", "即将降级"),
    "change_downgrade_averted": ("Keeps the tier", "保级成功"),
    "change_lock": ("Tier locked", "锁定等级"),
    "change_unlock": ("Tier unlocked", "解除锁定"),
    "change_erase": ("Data erased", "资料已删除"),
    "change_raised": ("Risk raised", "风险出现"),
    "change_escalated": ("Risk escalated", "风险上升"),
    "change_eased": ("Risk eased", "风险下降"),
    "change_cleared": ("Risk cleared", "风险解除"),
    "change_stage": ("Stage", "生命周期变化"),
    "change_behaviour": ("Behaviour", "购买习惯变化"),
    "change_qualification": ("Qualification", "潜客资格变化"),
    "change_opened": ("opened", "开启"),
    "change_held": ("held", "暂缓"),
    "change_updated": ("changed", "更新"),
    "change_acknowledged": ("claimed", "已认领"),
    "change_contacted": ("contacted", "已联系"),
    "change_snoozed": ("snoozed", "稍后处理"),
    "change_woke": ("back from snooze", "重新提醒"),
    "change_released": ("given back", "退回队列"),
    "change_breached": ("deadline missed", "超时"),
    "change_saved": ("saved", "已挽回"),
    "change_lost": ("lost", "已流失"),
    "change_dismissed": ("dismissed", "不予处理"),
    "change_recovered": ("recovered", "自行恢复"),
    # ------------------------------------------------------------ overview
    "period": ("Period", "时段"),
    "days_n": ("{n} days", "{n} 天"),
    "until_day": ("Until {day} (UTC)", "截至 {day}（UTC）"),
    "customers": ("Customers", "客户"),
    "alerts_opened": ("Alerts opened", "新增预警"),
    "alerts_closed": ("Alerts closed", "结束预警"),
    "waiting_now": ("Waiting now", "当前待处理"),
    "saved_value": ("Saved value", "挽回价值"),
    "deadlines_met": ("Deadlines met", "按时处理率"),
    "breached_n": ("{n} missed", "{n} 个超时"),
    "tiers_now": ("Tiers now", "各等级现状"),
    "retention": ("Will buy again", "预计复购率"),
    "alive": ("Still a customer", "仍活跃概率"),
    "repeat_rate": ("Repeat rate", "重复购买率"),
    "orders_mean": ("Orders", "平均订单"),
    "spend_mean": ("Spend", "平均消费"),
    "sample_note": ("All but the number of customers are of at most 400 of a tier, drawn at random. Money in {currency}.", "除客户数外，其余为每个等级随机抽取至多 400 位客户的估计值。金额单位：{currency}。"),
    "sizes_over_time": ("Tiers and customers at risk over time", "各等级与风险客户走势"),
    "moves_between_tiers": ("Moves between tiers", "等级流动"),
    "as_table": ("As a table", "表格"),
    "nobody_moved": ("Nobody changed tier in this period.", "本时段没有等级变化。"),
    "alerts_opened_and_closed": ("Alerts opened and closed", "预警的新增与结束"),
    "complaints_behind": ("Complaints behind alerts", "预警涉及的投诉"),
    "who_has_what": ("Who has what", "处理人"),
    "risk_moves": ("Moves between risk levels", "风险等级变化"),
}  # fmt: skip


def words(language: Language) -> Callable[..., str]:
    """Looks words up: `t("too_many_tries", minutes=3)`. Raises KeyError for a key that is not in the table."""
    column = LANGUAGES.index(language)

    def t(key: str, **values: object) -> str:
        text = WORDS[key][column]
        return text.format(**values) if values else text

    return t


def language_of(chosen: str | None, accepted: str | None) -> Language:
    """The language that was chosen, else the first one accepted that there is, else English.

    >>> language_of(None, "fr;q=0.9, zh-CN;q=0.8, en;q=0.5"), language_of("en", "zh"), language_of(None, None)
    ('zh', 'en', 'en')
    """
    if chosen in LANGUAGES:
        return chosen
    ranked: list[tuple[float, Language]] = []
    for one in (accepted or "").split(","):
        tag, _, weight = one.partition(";q=")
        language = tag.strip().lower().partition("-")[0]
        try:
            quality = float(weight or 1)
        except ValueError:
            quality = 0.0
        ranked += [(quality, known) for known in LANGUAGES if known == language and quality > 0]
    return max(ranked, key=lambda one: one[0], default=(0.0, LANGUAGES[0]))[1]
