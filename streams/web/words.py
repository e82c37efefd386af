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
