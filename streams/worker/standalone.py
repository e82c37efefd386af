"""A partition's context where there is neither a group nor anything that watches: for commands, and the official double of tests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from faust.types import TP

from models.policy import Policy
from streams.settings import Settings
from streams.telemetry.stats import Stats
from streams.worker.fetch import ReadPosition

if TYPE_CHECKING:
    from streams.telemetry.spans import Spans


class NoGroup:
    """Stands in for the group's consumer: it reads nothing, keeps what it is asked for, and says what it was made to say."""

    def __init__(self) -> None:
        self.positions: dict[TP, ReadPosition] = {}
        self.withheld: set[TP] = set()
        self.rewound: list[tuple[TP, int]] = []
        self.done_up_to: dict[TP, int] = {}
        self.rejoined = 0

    def withhold(self, tp: TP) -> None:
        """Keep in mind that a partition is withheld."""
        self.withheld.add(tp)

    def release(self, tp: TP) -> None:
        """It is not any more."""
        self.withheld.discard(tp)

    async def rewind(self, tp: TP, offset: int) -> None:
        """Keep where reading was to go on."""
        self.rewound.append((tp, offset))

    async def highwaters(self, *tps: TP) -> Mapping[TP, int]:
        """As far as positions say, else 0."""
        return {tp: (self.positions[tp].end or 0) if tp in self.positions else 0 for tp in tps}

    async def earliest_offsets(self, *tps: TP) -> Mapping[TP, int]:
        """Nothing was ever deleted."""
        return dict.fromkeys(tps, 0)

    def committed(self, tp: TP) -> int | None:
        """Nothing: there is no group to commit in."""
        return None

    def done(self, tp: TP, next_offset: int) -> None:
        """The group's offsets are for lag monitors, and follow when a worker runs again."""
        self.done_up_to[tp] = next_offset

    def is_member(self) -> bool:
        """Nobody else can have been given the partition."""
        return True

    def rejoin(self) -> None:
        """There is nothing to join; it is counted."""
        self.rejoined += 1


class Standalone:
    """A context without a group. Coroutines to be spawned, and failures, are kept for the caller."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        shadow_policy: Policy | None = None,
        spans: Spans | None = None,
        consumer: NoGroup | None = None,
    ) -> None:
        self.settings = settings
        self.policy = policy
        self.shadow_policy = shadow_policy
        self.decoder = policy.decoder()
        self.stats = Stats(policy.ladder.tier_names, [level.name for level in policy.risk.levels])
        self.spans = spans
        self.restoring_slots = asyncio.Semaphore()
        self.consumer = NoGroup() if consumer is None else consumer
        self.generation = 0
        self.is_rebalancing = False
        self.spawned: list[Coroutine[Any, Any, Any]] = []
        self.failures: list[BaseException] = []

    def wake_view(self) -> None:
        """No serving view is fed from here."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Keep a coroutine."""
        self.spawned.append(work)

    def fail(self, error: BaseException) -> None:
        """Keep a failure."""
        self.failures.append(error)
