"""The daily digest for a mailbox or a chat: open alerts, yesterday's results, and the most urgent customers with
reasons.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from models import units
from models.policy import Policy
from streams.language.digest_words import WORDS
from streams.language.masking import mask
from streams.language.sentences import Sentences, sentences
from streams.view.queue import AlertQueue

MOST_URGENT: Final = 10


class DigestError(Exception):
    """A digest that can't be made; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Urgent:
    """An open alert, written for people."""

    customer: str
    tier: str
    level: str
    at_stake: str
    reasons: tuple[str, ...]
    do: str | None
    by: str | None
    is_overdue: bool


@dataclass(frozen=True, slots=True)
class Incident:
    """Many alerts about one complaint category."""

    category: str
    customers: int
    since: str


@dataclass(frozen=True, slots=True)
class Digest:
    """The content of a digest, written for people."""

    day: str
    """The day of the counts."""
    open: int
    held: int
    snoozed: int
    breached: int
    saved: int
    saved_value: str
    lost: int
    lost_value: str
    urgent: tuple[Urgent, ...]
    incidents: tuple[Incident, ...]
    console_url: str | None

    @property
    def more(self) -> int:
        """How many open alerts are not listed one by one."""
        return self.open - len(self.urgent)


async def read_digest(
    queue: AlertQueue, policy: Policy, day: date, language: str, console_url: str | None, masked: bool
) -> Digest:
    """Read the open alerts, and the counts of a day. Raises DigestError."""
    if policy.alerts is None:
        raise DigestError(
            f"{policy.ref} makes no alerts: add an [alerts] table to it, and give workers the same policy"
        )
    sizes = await queue.sizes()
    [counts] = await queue.days(day, day)
    page = await queue.page(count=MOST_URGENT)
    say = sentences(language, policy)
    return Digest(
        day=day.isoformat(),
        open=sizes["open"],
        held=sizes["held"],
        snoozed=sizes["snoozed"],
        breached=int(counts.get("breached", 0)),
        saved=int(counts.get("saved", 0)),
        saved_value=_money(counts.get("saved_value", 0.0), policy),
        lost=int(counts.get("lost", 0)),
        lost_value=_money(counts.get("lost_value", 0.0), policy),
        urgent=tuple(_urgent(one, policy, say, masked) for one in page.alerts),
        incidents=tuple(
            Incident(one["category"], one["customers"], _time(one["first_opened_ms"], policy))
            for one in await queue.incidents(policy.alerts)
        ),
        console_url=console_url,
    )


def _urgent(alert: dict[str, Any], policy: Policy, say: Sentences, masked: bool) -> Urgent:
    action, deadline = alert["action"], alert["deadline"]
    return Urgent(
        customer=mask(alert["customer_id"]) if masked else alert["customer_id"],
        tier=alert["tier"],
        level=alert["level"],
        at_stake=_money(float(alert["value_at_stake"]), policy),
        reasons=tuple(say.reasons(alert["contributions"])),
        do=None if action is None else say.action(action),
        by=None if deadline is None else _time(units.parse_time(deadline), policy),
        is_overdue=alert["breached"],
    )


def _money(amount: float, policy: Policy) -> str:
    return units.money_in_words(round(amount * 10**policy.decimals), policy.currency)


def _time(at_ms: int, policy: Policy) -> str:
    """A time in the policy's time zone, to the minute."""
    offset_ms = policy.window.utc_offset_ms
    hours, minutes = divmod(abs(offset_ms) // units.MINUTE_MS, 60)
    clock = f"{'-' if offset_ms < 0 else '+'}{hours:02}:{minutes:02}" if offset_ms else ""
    return f"{units.format_time(at_ms + offset_ms)[:16].replace('T', ' ')} UTC{clock}"


# ------------------------------------------------------------ forms
_pages: Final = Environment(
    loader=PackageLoader("streams.notify"), autoescape=select_autoescape(), undefined=StrictUndefined,
    trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
)  # fmt: skip


def as_text(digest: Digest, language: str) -> str:
    """Plain text, for a terminal and for mail programs without HTML."""
    return _pages.get_template("digest.txt").render(digest=digest, words=WORDS[language])


def as_html(digest: Digest, language: str) -> str:
    """An HTML page that loads nothing, as mail programs require."""
    return _pages.get_template("digest.html").render(digest=digest, words=WORDS[language], language=language)


def as_email(digest: Digest, language: str, sender: str, recipients: list[str]) -> bytes:
    """A complete message for `sendmail -t`. Raises DigestError for an address that can't be used."""
    message = EmailMessage()
    message["Subject"] = WORDS[language]["title"].format(day=digest.day)
    message["From"] = _addresses("--from", [sender])
    message["To"] = _addresses("--to", recipients)
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain=message["From"].addresses[0].domain)
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(as_text(digest, language), cte="quoted-printable")
    message.add_alternative(as_html(digest, language), subtype="html", cte="quoted-printable")
    return message.as_bytes()


def as_chat(digest: Digest, language: str) -> dict[str, str]:
    """The payload of an incoming webhook of Slack, Mattermost and others.

    Ids and categories are escaped: nothing in them becomes a mention or a link.
    """
    text = as_text(digest, language)
    for sign, harmless in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("@", "@\u200b")):
        text = text.replace(sign, harmless)
    return {"text": text}


def _addresses(option: str, written: list[str]) -> str:
    probe = EmailMessage()
    try:
        probe["To"] = ", ".join(written)
    except ValueError:
        raise DigestError(f"{option}: {written} holds a line break; write one address") from None
    found = probe["To"].addresses
    if not found or probe["To"].defects or not all(one.username and one.domain for one in found):
        raise DigestError(f"{option}: {', '.join(written)!r} is no e-mail address; write one as in team@example.com")
    return str(probe["To"])
