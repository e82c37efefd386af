"""For other programs: following the output topics (`tier_changes` and the like), looking customers up (`Lookups`).

Public is what `__all__` names. The room is also built as a small distribution of its own, `tierstream-client`, whose package
is `tierstream_client` (scripts/build-client): so its modules import each other relatively, and of the core only the
contracts.
"""

from models.contracts import (
    AlertChange,
    BehaviourChange,
    Erasure,
    QualificationChange,
    RiskChange,
    StageChange,
    TierChange,
)

from .changes import (
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
from .connection import ClientError, SettingsError
from .lookups import LookupFailed, Lookups

__all__ = [
    "AlertChange",
    "BehaviourChange",
    "Changes",
    "ClientError",
    "Erasure",
    "Gap",
    "LookupFailed",
    "Lookups",
    "QualificationChange",
    "RiskChange",
    "SettingsError",
    "StageChange",
    "TierChange",
    "Unreadable",
    "alerts",
    "churn_risk",
    "life_cycle",
    "log_gap",
    "raise_gap",
    "tier_changes",
]
