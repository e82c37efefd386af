"""Events and policies that read like sentences.

    purchase("ada", "29.33", on="1997-01-01")
    refund("ada", "29.33", on="1997-01-05", of="1997-01-01", full=True)
    policy_text(window={"kind": "calendar-year"}, downgrade={"grace": "period-end"})

Events are dicts as on the wire, plus `topic`. A time is a date, RFC 3339 text or milliseconds since 1970.
"""

from __future__ import annotations

import itertools
import json
import tomllib
import zlib
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

SHIPPED = ("retail-three-tier", "annual-spend", "subscription-like")
ROOT = Path(__file__).resolve().parent.parent
DAY = 86_400_000
HOUR = 3_600_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_numbers = itertools.count(1)

Wire = dict[str, Any]

FROM_LIVE_SOURCES = {"unknown_schema", "unreadable"}
"""Reason codes of the ingest only: no record of an input topic is rejected with them."""


@cache
def ms(at: str | int) -> int:
    """Milliseconds since 1970 of a date (its midnight), an RFC 3339 time, or milliseconds as they are."""
    if isinstance(at, int):
        return at
    moment = datetime.fromisoformat(at)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(milliseconds=1)


@cache
def rfc3339(at: str | int) -> str:
    """The time on the wire."""
    moment = EPOCH + timedelta(milliseconds=ms(at))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# ---------------------------------------------------------------- events
def _event(topic: str, customer_id: str, on: str | int, event_id: str | None, fields: Wire) -> Wire:
    body = {
        "topic": topic,
        "event_id": event_id or f"e{next(_numbers)}",
        "customer_id": customer_id,
        "occurred_at": rfc3339(on),
        **fields,
    }
    return {name: value for name, value in body.items() if value is not None}


def purchase(
    customer_id: str, amount: str | float, *, on: str | int, currency: str = "USD", id: str | None = None, **more: Any
) -> Wire:
    """The customer buys for `amount`."""
    fields = {"kind": "purchase", "order_id": "o1", "amount": amount, "currency": currency, **more}
    return _event("purchases", customer_id, on, id, fields)


def refund(
    customer_id: str,
    amount: str | float,
    *,
    on: str | int,
    of: str | int | None = None,
    full: bool = False,
    currency: str = "USD",
    id: str | None = None,
) -> Wire:
    """The customer gets `amount` back; `of` is the time of the refunded purchase, `full` says that the whole order is
    refunded.
    """
    original = None if of is None else rfc3339(of)
    fields = {"kind": "refund", "order_id": "o1", "amount": amount, "currency": currency}
    return _event("purchases", customer_id, on, id, {**fields, "original_occurred_at": original, "full_order": full})


def complaint(
    customer_id: str,
    complaint_id: str = "c1",
    *,
    on: str | int,
    status: str = "opened",
    severity: str = "medium",
    category: str | None = None,
    satisfaction: int | None = None,
    region: str | None = None,
    id: str | None = None,
) -> Wire:
    """One step of a complaint of the customer."""
    fields = {"complaint_id": complaint_id, "status": status, "severity": severity}
    fields |= {"category": category, "satisfaction": satisfaction, "region": region}
    return _event("complaints", customer_id, on, id, fields)


def prospect(
    customer_id: str,
    *,
    on: str | int,
    money: bool = True,
    authority: bool = True,
    need: bool = True,
    region: str | None = None,
    id: str | None = None,
) -> Wire:
    """What the shop knows about the customer before the first purchase."""
    return _event(
        "prospects", customer_id, on, id, {"money": money, "authority": authority, "need": need, "region": region}
    )


def feedback(customer_id: str, score: int, *, on: str | int, kind: str = "csat", id: str | None = None) -> Wire:
    """The customer answers a survey."""
    return _event("feedback", customer_id, on, id, {"score": score, "kind": kind})


def command(customer_id: str, what: str, *, on: str | int, id: str | None = None, **fields: Any) -> Wire:
    """A command about the customer."""
    return _event("commands", customer_id, on, id, {"command": what, **fields})


def lock(customer_id: str, tier: str, *, on: str | int, reason: str = "a promise", **more: Any) -> Wire:
    """Lock the customer's tier."""
    return command(customer_id, "lock_tier", on=on, tier=tier, reason=reason, **more)


def unlock(customer_id: str, *, on: str | int, reason: str = "kept", **more: Any) -> Wire:
    """Unlock the customer's tier."""
    return command(customer_id, "unlock_tier", on=on, reason=reason, **more)


def erase(customer_id: str, *, on: str | int, **more: Any) -> Wire:
    """Erase the customer's data."""
    return command(customer_id, "erase", on=on, **more)


def act_on_alert(customer_id: str, action: str = "contacted", *, on: str | int, **more: Any) -> Wire:
    """Record an action on the customer's alert."""
    return command(customer_id, "act_on_alert", on=on, action=action, **more)


