"""Counts what a worker has done since its start, for Prometheus (page /metrics) and for the page /stats.

A batch is counted at once, after it is safely written, so that counting costs the same for any number of events. Values
of the present moment are no counters; streams/worker/gauges.py reads them on request.
"""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import prometheus_client
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from models.outputs import CHURN_RISK, TIER_CHANGES, Output
from streams.engine.batch import Batch
from streams.engine.plan import Plan
from streams.topics import COMMANDS
from streams.topics import FOLDED as TOPICS

FOLDED: Final = "folded"
REPEAT: Final = "repeat"
"""An event whose `event_id` was counted before: it changed nothing."""
SKIPPED: Final = "skipped"
"""A record that was delivered again after the table held it."""
DEAD_LETTER: Final = "dead_letter"
CARRIED_ON: Final = "carried"
"""A stray: it was carried to the partition where its customer lives, and is folded there."""
EDITION: Final = "edition"
"""A command to all customers: the thresholds, the parameters or the policy changed."""
OUTCOMES: Final = (FOLDED, REPEAT, SKIPPED, DEAD_LETTER, CARRIED_ON, EDITION)

INTERRUPTED: Final = "interrupted"
FENCED: Final = "fenced"

BEGIN: Final = "begin"
FOLD: Final = "fold"
OUTPUTS: Final = "outputs"
COMMIT: Final = "commit"
STEPS: Final = (BEGIN, FOLD, OUTPUTS, COMMIT)

RECORDS_A_BATCH: Final = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
BATCH_SECONDS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
RESTORE_SECONDS: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0)


class _Side(Struct):
    """The fields of an output before or after the change that are counted."""

    tier: str | None = None
    level: str | None = None


class _Move(Struct):
    before: _Side | None = None
    after: _Side | None = None


_move_of = msgspec.json.Decoder(_Move).decode


