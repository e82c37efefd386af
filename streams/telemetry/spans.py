"""What a batch, a restoration, a turn of Redis and a request leave behind as spans, and how these go to a collector.

The one module that imports OpenTelemetry. A span says what is known by then anyway: the steps of a batch are those of its `Watch`.
Nobody waits for the collector: spans are kept in memory, a thread of its own sends them, and of those that it can't send in time
the oldest are dropped.

No span names a customer: none has a key, a path, or the words of an error.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_NAMESPACE, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from streams.engine.batch import Batch
from streams.engine.journal import Entry
from streams.engine.plan import Plan
from streams.settings import Settings
from streams.telemetry.stats import STEPS, Watch
from streams.topics import COMMANDS

log = logging.getLogger(__name__)

PATH: Final = "/v1/traces"
"""Where a collector takes spans, by the protocol."""
MOST_LINKS: Final = 32
"""Of a batch, to the requests whose commands are in it."""
CLOSE_SECONDS: Final = 3.0
"""How long the spans at hand may take to be sent when a process ends."""
SECONDS_BETWEEN_COMPLAINTS: Final = 60.0
TRACEPARENT: Final = "traceparent"
"""The header, of HTTP and of Kafka alike, that says of which span something is a consequence (W3C Trace Context)."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER_METHOD: Final = "_OTHER"

Headers = list[tuple[str, bytes]]

_context = TraceContextTextMapPropagator()


class Spans:
    """Makes the spans of one process and has them sent."""

    def __init__(self, settings: Settings, service: str) -> None:
        assert settings.tracing_endpoint is not None
        _have_complaints_told()
        self._group = settings.table_app_id
        # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say counts more than we do.
        given = OTELResourceDetector().detect().attributes or {}
        told = {SERVICE_NAME: service, SERVICE_NAMESPACE: self._group, **given}
        # It ends when we say so: by itself it would wait for a collector that is away, after everything else has ended.
        self._provider = TracerProvider(resource=Resource.create(told), shutdown_on_exit=False)
        self._exporter = OTLPSpanExporter(traces_address(settings.tracing_endpoint))
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("tierstream")

    def close(self) -> None:
        """Send what is at hand, within a few seconds: no collector keeps a process from ending."""
        closing = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)
        if closing.is_alive():
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # else it would try again for a minute, in a thread that nobody waits for

    def of_partition(self, number: int) -> PartitionSpans:
        """What makes the spans of one partition's batches."""
        return PartitionSpans(self._tracer, self._group, number)

    @contextmanager
    def view(self, topic: str, partition: int, first: int, following: int, updates: int) -> Iterator[None]:
        """Redis takes updates from records of an output partition, from one offset to before another."""
        attributes: dict[str, Any] = {
            "db.system.name": "redis",
            "messaging.destination.name": topic,
            "messaging.destination.partition.id": str(partition),
            "tierstream.updates": updates,
            "tierstream.offsets.first": first,
            "tierstream.offsets.last": following - 1,
        }
        with _ending(self._tracer.start_span("view", Context(), SpanKind.CLIENT, attributes)):
            yield

    # ------------------------------------------------------------ the console
    @contextmanager
    def request(self, method: str, traceparent: str | None) -> Iterator[RequestSpan]:
        """A request is being answered; what is done for it belongs to its span."""
        method = method if method in METHODS else OTHER_METHOD
        caused_by = Context() if traceparent is None else _context.extract({TRACEPARENT: traceparent}, Context())
        attributes = {"http.request.method": method}
        span = self._tracer.start_span(method, caused_by, kind=SpanKind.SERVER, attributes=attributes)
        with (
            _ending(span),
            trace.use_span(span, record_exception=False, set_status_on_exception=False),
        ):
            yield RequestSpan(span, method)

    @contextmanager
    def delivering(self, topic: str) -> Iterator[RecordSpan]:
        """A record is on its way to the broker, from which the batch that folds it will know the request."""
        attributes = {
            "messaging.system": "kafka",
            "messaging.operation.type": "send",
            "messaging.destination.name": topic,
        }
        with _ending(self._tracer.start_span("deliver", kind=SpanKind.PRODUCER, attributes=attributes)) as span:
            yield RecordSpan(span)


