"""Sentences for events and announcements, a line for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from models import units
from models.bodies import Command, Complaint, Feedback, Prospect
from models.events import Event
from models.outputs import ALERTS, CHURN_RISK, LIFE_CYCLE, TIER_CHANGES
from models.policy import Policy


# ---------------------------------------------------------------- events
def event_in_words(event: Event, sent: dict[str, Any], policy: Policy) -> str:
    """The sentence for an event; `sent` is its body as it was sent."""
    body = event.body
    if body is None:
        return _purchase_or_refund(event, sent, policy)
    if isinstance(body, Complaint):
        parts = [f"complaint {body.complaint_id} {body.status}, {body.severity}"]
        parts += [f"about {body.category}"] if body.category else []
        parts += [f"satisfaction {body.satisfaction}"] if body.satisfaction is not None else []
        return ", ".join(parts)
    if isinstance(body, Feedback):
        return f"{body.kind.upper()} answer {body.score} of 100"
    if isinstance(body, Prospect):
        has = [name for name in ("money", "authority", "need") if getattr(body, name)]
        return f"prospect with {', '.join(has) or 'no money, authority or need'}"
    return _command(body)


def _purchase_or_refund(event: Event, sent: dict[str, Any], policy: Policy) -> str:
    amount = units.money_in_words(event.amount_minor, policy.currency)
    if sent.get("currency") != policy.currency:
        amount = f"{sent.get('amount')} {sent.get('currency')}, {amount}"
    what = ("full refund" if event.is_full else "refund") if event.is_refund else "purchase"
    of = f" of {units.format_time(event.booked_at_ms)[:10]}" if event.booked_at_ms != event.occurred_at_ms else ""
    return f"{what} of {amount}{' for a purchase' + of if of else ''} (order {sent.get('order_id')})"


def _command(body: Command) -> str:
    what = {"lock_tier": f"tier locked at {body.tier}", "unlock_tier": "tier unlocked", "erase": "erased"}
    text = what.get(body.command, f"alert {body.action}")
    who = f" by {body.actor}" if body.actor else ""
    return f"{text}{who}{': ' + body.reason if body.reason else ''}"


# ---------------------------------------------------------------- announcements
def announcement_in_words(topic: str, body: dict[str, Any]) -> str:
    """The sentence for an announcement."""
    return IN_WORDS[topic](body)


def with_text(topic: str, body: dict[str, Any]) -> dict[str, Any]:
    """The body of an announcement, with its topic and its sentence before its own fields."""
    return {"topic": topic, "text": announcement_in_words(topic, body), **body}


def percent(probability: float) -> str:
    """A probability in percent."""
    return f"{100 * probability:.1f} %"


def _tier(body: dict[str, Any]) -> str:
    change, after = body["change"], body["after"]
    if after is None:
        return "erase: nothing is known any more"
    was, tier = body["before"]["tier"], after["tier"]
    needs = (body["needs"] or {}).get("text", "")
    if change == "downgrade_scheduled":
        return f"downgrade scheduled: {tier} is lost at {after['downgrade_at']}; {needs}"
    if change == "downgrade_averted":
        return f"downgrade averted: {tier} is kept"
    if change in ("lock", "unlock"):
        return f"{change}: {tier}" if was == tier else f"{change}: {was} → {tier}"
    return f"{change}: {was} → {tier}{'; ' + needs if change == 'downgrade' and needs else ''}"


def _risk(body: dict[str, Any]) -> str:
    after, action = body["after"], body["action"]
    text = f"risk {body['change']}: {body['before']['level']} → {after['level']} at {percent(after['probability'])}"
    text += f", mainly {body['main_cause'].replace('_', ' ')}"
    return text if action is None else f"{text}; to do before {action['before']}: {action['do']}"


def _life(body: dict[str, Any]) -> str:
    name = body["change"]
    was, now = body["before"][name], body["after"][name]
    return f"{name}: {was} → {now}" if was else f"{name}: {now}"


def _alert(body: dict[str, Any]) -> str:
    after = body["after"]  # the serving view leaves out empty fields
    hold, owner, deadline, until = (after.get(name) for name in ("hold", "owner", "deadline", "until"))
    text = f"alert {after['number']} {body['change']}"
    if hold:
        text += f" ({hold})"
    if owner:
        text += f", {owner} has it"
    if deadline and body["change"] in ("opened", "updated", "acknowledged", "released", "woke"):
        text += f", deadline {deadline}"
    return f"{text}, until {until}" if until else text


IN_WORDS: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    TIER_CHANGES: _tier,
    CHURN_RISK: _risk,
    LIFE_CYCLE: _life,
    ALERTS: _alert,
}
