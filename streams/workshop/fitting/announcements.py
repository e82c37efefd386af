"""What a policy would have announced over a log: the alerts and the tier changes that a backtest counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from models.fitting.alerts import CustomerAnnouncements
from models.outputs import CHURN_RISK, TIER_CHANGES, Output
from models.policy import Policy
from streams.engine.batch import Batch
from streams.sources.logs import Log
from streams.workshop.replay.fold import Replay
from streams.workshop.replay.run import fold_all

TIER_MOVES: Final = ("upgrade", "downgrade")
NEVER_CLOSED_MS: Final = 2**62


def collect_announcements(logs: Sequence[Log], policy: Policy, shown: bool) -> dict[str, CustomerAnnouncements]:
    """The announcements of a policy over some logs, by customer. Raises LogError."""
    found: dict[str, _Collected] = {}

    def collect(batch: Batch) -> None:
        for output in batch.outputs:
            found.setdefault(output.customer_id, _Collected()).add(output)

    replay = Replay(policy, without_bodies=True)
    fold_all(replay, logs, [policy.decoder()] * len(logs), collect, shown, what=policy.ref)
    for batch in replay.finish(replay.partition.clock_ms):
        collect(batch)
    return {name: one.announced() for name, one in found.items()}


def without_damping(policy: Policy) -> Policy:
    """The policy without grace, minimum hold and hysteresis: every threshold that is crossed is announced at once."""
    levels = tuple(replace(level, ease_below=level.raise_at) for level in policy.risk.levels)
    return replace(policy, grace_ms=0, min_hold_ms=0, risk=replace(policy.risk, levels=levels))


class _Collected:
    """Collects the announcements about one customer."""

    def __init__(self) -> None:
        self.alerts_ms: list[int] = []
        self.open_ms: list[tuple[int, int]] = []
        self.opened_ms: int | None = None
        self.tier_changes = 0
        self.risk_changes = 0

    def add(self, output: Output) -> None:
        at_ms = output.occurred_at_ms
        if output.topic == TIER_CHANGES:
            self.tier_changes += output.change in TIER_MOVES
        elif output.topic == CHURN_RISK:
            self.risk_changes += 1
            if output.change in ("raised", "escalated"):
                self.alerts_ms.append(at_ms)
            if output.change == "raised":
                self.opened_ms = at_ms
            elif output.change == "cleared" and self.opened_ms is not None:
                self.open_ms.append((self.opened_ms, at_ms))
                self.opened_ms = None

    def announced(self) -> CustomerAnnouncements:
        if self.opened_ms is not None:
            self.open_ms.append((self.opened_ms, NEVER_CLOSED_MS))
        return CustomerAnnouncements(tuple(self.alerts_ms), tuple(self.open_ms), self.tier_changes, self.risk_changes)
