"""What an ingest did and how it stands: for Prometheus, for whoever asks whether it is well, and for its log."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import prometheus_client
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from streams.ingest.partition_merge import Place
from streams.ingest.record_mapping import OUTCOMES, MappedRecord
from streams.settings import SettingsError
from streams.telemetry.stats import BATCH_SECONDS, RECORDS_A_BATCH


class Counts(Collector):
    """Added to once a batch, when it is committed."""

    def __init__(self, topics: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._records = self._counter(
            "records",
            "Records of the sources by outcome: ingested; left_out, of which no `when` holds; tombstone; refused, a dead letter.",
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
            for outcome in OUTCOMES:
                self._records.labels(topic, outcome)
        self.outcomes: Counter[str] = Counter()
        self.lag: dict[Place, int] = {}
        self.caught_up: dict[Place, bool] | None = None
        """By partition that is here: whether it was read to its end since it came. None: the group has not said which are."""
        self.trouble: str | None = None
        """What it waits for, in words; None while nothing is wrong."""
        self.registry.register(self)

    def _counter(self, name: str, text: str, *labels: str) -> prometheus_client.Counter:
        return prometheus_client.Counter(f"tierstream_ingest_{name}", text, labels, registry=self.registry)

    def written(self, items: list[MappedRecord], seconds: float) -> None:
        """A batch is committed."""
        outcomes = Counter((item.record.topic, item.outcome) for item in items)
        for (topic, outcome), count in outcomes.items():
            self._records.labels(topic, outcome).inc(count)
            self.outcomes[outcome] += count
        for topic, count in Counter(one.topic for item in items for one in item.made).items():
            self._events.labels(topic).inc(count)
        self._batch_records.observe(len(items))
        self._batch_seconds.observe(seconds)

    def note_caught_up(self, is_drained: Callable[[Place], bool]) -> None:
        """Some partitions may have been read to their ends, with all of it written."""
        for place, is_caught_up in (self.caught_up or {}).items():
            if not is_caught_up and is_drained(place):
                self.caught_up[place] = True  # type: ignore[index]

    def interrupted(self) -> None:
        """A batch was given up."""
        self._interruptions.inc()

    def is_ready(self) -> bool:
        """Whether all partitions that are here were read to their ends at least once; one may have none, as a spare."""
        return self.trouble is None and self.caught_up is not None and all(self.caught_up.values())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """How it stands now."""
        ready = GaugeMetricFamily("tierstream_ingest_ready", "As /readyz says.")
        ready.add_metric([], self.is_ready())
        lag = GaugeMetricFamily(
            "tierstream_ingest_lag_records", "Offsets from what was committed to a source's end, as last told.",
            labels=("topic", "partition"),
        )  # fmt: skip
        for (topic, partition), behind in sorted(self.lag.items()):
            lag.add_metric([topic, str(partition)], behind)
        yield from (ready, lag)

    def in_words(self) -> str:
        """What was done.

        >>> Counts(["shop.orders"]).in_words()
        '0 ingested, 0 left out, 0 tombstones, 0 refused'
        """
        names = {"ingested": "ingested", "left_out": "left out", "tombstone": "tombstones", "refused": "refused"}
        return ", ".join(f"{self.outcomes[outcome]:,} {words}" for outcome, words in names.items())


def serve_pages(counts: Counts, host: str, port: int) -> ThreadingHTTPServer:
    """/healthz, /readyz, /stats and /metrics, from a thread of their own. Raises SettingsError."""

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
            """Who looks is not told in the log."""

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
        **{outcome: counts.outcomes[outcome] for outcome in OUTCOMES},
        "ready": counts.is_ready(),
        "trouble": counts.trouble,
        "lag": {f"{topic}/{partition}": behind for (topic, partition), behind in sorted(counts.lag.items())},
    }
