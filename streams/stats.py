"""Counts of what this worker did since it started."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from streams.folding import Batch


@dataclass
class Stats:
    """Counters since the start; times are monotonic seconds."""

    events: int = 0
    batches: int = 0
    skipped: int = 0
    """Records delivered again that the table already held."""
    profiles: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    """Outputs, by topic and change."""
    dead_letters: Counter[str] = field(default_factory=Counter)
    """Dead letters, by reason code."""
    first_at: float | None = None
    last_at: float | None = None

    def count(self, batch: Batch) -> None:
        """Add a batch that is safely written."""
        now = time.monotonic()
        self.first_at = self.first_at or now
        self.last_at = now
        self.events += batch.events
        self.batches += 1
        self.changes.update(f"{output.topic}.{output.change}" for output in batch.outputs)
        self.dead_letters.update(letter.code for letter in batch.dead_letters)

    def as_dict(self) -> dict[str, Any]:
        """For the web page /stats."""
        seconds = (self.last_at or 0.0) - (self.first_at or 0.0)
        return {
            "events": self.events,
            "batches": self.batches,
            "skipped": self.skipped,
            "profiles": self.profiles,
            "changes": dict(sorted(self.changes.items())),
            "dead_letters": dict(sorted(self.dead_letters.items())),
            "busy_seconds": round(seconds, 3),
        }
