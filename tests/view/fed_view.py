"""A serving view on a real Redis that is fed with what the fold announces."""

from __future__ import annotations

from typing import Any

import models
from models import Output
from streams.view.customers import RedisView
from streams.view.updates import update_of
from tests.builders import complaint, ms, purchase
from tests.running import Fold

POLICY = models.load("annual-spend")
START_MS = ms("2024-01-01")
FIELD = "outputs/0"


class FedView:
    """A fold whose outputs are applied to a view."""

    def __init__(self, view: RedisView) -> None:
        self.view, self.fold, self.position, self.outputs = view, Fold(POLICY), 0, list[Output]()

    async def fold_and_apply(self, *wires: dict[str, Any]) -> None:
        """Fold events, and apply what they announce."""
        for wire in wires:
            await self.apply(self.fold.apply(wire).outputs)

    def fold_only(self, *wires: dict[str, Any]) -> None:
        """Fold events; the view does not get what they announce."""
        for wire in wires:
            self.fold.apply(wire)

    async def apply(self, outputs: list[Output]) -> None:
        """Apply announcements to the view."""
        self.outputs += outputs
        updates = [update for one in outputs if (update := update_of(one.topic, one.body)) is not None]
        assert await self.view.apply(FIELD, self.position, self.position + 1, updates) is None
        self.position += 1

    async def complain(
        self,
        *customer_ids: str,
        spent: str = "250",
        category: str = "delivery",
        region: str | None = None,
        at_ms: int = START_MS,
    ) -> None:
        """Each of these customers buys, and complains gravely: an alert opens."""
        for one in customer_ids:
            await self.fold_and_apply(purchase(one, spent, on=at_ms, id=f"{one}-p", region=region))
            await self.fold_and_apply(
                complaint(one, f"{one}-c", on=at_ms, severity="critical", category=category, id=f"{one}-c")
            )
