"""Where customers are in their life with the shop, and how often they buy: states of their own, with their own changes.

    prospect -> new                 by the first purchase
    new -> active -> loyal          by days with a purchase and time since the first
    -> cooling -> lost              by silence
    -> won-back -> active, loyal    by the first purchase after having been lost, and the next one

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
    """Days with a purchase, and"""
    loyal_after_ms: int
    """time from the first to the last of them, from which a customer is loyal."""
    cooling_after_ms: int
    lost_after_ms: int
    """Longer silences."""
    gaps: tuple[tuple[str, int], ...]
    """Behaviours, and the mean gap in ms up to which each goes, shortest first; beyond, a customer is occasional."""

    def stage(self, facts: Facts, standing: Standing, at_ms: int) -> str:
        """The stage at an instant of a customer with a purchase."""
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
        """What to do about a prospect, by how many of money, authority and need there are; empty of who is none (any more)."""
        if facts.prospecting is None or facts.first_purchase_ms >= 0:
            return ""
        return QUALIFICATIONS[facts.prospecting.marks]

    def behaviour(self, facts: Facts) -> str:
        """By the mean gap; of who bought on one day only, occasional."""
        repeats = facts.purchase_days - 1
        if repeats > 0:
            span_ms = facts.last_purchase_ms - facts.first_purchase_ms
            for name, most_ms in self.gaps:
                if span_ms <= most_ms * repeats:
                    return name
        return OCCASIONAL
