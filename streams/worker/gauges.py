"""Gauges, computed when the page /metrics is requested: nothing is kept up to date for them.

A value that is not known is left out rather than guessed: the lag of a partition that is being restored, or the
contents of Redis while it is away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Final, Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from models.policy import Policy
from models.policy.editions import Editions
from streams.settings import Settings
from streams.topics import FOLDED, OUTPUTS
from streams.view.customers import ViewSizes, is_redis_away
from streams.worker.partition import PartitionWorker
from streams.worker.view_feed import ViewFeed

REDIS_SECONDS: Final = 1.0
"""How long Redis may take to answer, so that a scrape is not delayed for longer."""
MOST_DUE_COUNTED: Final = 10_000
"""Per partition, the most customers counted that are due in the hour that is open in the schedule."""


def _gauge(name: str, help: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"tierstream_{name}", help, labels=labels)


class ObservedApp(Protocol):
    """What the gauges need from an app; `TierstreamApp` is one."""

    settings: Settings
    policy: Policy
    feed: ViewFeed | None
    partition_workers: dict[int, PartitionWorker]

    def is_ready(self) -> bool:
        """Whether every assigned partition has been read to its end since it was assigned."""

    def editions_held(self) -> list[Editions]:
        """The editions of the assigned partitions that are restored."""


class Gauges(Collector):
    """The gauges of an app and its partitions; registered with the app's counters."""

    def __init__(self, app: ObservedApp) -> None:
        self._app = app
        self._sizes: ViewSizes | None = None
        """The view's sizes when Redis was last asked; None if it did not answer."""

    async def ask_redis(self) -> None:
        """Read the sizes of the serving view. To be awaited before values are collected."""
        if self._app.feed is None:
            return
        try:
            policies = [self._app.policy, *(editions.current for editions in self._app.editions_held())]
            tiers = dict.fromkeys(name for policy in policies for name in policy.ladder.tier_names)
            self._sizes = await asyncio.wait_for(self._app.feed.view.sizes(tiers), REDIS_SECONDS)
        except Exception as error:
            if not is_redis_away(error):
                raise
            self._sizes = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The values now."""
        yield from self._of_the_worker()
        yield from self._of_partitions(sorted(self._app.partition_workers.items()))
        yield from self._of_the_view()

    def _of_the_worker(self) -> Iterator[GaugeMetricFamily]:
        app, settings = self._app, self._app.settings
        info = _gauge("info", "What this worker runs; always 1.", "app_id", "policy", "delivery", "clock")
        info.add_metric([settings.table_app_id, app.policy.ref, settings.delivery, settings.clock], 1)
        yield info
        partitions = _gauge("partitions", "Partitions of every topic, from this worker's settings.")
        partitions.add_metric([], settings.partitions)
        yield partitions
        ready = _gauge(
            "ready", "1 once every assigned partition has been read to its end since it was assigned, as /readyz says."
        )
        ready.add_metric([], app.is_ready())
        yield ready

    def _of_partitions(self, workers: list[tuple[int, PartitionWorker]]) -> Iterator[GaugeMetricFamily]:
        folding = _gauge(
            "partition_folding", "1 while a partition folds, 0 while it is restored or waits.", "partition"
        )
        customers = _gauge("customers", "Customers held.", "partition")
        delay = _gauge(
            "watermark_delay_seconds",
            "Wall clock minus the partition's time: how far it is behind.",
            "partition",
        )
        due = _gauge(
            "due_customers",
            f"About how many customers are due and not advanced yet; counted up to {MOST_DUE_COUNTED:,} an hour.",
            "partition",
        )
        unprofiled = _gauge(
            "unprofiled_customers", "Customers whose latest profile is still to be published.", "partition"
        )
        unjudged = _gauge("unjudged_customers", "Customers still to be judged under the edition in force.", "partition")
        shadowed = _gauge("shadow_customers", "Customers judged under the shadow policy.", "partition")
        unshadowed = _gauge(
            "shadow_unjudged_customers", "Customers still to be judged under the shadow policy.", "partition"
        )
        edition = _gauge("edition", "The edition of the policy in force; 0 before the first.", "partition")
        lag = _gauge(
            "lag_records", "Offsets of an input from what was folded to its end, as the broker last reported it.",
            "topic", "partition",
        )  # fmt: skip
        now_ms = time.time_ns() // 1_000_000
        for number, worker in workers:
            here, flow = [str(number)], worker.flow
            folding.add_metric(here, worker.is_folding)
            if flow is None or not worker.is_folding:
                continue
            table, time_ms = flow.table, flow.time_ms()
            customers.add_metric(here, len(table.customers))
            if time_ms >= 0:
                delay.add_metric(here, (now_ms - time_ms) / 1000)
            due.add_metric(here, table.schedule.count_due(time_ms, MOST_DUE_COUNTED))
            unprofiled.add_metric(here, len(table.unprofiled))
            unjudged.add_metric(here, len(table.review))
            edition.add_metric(here, table.editions.number)
            shadow = worker.shadow
            if shadow is not None and shadow.table is not None:
                shadowed.add_metric(here, len(shadow.table.customers))
                unshadowed.add_metric(here, len(shadow.waiting))
            for topic in FOLDED:
                behind = worker.lag(topic)
                if behind is not None:
                    lag.add_metric([topic, *here], behind)
        yield from (folding, customers, delay, due, unprofiled, unjudged, shadowed, unshadowed, edition, lag)

    def _of_the_view(self) -> Iterator[GaugeMetricFamily]:
        feed, sizes = self._app.feed, self._sizes
        up = _gauge("redis_up", "1 if Redis answered just now; left out where no view is kept.")
        lag = _gauge(
            "view_lag_records", "Offsets of an output that the view in Redis lacks, as far as it was read.",
            "topic", "partition",
        )  # fmt: skip
        tiers = _gauge("view_customers", "Customers by tier, in the whole view: the same from every worker.", "tier")
        at_risk = _gauge("view_at_risk_customers", "Customers with a churn alert, in the whole view.")
        alerts = _gauge(
            "view_alerts", "Alerts that wait, in the whole view: open and nobody's, held, snoozed.", "state"
        )
        if feed is not None:
            name_of = {self._app.settings.topic(name): name for name in OUTPUTS}
            up.add_metric([], sizes is not None)
            for tp, behind in feed.lag().items():
                lag.add_metric([name_of[tp.topic], str(tp.partition)], behind)
        if sizes is not None:
            for tier, count in sizes.tiers.items():
                tiers.add_metric([tier], count)
            at_risk.add_metric([], sizes.at_risk)
            for state, count in sizes.alerts.items():
                alerts.add_metric([state], count)
        yield from (up, lag, tiers, at_risk, alerts)
