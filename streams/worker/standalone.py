"""A partition's context without a consumer group: for commands, and the test double that tests use."""

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
    """Replaces the group's consumer: it reads nothing, records calls, and returns what its attributes were set to."""

    def __init__(self) -> None:
        self.positions: dict[TP, ReadPosition] = {}
        self.withheld: set[TP] = set()
        self.rewound: list[tuple[TP, int]] = []
        self.done_up_to: dict[TP, int] = {}
        self.rejoined = 0

    def withhold(self, tp: TP) -> None:
        """Record that a partition is withheld."""
        self.withheld.add(tp)

    def release(self, tp: TP) -> None:
        """Record that it no longer is."""
        self.withheld.discard(tp)

    async def rewind(self, tp: TP, offset: int) -> None:
        """Record the seek."""
        self.rewound.append((tp, offset))

    async def highwaters(self, *tps: TP) -> Mapping[TP, int]:
        """The ends in `positions`; 0 where they have none."""
        return {tp: (self.positions[tp].end or 0) if tp in self.positions else 0 for tp in tps}

    async def earliest_offsets(self, *tps: TP) -> Mapping[TP, int]:
        """0: nothing was ever deleted."""
        return dict.fromkeys(tps, 0)

    def committed(self, tp: TP) -> int | None:
        """None: there is no group to commit to."""
        return None

    def mark_done(self, tp: TP, next_offset: int) -> None:
        """Record it. The group's offsets are for lag monitors; a worker commits them when one runs again."""
        self.done_up_to[tp] = next_offset

    def is_member(self) -> bool:
        """True: there is no group that could assign the partition to others."""
        return True

    def rejoin(self) -> None:
        """Count the call; there is no group to join."""
        self.rejoined += 1


class Standalone:
    """A context without a group. It keeps coroutines to be spawned, and failures, for the caller."""

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
        """Nothing: there is no serving view."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Keep a coroutine for the caller."""
        self.spawned.append(work)

    def fail(self, error: BaseException) -> None:
        """Keep a failure for the caller."""
        self.failures.append(error)