# ---------------------------------------------------------------- policies
SMALL: Wire = {
    "id": "small",
    "version": 1,
    "title": "Small thresholds, so that tiers move",
    "currency": "USD",
    "base_tier": "member",
    "window": {"kind": "trailing", "length": "365d"},
    "tiers": [
        {"name": "silver", "min_spend": "50"},
        {"name": "gold", "min_spend": "100"},
        {"name": "platinum", "min_spend": "200"},
    ],
    "downgrade": {"grace": "30d", "step": "one"},
    "risk": {
        "fitted_on": "CDNOW sample",
        "r": 0.525,
        "alpha_weeks": 6.183,
        "a": 0.891,
        "b": 1.614,
        "horizon": "90d",
        "levels": [
            {"name": "watch", "raise_at": 0.8, "ease_below": 0.75},
            {"name": "high", "raise_at": 0.9, "ease_below": 0.86},
        ],
        "complaints": {
            "severity": {"low": 0.2, "medium": 0.5, "high": 0.9, "critical": 1.4},
            "status": {"opened": 1.0, "escalated": 1.4, "resolved": 0.35, "reopened": 1.4},
        },
    },
}


def policy_text(base: Wire | None = None, **changes: Any) -> str:
    """The TOML of a small policy with some settings changed: tables are merged, lists replaced, None removes."""
    return toml(_merged(SMALL if base is None else base, changes))


def shipped_text(name: str) -> str:
    """The TOML of a shipped policy."""
    return (ROOT / "models" / "policies" / f"{name}.toml").read_text("utf-8")


def shipped(name: str) -> Wire:
    """The settings of a shipped policy."""
    return tomllib.loads(shipped_text(name))


def toml(table: Wire) -> str:
    """A dict as TOML: its plain values first, then its tables and arrays of tables."""
    return "\n".join(_lines(table, "")) + "\n"


def _lines(table: Wire, path: str) -> list[str]:
    lines = [f"{key} = {_inline(value)}" for key, value in table.items() if not _is_table(value)]
    for key, value in table.items():
        inner = f"{path}.{key}".lstrip(".")
        if isinstance(value, dict):
            lines += ["", f"[{inner}]", *_lines(value, inner)]
        elif _is_table(value):
            for row in value:
                lines += ["", f"[[{inner}]]", *_lines(row, inner)]
    return lines


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _inline(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _merged(base: Wire, changes: Wire) -> Wire:
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = _merged(base.get(key) or {}, value)
        else:
            result[key] = value
    return result


# ---------------------------------------------------------------- a real log
def cdnow(currency: str = "USD", times: int = 1) -> list[Wire]:
    """The CDNOW sample as purchases, in order of time; amounts `times` as large, to reach the tiers of other shops."""
    lines = (ROOT / "scripts" / "data" / "CDNOW_sample.txt").read_text("ascii").splitlines()
    rows = [line.split() for line in lines if line.strip()]
    numbered = sorted(enumerate(rows), key=lambda pair: (pair[1][2], pair[0]))
    return [
        purchase(
            row[1],
            f"{float(row[4]) * times:.2f}",
            on=f"{row[2][:4]}-{row[2][4:6]}-{row[2][6:]}",
            currency=currency,
            id=f"cdnow-{number}",
        )
        for number, row in numbered
    ]


def some_customers(log: list[Wire], one_in: int, turn: int = 0) -> list[Wire]:
    """The whole history of one in so many customers; another `turn` selects other customers."""
    return [event for event in log if (zlib.crc32(event["customer_id"].encode()) + turn) % one_in == 0]


def with_made_up_complaints(log: list[Wire]) -> list[Wire]:
    """A log of purchases, after some of which the customer complains, answers a survey or returns the goods."""
    more: list[Wire] = []
    for number, bought in enumerate(log):
        customer_id, bought_ms, id = bought["customer_id"], ms(bought["occurred_at"]), f"made-up-{number}"
        severity = ("low", "medium", "high", "critical")[number % 4]
        if number % 12 == 0:
            more.append(complaint(customer_id, id, on=bought_ms + 3 * DAY + number, severity=severity, id=id))
        if number % 24 == 0:
            status = ("resolved", "escalated")[number % 48 // 24]
            more.append(
                complaint(customer_id, id, on=bought_ms + 20 * DAY, status=status, severity=severity, id=f"{id}-later")
            )
        if number % 7 == 0:
            more.append(feedback(customer_id, number % 101, on=bought_ms + 2 * DAY + number, id=id))
        if number % 15 == 0:
            more.append(
                refund(customer_id, bought["amount"], on=bought_ms + 9 * DAY, of=bought_ms, full=True, currency=bought["currency"], id=f"{id}-back")
            )  # fmt: skip
    return sorted(log + more, key=lambda event: ms(event["occurred_at"]))