class PartitionSpans:
    """Makes the spans of one partition: its restorations and its batches, each linked to the requests that led to it."""

    def __init__(self, tracer: Tracer, group: str, number: int) -> None:
        self._tracer = tracer
        self._partition = {"messaging.destination.partition.id": str(number)}
        self._batch = self._partition | {
            "messaging.system": "kafka",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": group,
        }
        self._asked: dict[int, SpanContext] = {}
        """By the offsets of commands that are still to be folded: the spans that sent them."""

    def restored(self, customers: int, seconds: float) -> None:
        """The partition was restored, just now."""
        ended_ns = time.time_ns()
        began_ns = ended_ns - int(seconds * 1e9)
        attributes = self._partition | {"tierstream.customers.restored": customers}
        self._tracer.start_span("restore", Context(), attributes=attributes, start_time=began_ns).end(ended_ns)

    def note_commands(self, records: Iterable[Any]) -> None:
        """Remember which spans sent these records of `commands`; most were sent by none."""
        for one in records:
            for name, value in one.headers:
                if name == TRACEPARENT and value is not None:
                    found = _context.extract({TRACEPARENT: value.decode("ascii", "replace")}, Context())
                    sent_by = trace.get_current_span(found).get_span_context()
                    if sent_by.is_valid:
                        self._asked[one.offset] = sent_by

    @contextmanager
    def batch(self, plan: Plan, entry: Entry, watch: Watch, is_repeat: bool) -> Iterator[BatchSpan]:
        """A batch is being folded and written; its steps are those that `watch` saw."""
        began_ns = time.time_ns()
        offsets = _offsets(entry)
        attributes = self._batch | {
            "messaging.batch.message_count": len(plan.records),
            "tierstream.batch": entry.batch,
            "tierstream.repeat": is_repeat,
            "tierstream.customers.advanced": len(plan.due),
            "tierstream.customers.reviewed": len(plan.review),
        }
        for topic, (first, last) in offsets.items():
            attributes |= {f"tierstream.offsets.{topic}.first": first, f"tierstream.offsets.{topic}.last": last}
        span = self._tracer.start_span(
            "batch", Context(), SpanKind.CONSUMER, attributes, self._links(offsets.get(COMMANDS)), began_ns
        )
        with _ending(span):
            try:
                yield BatchSpan(span)
            finally:
                if span.is_recording():
                    self._tell_steps(span, began_ns, watch.seconds)

    def _links(self, commands: tuple[int, int] | None) -> list[Link]:
        """The spans that sent commands of a batch; they are forgotten with it."""
        if commands is None:
            return []
        folded = [offset for offset in self._asked if offset <= commands[1]]
        found = [Link(self._asked.pop(offset), {"messaging.kafka.offset": offset}) for offset in folded]
        return found[:MOST_LINKS]

    def _tell_steps(self, batch: Span, began_ns: int, seconds: Mapping[str, float]) -> None:
        """A span for each step; the last one that was begun ends with the batch, whatever became of it."""
        inside = trace.set_span_in_context(batch, Context())
        ended_ns = time.time_ns()
        for step in STEPS:
            span = self._tracer.start_span(step, inside, start_time=began_ns)
            if step not in seconds:
                span.end(ended_ns)
                return
            began_ns += int(seconds[step] * 1e9)
            span.end(began_ns)


class BatchSpan:
    """A batch that is being folded and written."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def came_to(self, batch: Batch, customers: int) -> None:
        """It is written; so many customers have changed."""
        self._span.set_attributes(
            {
                "tierstream.customers.changed": customers,
                "tierstream.outputs": len(batch.outputs),
                "tierstream.dead_letters": len(batch.dead_letters),
            }
        )


class RequestSpan:
    """A request that is being answered."""

    def __init__(self, span: Span, method: str) -> None:
        self._span, self._method = span, method

    def answered(self, route: str | None, status: int) -> None:
        """By whom, as the template of the addresses that one answers (None if by nobody), and how."""
        self._span.set_attribute("http.response.status_code", status)
        if route:
            self._span.update_name(f"{self._method} {route}")
            self._span.set_attribute("http.route", route)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)


class RecordSpan:
    """A record on its way to the broker."""

    def __init__(self, span: Span) -> None:
        self._span = span
        carrier: dict[str, str] = {}
        _context.inject(carrier, trace.set_span_in_context(span, Context()))
        self.headers: Headers = [(name, value.encode()) for name, value in carrier.items()]

    def taken(self, partition: int, offset: int) -> None:
        """The broker has it."""
        self._span.set_attributes(
            {"messaging.destination.partition.id": str(partition), "messaging.kafka.offset": offset}
        )


def traces_address(endpoint: str) -> str:
    """Where spans go: an endpoint is named without the path, as in OTEL_EXPORTER_OTLP_ENDPOINT; with it, it's meant as well.

    >>> traces_address("http://127.0.0.1:4318/")
    'http://127.0.0.1:4318/v1/traces'
    """
    return endpoint.rstrip("/").removesuffix(PATH) + PATH


def _offsets(entry: Entry) -> dict[str, tuple[int, int]]:
    """The first and the last offset of each input topic in a batch."""
    found: dict[str, tuple[int, int]] = {}
    for topic, first, last in entry.runs:
        found[topic] = (found[topic][0] if topic in found else first, last)
    return found


@contextmanager
def _ending(span: Span) -> Iterator[Span]:
    """End a span with what it is about. Of an error its kind is told: its words may name somebody."""
    try:
        yield span
    except BaseException as error:
        span.set_attribute("error.type", type(error).__qualname__)
        if isinstance(error, Exception):  # who cancels something knows why
            span.set_status(StatusCode.ERROR)
        raise
    finally:
        span.end()


class _Complaints(logging.Handler):
    """Tells what OpenTelemetry complains of once in a while: of a collector that is away it does several times a second."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._told_at = -SECONDS_BETWEEN_COMPLAINTS

    def emit(self, record: logging.LogRecord) -> None:
        """A line of ours, if the last one is long ago."""
        now = time.monotonic()
        if now - self._told_at < SECONDS_BETWEEN_COMPLAINTS:
            return
        self._told_at = now
        error = record.exc_info[1] if record.exc_info else None
        said = record.getMessage() if error is None else f"{record.getMessage()} {type(error).__name__}: {error}"
        log.warning("tracing: spans that can't be sent are dropped, all else goes on (%s)", " ".join(said.split()))


def _have_complaints_told() -> None:
    """OpenTelemetry logs on its own account, with traces; what it says comes through us instead."""
    theirs = logging.getLogger("opentelemetry")
    theirs.handlers, theirs.propagate = [_Complaints()], False
