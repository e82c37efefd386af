"""`tierstream alerts digest`."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final

import httpx
import orjson
import typer
from redis.exceptions import RedisError

import models
from streams.notify import digest as digests
from streams.notify.digest import Digest, read_digest
from streams.notify.webhook import host_of
from streams.settings import Settings, SettingsError, load_digest_settings, load_settings, web_address
from streams.terminal import RedisOption, SettingPolicyOption, example, fail, refuse, say
from streams.view.customers import RedisView
from streams.view.policies_in_force import PolicyReader
from streams.view.queue import AlertQueue

POST_SECONDS: Final = 15.0


class Format(StrEnum):
    """The forms of a digest."""

    TEXT = "text"
    HTML = "html"
    EMAIL = "email"
    CHAT = "chat"


class Language(StrEnum):
    """The languages of a digest."""

    EN = "en"
    ZH = "zh"


@example("tierstream alerts digest --format email --from alerts@example.com --to team@example.com | sendmail -t")
def digest(
    format_: Annotated[
        Format, typer.Option("--format", help="email: a whole message, for sendmail -t; chat: JSON for a webhook.")
    ] = Format.TEXT,
    sender: Annotated[str | None, typer.Option("--from", help="With --format email: who sends it.")] = None,
    to: Annotated[
        list[str] | None, typer.Option(help="With --format email: who receives it; may be given again.")
    ] = None,
    post: Annotated[
        str | None,
        typer.Option(
            help="With --format chat: send it to this webhook (Slack, Mattermost, Teams).  [env var: TIERSTREAM_DIGEST_URL]"
        ),
    ] = None,
    lang: Annotated[Language, typer.Option(help="Language.")] = Language.EN,
    mask: Annotated[bool, typer.Option("--mask", help="Show only the ends of customers' ids.")] = False,
    day: Annotated[
        str | None, typer.Option(help="The day to summarize, as in 2026-01-31; default: yesterday (UTC).")
    ] = None,
    console_url: Annotated[
        str | None, typer.Option(envvar="TIERSTREAM_CONSOLE_URL", help="Address of the console, for a link.")
    ] = None,
    policy: SettingPolicyOption = None,
    redis_url: RedisOption = None,
) -> None:
    """Summarize a day of alerts for a mailbox or a chat.

    It says what is open, what became of the day's alerts, and which customers are most urgent, and why.
    """
    try:
        settings, post = load_settings(policy=policy, redis_url=redis_url), load_digest_settings(url=post).url
        if settings.redis_url is None:
            raise SettingsError("no Redis is named; give --redis-url or set TIERSTREAM_REDIS_URL")
        if format_ is Format.EMAIL and not (sender and to):
            raise SettingsError("an e-mail needs --from and --to")
        _check_web_address("TIERSTREAM_CONSOLE_URL", console_url)
        _check_web_address("--post", post if format_ is Format.CHAT else None)
        chosen = models.load(settings.policy)
        found = asyncio.run(_gather(settings, chosen, _day(day), lang, console_url, mask))
        if format_ is Format.EMAIL:
            sys.stdout.buffer.write(digests.as_email(found, lang, sender or "", to or []))
        elif format_ is Format.CHAT:
            _chat(digests.as_chat(found, lang), post)
        else:
            say((digests.as_html if format_ is Format.HTML else digests.as_text)(found, lang).rstrip("\n"))
    except (SettingsError, models.PolicyError, digests.DigestError) as error:
        raise refuse(str(error)) from None
    except (RedisError, OSError, ValueError) as error:
        raise fail(f"Redis does not answer: {error}; check TIERSTREAM_REDIS_URL") from None


def _day(written: str | None) -> date:
    if written is None:
        return datetime.now(UTC).date() - timedelta(days=1)
    try:
        return date.fromisoformat(written)
    except ValueError:
        raise SettingsError(f"--day {written!r} is no date; write one, as in 2026-01-31") from None


def _check_web_address(option: str, url: str | None) -> None:
    try:
        if url is not None:
            web_address(url)
    except ValueError as error:
        raise SettingsError(f"{option}: {error}") from None


async def _gather(
    settings: Settings, own: models.Policy, day: date, lang: str, console_url: str | None, masked: bool
) -> Digest:
    view = RedisView(settings.redis_url or "", settings.redis_prefix)
    try:
        policy = (await PolicyReader(view, own).read()).current
        return await read_digest(AlertQueue(view), policy, day, lang, console_url, masked)
    finally:
        await view.redis.aclose()


def _chat(payload: dict[str, str], post: str | None) -> None:
    if post is None:
        say(orjson.dumps(payload).decode())
        return
    try:
        answer = httpx.post(post, json=payload, timeout=POST_SECONDS)
    except httpx.HTTPError as error:
        raise fail(f"{host_of(post)} did not take the digest: {type(error).__name__}; check --post") from None
    if not answer.is_success:
        raise fail(f"{host_of(post)} refused the digest: it answered {answer.status_code}; check --post")
