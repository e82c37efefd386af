"""The counts and the health of an ingest: for Prometheus, for health checks, and for its log."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import prometheus_client
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from streams.ingest.partition_merge import Place
from streams.ingest.record_mapping import MappedRecord, Outcome
from streams.settings import SettingsError
from streams.telemetry.stats import BATCH_SECONDS, RECORDS_A_BATCH, new_registry


class Counts(Collector):
    """The counts of an ingest, updated when a batch is committed."""

    def __init__(self, topics: Iterable[str]) -> None:
        self.registry = new_registry()
        self._records = self._counter(
            "records",
            "Records of the sources by outcome: ingested; left_out (no `when` holds); tombstone; refused (a dead letter).",
            "topic",
            "outcome",
        )
        self._events = self._counter("events", "Events written, by input topic.", "topic")
        self._interruptions = self._counter("interruptions", "Batches that were given up and are done again.")
        self._batch_records = prometheus_client.Histogram(
            "tierstream_ingest_batch_records",
            "Records of one transaction.",
            buckets=RECORDS_A_BATCH,
            registry=self.registry,
        )
        self._batch_seconds = prometheus_client.Histogram(
            "tierstream_ingest_batch_seconds", "A transaction, from its begin to its commit.", buckets=BATCH_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        for topic in topics:
            for outcome in Outcome:
                self._records.labels(topic, outcome)
        self.outcomes: Counter[Outcome] = Counter()
        self.lag: dict[Place, int] = {}
        self.caught_up: dict[Place, bool] | None = None
        """For each assigned partition, whether it was read to its end since its assignment; None before the first
        assignment.
        """
        self.trouble: str | None = None
        """A sentence that says what the ingest is waiting for; None while nothing is wrong."""
        self.registry.register(self)

    def _counter(self, name: str, text: str, *labels: str) -> prometheus_client.Counter:
        return prometheus_client.Counter(f"tierstream_ingest_{name}", text, labels, registry=self.registry)

    def count_batch(self, items: list[MappedRecord], seconds: float) -> None:
        """Count a batch that was committed."""
        outcomes = Counter((item.record.topic, item.outcome) for item in items)
        for (topic, outcome), count in outcomes.items():
            self._records.labels(topic, outcome).inc(count)
            self.outcomes[outcome] += count
        for topic, count in Counter(one.topic for item in items for one in item.events).items():
            self._events.labels(topic).inc(count)
        self._batch_records.observe(len(items))
        self._batch_seconds.observe(seconds)

    def update_caught_up(self, is_drained: Callable[[Place], bool]) -> None:
        """Mark the partitions that were read to their ends, with all their records written."""
        if self.caught_up is not None:
            for place, is_caught_up in self.caught_up.items():
                if not is_caught_up and is_drained(place):
                    self.caught_up[place] = True

    def count_interruption(self) -> None:
        """Count a batch that was given up."""
        self._interruptions.inc()

    def is_ready(self) -> bool:
        """Whether all assigned partitions were read to their ends at least once; a spare process has no partitions."""
        return self.trouble is None and self.caught_up is not None and all(self.caught_up.values())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges, as of now."""
        ready = GaugeMetricFamily("tierstream_ingest_ready", "As /readyz says.")
        ready.add_metric([], self.is_ready())
        lag = GaugeMetricFamily(
            "tierstream_ingest_lag_records", "Offsets from what was committed to a source's end, as last reported.",
            labels=("topic", "partition"),
        )  # fmt: skip
        for (topic, partition), behind in sorted(self.lag.items()):
            lag.add_metric([topic, str(partition)], behind)
        yield from (ready, lag)

    def as_text(self) -> str:
        """The counts of all outcomes, as text.

        >>> Counts(["shop.orders"]).as_text()
        '0 ingested, 0 left out, 0 tombstones, 0 refused'
        """
        names = {
            Outcome.INGESTED: "ingested",
            Outcome.LEFT_OUT: "left out",
            Outcome.TOMBSTONE: "tombstones",
            Outcome.REFUSED: "refused",
        }
        return ", ".join(f"{self.outcomes[outcome]:,} {words}" for outcome, words in names.items())


def serve_pages(counts: Counts, host: str, port: int) -> ThreadingHTTPServer:
    """Serve /healthz, /readyz, /stats and /metrics from a thread. Raises SettingsError."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body, content_type = 200, b"", "application/json"
            if self.path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                body = encode(counts.registry)
            elif self.path == "/healthz":
                body = orjson.dumps({"alive": True})
            elif self.path == "/readyz":
                status = 200 if counts.is_ready() else 503
                body = orjson.dumps({"ready": counts.is_ready(), "trouble": counts.trouble})
            elif self.path == "/stats":
                body = orjson.dumps(_stats(counts))
            else:
                status, body = 404, orjson.dumps({"detail": "there are /healthz, /readyz, /stats and /metrics"})
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are not logged."""

    try:
        server = ThreadingHTTPServer((host, port), Pages)
    except OSError as error:
        raise SettingsError(
            f"TIERSTREAM_INGEST_WEB_PORT {port}: {error.strerror}; give another port, or 0 for no pages"
        ) from None
    threading.Thread(target=server.serve_forever, name="pages", daemon=True).start()
    return server


def _stats(counts: Counts) -> dict[str, Any]:
    return {
        **{outcome.value: counts.outcomes[outcome] for outcome in Outcome},
        "ready": counts.is_ready(),
        "trouble": counts.trouble,
        "lag": {f"{topic}/{partition}": behind for (topic, partition), behind in sorted(counts.lag.items())},
    }
