"""For programs of others: following the output topics (`tier_changes` and the like), looking customers up (`Lookups`)."""

from streams.client.changes import (
    Changes,
    Gap,
    Unreadable,
    alerts,
    churn_risk,
    life_cycle,
    log_gap,
    raise_gap,
    tier_changes,
)
from streams.client.following import ClientError
from streams.client.lookups import Lookups

__all__ = [
    "Changes",
    "ClientError",
    "Gap",
    "Lookups",
    "Unreadable",
    "alerts",
    "churn_risk",
    "life_cycle",
    "log_gap",
    "raise_gap",
    "tier_changes",
]
