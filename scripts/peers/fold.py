"""The simplified fold in plain Python, for the two peers written in Python. It needs only the standard library.

A customer is a dict of JSON values: `tier`, `seq`, `spend` (the sum of `nets`), and the buckets as two lists of the
same length, `days` in order and `nets` in minor units. Events are mostly in order, so a purchase is added at the ends
of the lists, and days that have left the window are removed at their beginnings.
"""

import json
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from typing import Any
from uuid import UUID

_CONSTANTS = json.loads(Path(__file__).with_name("fold.json").read_bytes())
_DAY_MS = 86_400_000
_WINDOW_MS = _CONSTANTS["window_days"] * _DAY_MS
BASE_TIER: str = _CONSTANTS["base_tier"]
_LADDER: list[tuple[int, str]] = [
    (tier["min_spend_minor"], tier["name"])
    for tier in sorted(_CONSTANTS["tiers"], key=lambda tier: tier["min_spend_minor"], reverse=True)
]
_RANK = {name: rank for rank, name in enumerate([BASE_TIER, *(name for _, name in reversed(_LADDER))])}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def new_customer() -> dict[str, Any]:
    """A customer without events."""
    return {"tier": BASE_TIER, "seq": 0, "spend": 0, "days": [], "nets": []}


def book(
    customer: dict[str, Any], customer_id: str, event_id: str, kind: str, amount: str, occurred_at: str
) -> dict[str, Any] | None:
    """Book one event on a customer, in place; returns the tier change, or None."""
    occurred_at_ms = (datetime.fromisoformat(occurred_at) - _EPOCH) // _MILLISECOND
    day = occurred_at_ms // _DAY_MS
    net = _minor_units(amount) if kind == "purchase" else -_minor_units(amount)

    days, nets = customer["days"], customer["nets"]
    place = bisect_left(days, day)
    if place < len(days) and days[place] == day:
        nets[place] += net
    else:
        days.insert(place, day)
        nets.insert(place, net)
    customer["spend"] += net

    # day * _DAY_MS + _WINDOW_MS <= occurred_at_ms, solved for the day
    left = bisect_right(days, (occurred_at_ms - _WINDOW_MS) // _DAY_MS)
    if left:
        customer["spend"] -= sum(nets[:left])
        del days[:left], nets[:left]

    spend, before = customer["spend"], customer["tier"]
    tier = next((name for least, name in _LADDER if least <= spend), BASE_TIER)
    if tier == before:
        return None
    customer["tier"] = tier
    customer["seq"] += 1
    return {
        "id": _change_id(customer_id, customer["seq"]),
        "seq": customer["seq"],
        "customer_id": customer_id,
        "change": "upgrade" if _RANK[tier] > _RANK[before] else "downgrade",
        "occurred_at": occurred_at,
        "cause": event_id,
        "before": {"tier": before},
        "after": {"tier": tier},
        "spend": _decimal(spend),
    }


def _minor_units(amount: str) -> int:
    """The cents of a decimal with at most two decimals."""
    whole, _, fraction = amount.partition(".")
    return int(whole + fraction.ljust(2, "0"))


def _decimal(minor: int) -> str:
    whole, cents = divmod(abs(minor), 100)
    return f"{'-' if minor < 0 else ''}{whole}.{cents:02}"


def _change_id(customer_id: str, seq: int) -> str:
    return str(UUID(bytes=md5(f"{customer_id}/{seq}".encode()).digest(), version=3))
