"""How a customer's risk went over the last year, from what their profile still holds one by one.

The same score as ever, of the facts as they were at each instant: purchases by the window's stretches, steps of complaints, the
latest answer. What is older than the window counts, but by its sums alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from models import units
from models.bodies import SEVERITIES, STATUSES
from models.customer import Facts
from models.customer_parts import ComplaintStep, Satisfaction
from models.policy import Policy
from streams.reports.charts import Point

SAMPLES: Final = 180
LONGEST_MS: Final = 400 * units.DAY_MS


@dataclass(frozen=True, slots=True)
class Hindsight:
    """Probabilities and purchases over time."""

    risk: list[Point]
    spend: list[Point]


def look_back(profile: dict[str, Any], policy: Policy, now_ms: int) -> Hindsight:
    """From the first purchase that is still known one by one, at most 400 days back, until `now_ms`."""
    bought = [(units.parse_time(at), orders, Decimal(spend)) for at, orders, spend in profile["history"]["purchases"]]
    lifetime = profile["lifetime"]
    if lifetime["first_purchase"] is None:
        return Hindsight([], [])
    first_ms, last_ms = units.parse_time(lifetime["first_purchase"]), units.parse_time(lifetime["last_purchase"])
    spend = [Point(at_ms, float(amount)) for at_ms, _, amount in bought if amount > 0]
    begins_ms = max(min([at_ms for at_ms, _, _ in bought], default=last_ms), first_ms, now_ms - LONGEST_MS)
    step_ms = max((now_ms - begins_ms) // SAMPLES, units.HOUR_MS)
    instants = sorted({*range(begins_ms, now_ms, step_ms), *_turns(profile, begins_ms, now_ms), now_ms})
    days = sorted({at_ms // units.DAY_MS: at_ms for at_ms, orders, _ in bought if orders > 0}.values())
    earlier_days = max(lifetime["purchase_days"] - len(days), 0)
    risk = []
    for at_ms in instants:
        facts = _facts_at(profile, days, earlier_days, first_ms, last_ms, at_ms)
        if facts is not None:
            risk.append(Point(at_ms, policy.risk.score(facts, at_ms).probability))
    return Hindsight(risk, spend)


def _turns(profile: dict[str, Any], begins_ms: int, now_ms: int) -> list[int]:
    """Right before and at the instants at which the line jumps."""
    history = profile["history"]
    jumps = [units.parse_time(at) for at, _, _ in history["purchases"]]
    jumps += [units.parse_time(step["at"]) for step in history["complaints"]]
    return [at_ms for jump in jumps for at_ms in (jump - 1, jump) if begins_ms <= at_ms < now_ms]


def _facts_at(
    profile: dict[str, Any], days: list[int], earlier_days: int, first_ms: int, last_ms: int, at_ms: int
) -> Facts | None:
    """What was known then, as far as the score asks for it; None before the first purchase."""
    until = [day_ms for day_ms in days if day_ms <= at_ms]
    purchase_days = earlier_days + len(until)
    if not purchase_days:
        return None
    latest_ms = max(until[-1] if until else first_ms, first_ms)
    decimals = units.currency_decimals(profile["currency"])
    spend_minor = units.parse_minor(profile["lifetime"]["net_spend"], decimals)
    answer = profile["satisfaction"]
    satisfaction = None
    if answer is not None and units.parse_time(answer["at"]) <= at_ms:
        satisfaction = Satisfaction(units.parse_time(answer["at"]), answer["score"], answer["kind"])
    steps = [
        ComplaintStep(
            units.parse_time(step["at"]),
            step["complaint_id"],
            STATUSES.index(step["status"]),
            SEVERITIES.index(step["severity"]),
            step["category"] or "",
        )
        for step in profile["history"]["complaints"]
        if units.parse_time(step["at"]) <= at_ms
    ]
    return Facts(
        first_purchase_ms=first_ms,
        last_purchase_ms=min(latest_ms, last_ms),
        purchase_days=purchase_days,
        orders=purchase_days,
        # Of what was spent until then only the whole is known: the mean, which is what the score looks at, is kept.
        spend_minor=spend_minor * purchase_days // max(profile["lifetime"]["purchase_days"], 1),
        complaints=steps,
        satisfaction=satisfaction,
    )
