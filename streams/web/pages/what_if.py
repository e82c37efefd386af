"""What if, on a customer's page: one more purchase, refund, complaint or answer; the customer without it and with it.

Folded on what the workers' table has of them. Nothing is changed by asking.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson
from msgspec import Struct

from models import counterfactual, units
from models.bodies import SEVERITIES
from models.events import MAX_AMOUNT_MINOR
from models.policy import Policy
from streams.settings import Settings
from streams.view.rulebook import PoliciesSeen
from streams.web.services.kept_customers import KeptCustomers
from streams.workshop.explain.story import ExplainError
from streams.workshop.explain.table_story import NotInTable, StoredCustomer, TableTooLarge
from streams.workshop.explain.what_if import parse_hypothetical, what_if

log = logging.getLogger(__name__)

KINDS: Final = ("purchase", "refund", "complaint", "answer")
AMOUNT: Final = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?")
MOST_SCORE: Final = 100


class Asked(Struct, frozen=True):
    """What a form has: as it was written, so that it can be shown again."""

    what: str = KINDS[0]
    amount: str = ""
    severity: str = "medium"
    score: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """What an address asks for."""
        found = cls(**{name: query[name].strip() for name in cls.__struct_fields__ if name in query})
        what = found.what if found.what in KINDS else KINDS[0]
        severity = found.severity if found.severity in SEVERITIES else "medium"
        return cls(what, found.amount, severity, found.score)


class NoAnswer(Exception):
    """`key` says in any language why there is none, with these values."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(key)
        self.key = key
        self.values = values


def event_of(asked: Asked, policy: Policy) -> dict[str, Any]:
    """The hypothetical event, as on the wire. Raises NoAnswer."""
    if asked.what == "complaint":
        return {"topic": "complaints", "severity": asked.severity}
    if asked.what == "answer":
        if not asked.score.isascii() or not asked.score.isdigit() or int(asked.score[:4]) > MOST_SCORE:
            raise NoAnswer("what_if_score", most=MOST_SCORE)
        return {"topic": "feedback", "score": int(asked.score)}
    written = AMOUNT.fullmatch(asked.amount)
    text = asked.amount.replace(",", "")
    try:
        minor = units.parse_minor(text, policy.decimals) if written is not None else 0
    except ValueError:
        minor = 0
    if not 0 < minor <= MAX_AMOUNT_MINOR:
        raise NoAnswer("what_if_amount", example=units.format_minor(124_000, policy.decimals))
    return {"topic": "purchases", "kind": asked.what, "amount": text}


async def answer(
    table: KeptCustomers, policies: PoliciesSeen, customer_id: str, tag: str, asked: Asked
) -> dict[str, Any]:
    """The customer without and with what is asked about, as docs/explain.md has it, and what one purchase would do. Raises NoAnswer."""
    event = event_of(asked, policies.current)
    try:
        kept = await table.customer(customer_id, tag)
        return await asyncio.to_thread(_folded, table.settings, kept, policies, customer_id, event)
    except NotInTable:
        raise NoAnswer("what_if_unknown") from None
    except TableTooLarge as error:
        log.warning("what if: %s", error)
        raise NoAnswer("what_if_too_large") from None
    except ExplainError as error:
        log.warning("what if: %s", error)
        raise NoAnswer("what_if_no_table") from None


def _folded(
    settings: Settings, kept: StoredCustomer, policies: PoliciesSeen, customer_id: str, event: dict[str, Any]
) -> dict[str, Any]:
    now = kept.story(settings, policies.named(kept.marker.policy), customer_id, None, [])
    one = parse_hypothetical(orjson.dumps(event).decode(), 1, customer_id, now.policy, now.at_ms)
    found = what_if(now.customer, now.policy, customer_id, now.at_ms, [one])
    found["takes"] = [
        each | {"amount_in_words": units.money_in_words(units.parse_minor(each["amount"], now.policy.decimals), now.policy.currency)}
        for each in counterfactual.with_one_purchase(now.customer, now.policy, customer_id, now.at_ms)
        if each["amount"] is not None
    ]  # fmt: skip
    terms = [{one["term"]: one for one in (found[name] or NOBODY)["risk"]["contributions"]} for name in PROFILES]
    found["terms"] = [(name, *(each.get(name) for each in terms)) for name in {**terms[0], **terms[1]}]
    return found


PROFILES: Final = ("profile_before", "profile_after")
NOBODY: Final[dict[str, Any]] = {"risk": {"contributions": []}}
"""A customer of whom nothing is known any more."""
