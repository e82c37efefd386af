"""Names that are written on topics: those of the output topics themselves, and words of fields. Imports nothing of the core."""

from __future__ import annotations

from typing import Final, Literal

TIER_CHANGES: Final = "tier-changes"
CHURN_RISK: Final = "churn-risk"
LIFE_CYCLE: Final = "life-cycle"
ALERTS: Final = "alerts"
ANNOUNCEMENTS: Final = (TIER_CHANGES, CHURN_RISK, LIFE_CYCLE, ALERTS)
"""The topics whose records share one numbering, the customer's `seq`."""
PROFILES: Final = "profiles"
DEAD_LETTERS: Final = "dead-letters"

Severity = Literal["low", "medium", "high", "critical"]
ComplaintStatus = Literal["opened", "escalated", "resolved", "reopened"]