class Watch:
    """Measures the time of a batch's steps, one after another."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.monotonic()

    def lap(self, step: str) -> None:
        """End a step, and begin the next one."""
        now = time.monotonic()
        self.seconds[step], self._since = now - self._since, now


def new_registry() -> CollectorRegistry:
    """A registry for Prometheus, with the figures of the process.

    From here on, counters of this process have no `_created` series: no dashboard shows them.
    """
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


class Stats:
    """The counters and histograms of one app, in a registry of their own.

    The counters of moves between all `tiers` and `levels` exist from the start, at zero: Prometheus sees no increase in
    a counter that appears with its first value.
    """

    def __init__(self, tiers: Sequence[str] = (), levels: Sequence[str] = ()) -> None:
        self.registry = new_registry()
        self.first_at: float | None = None
        self.last_at: float | None = None
        """When the first and the last batch were written, in monotonic seconds."""
        self._events = self._counter(
            "events",
            "Records of the input topics by outcome: folded; repeat, of an event_id that had been counted; skipped, "
            "delivered again after the table held them; dead_letter; carried to the partition where its customer lives, and "
            "folded there as one of the topic carried; edition, a command to all customers.",
            "topic",
            "outcome",
        )
        self._outputs = self._counter("outputs", "Announcements, by output topic and change.", "topic", "change")
        self._shadow_outputs = self._counter(
            "shadow_outputs", "Announcements under the shadow policy, by output topic and change.", "topic", "change"
        )
        self._tier_moves = self._counter(
            "tier_moves", "Customers who went from one tier to another.", "before", "after"
        )
        self._risk_moves = self._counter(
            "risk_moves", "Customers who went from one level of churn risk to another.", "before", "after"
        )
        self._dead_letters = self._counter(
            "dead_letters", "Records set aside, by input topic and reason code.", "topic", "reason"
        )
        self._profiles = self._counter("profiles", "Profiles published.")
        self._advanced = self._counter("advanced_customers", "Customers advanced by time alone, without an event.")
        self._reviewed = self._counter("reviewed_customers", "Customers judged anew because a new edition began.")
        self._rebalances = self._counter("rebalances", "Assignments of partitions by the consumer group.")
        self._restored = self._counter("restored_customers", "Customers read back from changelogs.")
        self._interruptions = self._counter(
            "interruptions",
            "Batches that were given up: interrupted by the broker and begun anew, or fenced off by another owner.",
            "kind",
        )
        self._batch_records = self._histogram("batch_records", "Records folded in one batch.", RECORDS_A_BATCH)
        self._batch_seconds = self._histogram(
            "batch_seconds",
            "Seconds that the steps of a batch take: begin waits for the end of the batch before; fold, with the "
            "journal's append beside it; outputs hands over the announcements, and without transactions waits until they are acknowledged; commit writes the changelog "
            "and makes the batch final.",
            BATCH_SECONDS,
            "step",
        )
        self._restore_seconds = self._histogram(
            "restore_seconds", "Seconds that restoring a partition from its changelog took.", RESTORE_SECONDS
        )
        for counter, names in ((self._tier_moves, tiers), (self._risk_moves, levels)):
            for before, after in itertools.permutations(names, 2):
                counter.labels(before, after)
        for outcome in OUTCOMES:
            for topic in TOPICS if outcome != EDITION else (COMMANDS,):
                self._events.labels(topic, outcome)
        for kind in (INTERRUPTED, FENCED):
            self._interruptions.labels(kind)
        self._step = {step: self._batch_seconds.labels(step) for step in STEPS}

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(f"tierstream_{name}", help, labels, registry=self.registry)

    def _histogram(self, name: str, help: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(f"tierstream_{name}", help, labels, registry=self.registry, buckets=tuple(buckets))

    # ------------------------------------------------------------ counting
    def count(self, batch: Batch, plan: Plan, taken: Mapping[str, int], seconds: Mapping[str, float]) -> None:
        """Count a batch that is safely written: `taken` are its records by topic, `seconds` the time of each step."""
        self.last_at = time.monotonic()
        self.first_at = self.first_at or self.last_at
        for step, its_seconds in seconds.items():
            self._step[step].observe(its_seconds)
        self._batch_records.observe(len(plan.records))
        self._advanced.inc(len(plan.due))
        self._reviewed.inc(len(plan.review))
        self._count_outcomes(batch, taken)
        for (topic, change), count in collections.Counter((one.topic, one.change) for one in batch.outputs).items():
            self._outputs.labels(topic, change).inc(count)
        self._count_moves(batch.outputs)

    def _count_outcomes(self, batch: Batch, taken: Mapping[str, int]) -> None:
        editions = sum(taken.values()) - batch.events - len(batch.strays)
        others = collections.Counter({(COMMANDS, EDITION): editions})
        others.update((one.topic, CARRIED_ON) for one in batch.strays)
        others.update({(topic, REPEAT): count for topic, count in batch.repeats.items()})
        refused = collections.Counter((one.record.topic, one.code) for one in batch.dead_letters)
        for (topic, reason), count in refused.items():
            self._dead_letters.labels(topic, reason).inc(count)
            others[topic, DEAD_LETTER] += count
        folded = collections.Counter(taken)
        for (topic, outcome), count in others.items():
            folded[topic] -= count
            if count:
                self._events.labels(topic, outcome).inc(count)
        for topic, count in folded.items():
            if count:
                self._events.labels(topic, FOLDED).inc(count)

    def _count_moves(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            if output.topic not in (TIER_CHANGES, CHURN_RISK):
                continue
            move = _move_of(output.body)
            before, after = move.before or _Side(), move.after or _Side()
            if output.topic == TIER_CHANGES and before.tier != after.tier:
                self._tier_moves.labels(before.tier or "", after.tier or "").inc()
            elif output.topic == CHURN_RISK and before.level != after.level:
                self._risk_moves.labels(before.level or "", after.level or "").inc()

    def count_shadow(self, batch: Batch) -> None:
        """Count the outputs of a batch under the shadow policy, once it is safely written."""
        for (topic, change), count in collections.Counter((one.topic, one.change) for one in batch.outputs).items():
            self._shadow_outputs.labels(topic, change).inc(count)

    def count_skipped(self, topic: str, count: int) -> None:
        """Count records of a topic that were delivered again after the table held them."""
        if count:
            self._events.labels(topic, SKIPPED).inc(count)

    def count_profiles(self, profiles: int) -> None:
        """Count published profiles."""
        self._profiles.inc(profiles)

    def count_rebalance(self) -> None:
        """Count an assignment of partitions by the group."""
        self._rebalances.inc()

    def record_restoration(self, customers: int, seconds: float) -> None:
        """Count the customers of a restored partition, and its seconds."""
        self._restored.inc(customers)
        self._restore_seconds.observe(seconds)

    def count_interruption(self, kind: str) -> None:
        """Count a batch that was given up: INTERRUPTED or FENCED."""
        self._interruptions.labels(kind).inc()

    # ------------------------------------------------------------ the page /stats
    def as_dict(self) -> dict[str, Any]:
        """The counters for the page /stats."""
        seconds = (self.last_at or 0.0) - (self.first_at or 0.0)
        outcomes = _counter_values(self._events, "outcome")
        return {
            "events": outcomes[FOLDED] + outcomes[REPEAT] + outcomes[DEAD_LETTER],
            "batches": _observation_count(self._batch_records),
            "skipped": outcomes[SKIPPED],
            "carried": outcomes[CARRIED_ON],
            "profiles": _counter_values(self._profiles)[""],
            "shadow_changes": dict(sorted(_counter_values(self._shadow_outputs, "topic", "change").items())),
            "changes": dict(sorted(_counter_values(self._outputs, "topic", "change").items())),
            "dead_letters": dict(sorted(_counter_values(self._dead_letters, "reason").items())),
            "busy_seconds": round(seconds, 3),
        }


def _counter_values(counter: Counter, *labels: str) -> collections.Counter[str]:
    """The values of a counter, by the values of these labels, joined by points."""
    found: collections.Counter[str] = collections.Counter()
    for metric in counter.collect():
        for sample in metric.samples:
            found[".".join(sample.labels[label] for label in labels)] += int(sample.value)
    return found


def _observation_count(histogram: Histogram) -> int:
    """How many values a histogram without labels has seen."""
    samples = (sample for metric in histogram.collect() for sample in metric.samples)
    return next(int(sample.value) for sample in samples if sample.name.endswith("_count"))
