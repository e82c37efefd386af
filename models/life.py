"""The life cycle: the stages of a customer's relation to the shop, and how often they buy.

    prospect -> new                 by the first purchase
    new -> active -> loyal          by days with a purchase and time since the first
    -> cooling -> lost              by silence
    -> won-back -> active, loyal    by the first purchase after being lost, and the next one

Behaviour is the mean gap between days with a purchase: high-frequency, active, regular or occasional.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from models.customer import NEVER_MS, Facts, Standing

NEW: Final = "new"
ACTIVE: Final = "active"
LOYAL: Final = "loyal"
COOLING: Final = "cooling"
LOST: Final = "lost"
WON_BACK: Final = "won-back"
OCCASIONAL: Final = "occasional"
PROSPECT: Final = "prospect"
QUALIFICATIONS: Final = ("not-a-target", "automate", "nurture", "qualified")


@dataclass(frozen=True, slots=True)
class LifeCycle:
    """The life-cycle part of a policy."""

    loyal_days: int
    """A loyal customer has at least so many days with a purchase,"""
    loyal_after_ms: int
    """and at least this time between the first and the last of them."""
    cooling_after_ms: int
    lost_after_ms: int
    """A customer is cooling, or lost, after a longer silence than these."""
    gaps: tuple[tuple[str, int], ...]
    """Behaviours, each with the largest mean gap in ms, shortest first; with a longer gap a customer is occasional."""

    def stage(self, facts: Facts, standing: Standing, at_ms: int) -> str:
        """The stage of a customer at an instant; the customer must have a purchase."""
        silence_ms = at_ms - facts.last_purchase_ms
        if silence_ms > self.lost_after_ms:
            return LOST
        if silence_ms > self.cooling_after_ms:
            return COOLING
        was = standing.stage
        if was == LOST or (was == WON_BACK and facts.last_purchase_ms <= standing.stage_since_ms):
            return WON_BACK
        tenure_ms = facts.last_purchase_ms - facts.first_purchase_ms
        if facts.purchase_days >= self.loyal_days and tenure_ms >= self.loyal_after_ms:
            return LOYAL
        return ACTIVE if facts.purchase_days > 1 else NEW

    def next_change_ms(self, facts: Facts, after_ms: int) -> int:
        """The first instant after `after_ms` at which silence alone changes the stage; NEVER_MS if none."""
        for silence_ms in (self.cooling_after_ms, self.lost_after_ms):
            at_ms = facts.last_purchase_ms + silence_ms + 1
            if at_ms > after_ms:
                return at_ms
        return NEVER_MS

    @staticmethod
    def qualification(facts: Facts) -> str:
        """What to do about a prospect, by how many of money, authority and need they have; empty for a customer who is
        not a prospect, or not any more.
        """
        if facts.prospecting is None or facts.first_purchase_ms >= 0:
            return ""
        return QUALIFICATIONS[facts.prospecting.marks]

    def behaviour(self, facts: Facts) -> str:
        """The behaviour, by the mean gap between days with a purchase; occasional after only one such day."""
        repeats = facts.purchase_days - 1
        if repeats > 0:
            span_ms = facts.last_purchase_ms - facts.first_purchase_ms
            for name, most_ms in self.gaps:
                if span_ms <= most_ms * repeats:
                    return name
        return OCCASIONAL
