"""The question "what if" on a customer's page: the customer without and with one more purchase, refund, complaint or
survey answer.

The event is folded on the customer's state in the workers' table; nothing is changed there.
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
from streams.sources.written_event import WrittenEventError
from streams.view.policies_in_force import PoliciesInForce
from streams.web.services.table_reader import TableReader
from streams.workshop.explain.story import ExplainError
from streams.workshop.explain.table_story import NotInTable, StoredCustomer, TableTooLarge
from streams.workshop.explain.what_if import parse_hypothetical, what_if

log = logging.getLogger(__name__)

KINDS: Final = ("purchase", "refund", "complaint", "answer")
AMOUNT: Final = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?")
MOST_SCORE: Final = 100


class Asked(Struct, frozen=True):
    """The fields of the form as they were filled in, so that they can be shown again."""

    what: str = KINDS[0]
    amount: str = ""
    severity: str = "medium"
    score: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """The fields in an address; values that are not allowed are replaced by the defaults."""
        found = cls(**{name: query[name].strip() for name in cls.__struct_fields__ if name in query})
        what = found.what if found.what in KINDS else KINDS[0]
        severity = found.severity if found.severity in SEVERITIES else "medium"
        return cls(what, found.amount, severity, found.score)


class NoAnswer(Exception):
    """No answer is possible; `key` with `values` says why, in any language."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(key)
        self.key = key
        self.values = values


def event_of(asked: Asked, policy: Policy) -> dict[str, Any]:
    """The supposed event, as on the wire. Raises NoAnswer."""
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
    table: TableReader, policies: PoliciesInForce, customer_id: str, tag: str, asked: Asked
) -> dict[str, Any]:
    """The customer without and with the event, as in docs/explain.md, and what one purchase would change. Raises
    NoAnswer.
    """
    event = event_of(asked, policies.current)
    try:
        kept = await table.customer(customer_id, tag)
        return await asyncio.to_thread(_compare, table.settings, kept, policies, customer_id, event)
    except NotInTable:
        raise NoAnswer("what_if_unknown") from None
    except TableTooLarge as error:
        log.warning("what if: %s", error)
        raise NoAnswer("what_if_too_large") from None
    except (ExplainError, WrittenEventError) as error:
        log.warning("what if: %s", error)
        raise NoAnswer("what_if_no_table") from None


def _compare(
    settings: Settings, kept: StoredCustomer, policies: PoliciesInForce, customer_id: str, event: dict[str, Any]
) -> dict[str, Any]:
    now = kept.story(settings, policies.by_label(kept.marker.policy), customer_id, None, [])
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
"""In place of the profile of an erased customer."""
