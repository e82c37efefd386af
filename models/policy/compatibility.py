"""Whether a policy can replace another one for the same customers, without folding all events again.

A customer's state was made for the policy in force: purchases by its buckets, for the length of its window, in its
currency. Another policy can use that state if it needs nothing that was never stored or was dropped.
"""

from __future__ import annotations

from models import units
from models.policy.policy import Policy


def obstacles(before: Policy, after: Policy) -> list[str]:
    """The reasons why one policy can't follow another, each as a sentence; empty if it can."""
    found = []
    if (before.currency, before.rates) != (after.currency, after.rates):
        found.append("the currency or the accepted currencies differ: amounts that were counted can't be counted again")
    old, new = before.window, after.window
    if old.bucket_ms != new.bucket_ms:
        found.append(
            f"purchases are kept by {units.format_duration(old.bucket_ms)}, and it asks for {units.format_duration(new.bucket_ms)}: "
            f'write window.bucket = "{units.format_duration(old.bucket_ms)}"'
        )
    if new.keep_ms > old.keep_ms:
        found.append(
            f"it looks back {units.format_duration(new.keep_ms)}, and purchases are kept for {units.format_duration(old.keep_ms)}"
        )
    gone = [name for name in before.ladder.tier_names if name not in after.ladder.tier_names]
    if gone:
        found.append(f"it has no tier {', '.join(gone)}, and customers may be in it: keep the name")
    levels = [level.name for level in after.risk.levels]
    gone = [level.name for level in before.risk.levels if level.name not in levels]
    if gone:
        found.append(f"it has no risk level {', '.join(gone)}, and customers may be at it: keep the name")
    if before.alerts is not None and after.alerts is None:
        found.append("it keeps no ledger of alerts, and some may be open: keep [alerts]")
    if before.life is not None and after.life is None:
        found.append("it has no life cycle, and customers are in its stages: keep [life_cycle]")
    if before.relative != after.relative:
        found.append("lines that depend on all customers come, go or differ in kind")
    return found
