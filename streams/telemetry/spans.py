"""Makes spans of batches, restorations, writes to Redis and requests, and sends them to a collector.

It is the only module that imports OpenTelemetry. Spans measure nothing of their own: the steps of a batch are those of
its `Watch`. Nothing waits for the collector: spans are kept in memory, a separate thread sends them, and if that is too
slow the oldest spans are dropped.

No span names a customer: none has a key, a path, or the text of an error.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
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
"""The path at which a collector takes spans, by the protocol."""
MOST_LINKS: Final = 32
"""How many links a batch has at most, to the requests whose commands are in it."""
CLOSE_SECONDS: Final = 3.0
"""How long sending the remaining spans may take when a process ends."""
SECONDS_BETWEEN_COMPLAINTS: Final = 60.0
TRACEPARENT: Final = "traceparent"
"""The header of HTTP and Kafka that names the span which caused a request or a record (W3C Trace Context)."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER_METHOD: Final = "_OTHER"

Headers = list[tuple[str, bytes]]

_context = TraceContextTextMapPropagator()


class Spans:
    """Makes the spans of one process and sends them."""

    def __init__(self, settings: Settings, service: str) -> None:
        assert settings.tracing_endpoint is not None
        _log_complaints_rarely()
        self._group = settings.table_app_id
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override the attributes that are set here.
        given = OTELResourceDetector().detect().attributes or {}
        attributes = {SERVICE_NAME: service, SERVICE_NAMESPACE: self._group, **given}
        # `close` shuts it down: on its own it would wait at exit for a collector that can't be reached.
        self._provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
        self._exporter = OTLPSpanExporter(traces_address(settings.tracing_endpoint))
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("tierstream")

    def close(self) -> None:
        """Send the remaining spans, within a few seconds: no collector keeps a process from ending."""
        closing = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)
        if closing.is_alive():
            # Otherwise it would retry for a minute, in a thread that nobody waits for.
            self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def of_partition(self, number: int) -> PartitionSpans:
        """A maker of the spans of one partition."""
        return PartitionSpans(self._tracer, self._group, number)

    @contextmanager
    def view(self, topic: str, partition: int, first: int, following: int, updates: int) -> Iterator[None]:
        """The span of a write to Redis: updates from the records of an output partition, from offset `first` up to
        before `following`.
        """
        attributes: dict[str, Any] = {
            "db.system.name": "redis",
            "messaging.destination.name": topic,
            "messaging.destination.partition.id": str(partition),
            "tierstream.updates": updates,
            "tierstream.offsets.first": first,
            "tierstream.offsets.last": following - 1,
        }
        with _ended_with_block(self._tracer.start_span("view", Context(), SpanKind.CLIENT, attributes)):
            yield

    # ------------------------------------------------------------ the console
    @contextmanager
    def request(self, method: str, traceparent: str | None) -> Iterator[RequestSpan]:
        """The span of a request while it is answered; spans that begin meanwhile are its children."""
        method = method if method in METHODS else OTHER_METHOD
        caused_by = Context() if traceparent is None else _context.extract({TRACEPARENT: traceparent}, Context())
        attributes = {"http.request.method": method}
        span = self._tracer.start_span(method, caused_by, kind=SpanKind.SERVER, attributes=attributes)
        with (
            _ended_with_block(span),
            trace.use_span(span, record_exception=False, set_status_on_exception=False),
        ):
            yield RequestSpan(span, method)

    @contextmanager
    def delivery(self, topic: str) -> Iterator[RecordSpan]:
        """The span of sending a record to the broker; its headers link the batch that folds the record to the request."""
        attributes = {
            "messaging.system": "kafka",
            "messaging.operation.type": "send",
            "messaging.destination.name": topic,
        }
        with _ended_with_block(
            self._tracer.start_span("deliver", kind=SpanKind.PRODUCER, attributes=attributes)
        ) as span:
            yield RecordSpan(span)


class PartitionSpans:
    """Makes the spans of one partition: restorations, and batches with links to the requests whose commands they fold."""

    def __init__(self, tracer: Tracer, group: str, number: int) -> None:
        self._tracer = tracer
        self._partition = {"messaging.destination.partition.id": str(number)}
        self._batch = self._partition | {
            "messaging.system": "kafka",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": group,
        }
        self._senders: dict[int, SpanContext] = {}
        """The spans that sent commands, by the offsets of commands that are not folded yet."""

    def record_restoration(self, customers: int, seconds: float) -> None:
        """Record the restoration of the partition, which has just ended."""
        ended_ns = time.time_ns()
        began_ns = ended_ns - int(seconds * 1e9)
        attributes = self._partition | {"tierstream.customers.restored": customers}
        self._tracer.start_span("restore", Context(), attributes=attributes, start_time=began_ns).end(ended_ns)

    def remember_senders(self, records: Iterable[Any]) -> None:
        """Keep the spans that sent these records of `commands`; most records were sent without one."""
        for one in records:
            for name, value in one.headers:
                if name == TRACEPARENT and value is not None:
                    found = _context.extract({TRACEPARENT: value.decode("ascii", "replace")}, Context())
                    sent_by = trace.get_current_span(found).get_span_context()
                    if sent_by.is_valid:
                        self._senders[one.offset] = sent_by

    @contextmanager
    def batch(self, plan: Plan, entry: Entry, watch: Watch, is_repeat: bool) -> Iterator[BatchSpan]:
        """The span of a batch while it is folded and written, with a child for each step that `watch` timed."""
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
        with _ended_with_block(span):
            try:
                yield BatchSpan(span)
            finally:
                if span.is_recording():
                    self._record_steps(span, began_ns, watch.seconds)

    def _links(self, commands: tuple[int, int] | None) -> list[Link]:
        """Links to the spans that sent the batch's commands, which are then forgotten."""
        if commands is None:
            return []
        folded = [offset for offset in self._senders if offset <= commands[1]]
        found = [Link(self._senders.pop(offset), {"messaging.kafka.offset": offset}) for offset in folded]
        return found[:MOST_LINKS]

    def _record_steps(self, batch: Span, began_ns: int, seconds: Mapping[str, float]) -> None:
        """Make a span for each step; a step that did not finish ends with the batch."""
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
    """The span of a batch that is being folded and written."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def set_results(self, batch: Batch, customers: int) -> None:
        """Set the results of the batch once it is written; `customers` is how many have changed."""
        self._span.set_attributes(
            {
                "tierstream.customers.changed": customers,
                "tierstream.outputs": len(batch.outputs),
                "tierstream.dead_letters": len(batch.dead_letters),
            }
        )


class RequestSpan:
    """The span of a request that is being answered."""

    def __init__(self, span: Span, method: str) -> None:
        self._span, self._method = span, method

    def set_answer(self, route: str | None, status: int) -> None:
        """Set the route of the handler that answered (None if no handler did), and the status."""
        self._span.set_attribute("http.response.status_code", status)
        if route:
            self._span.update_name(f"{self._method} {route}")
            self._span.set_attribute("http.route", route)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)


class RecordSpan:
    """The span of a record that is being sent; `headers` are those for the record."""

    def __init__(self, span: Span) -> None:
        self._span = span
        carrier: dict[str, str] = {}
        _context.inject(carrier, trace.set_span_in_context(span, Context()))
        self.headers: Headers = [(name, value.encode()) for name, value in carrier.items()]

    def set_place(self, partition: int, offset: int) -> None:
        """Set partition and offset of the record once the broker has acknowledged it."""
        self._span.set_attributes(
            {"messaging.destination.partition.id": str(partition), "messaging.kafka.offset": offset}
        )


def traces_address(endpoint: str) -> str:
    """The address for spans at an endpoint, which may be given without the path, as in OTEL_EXPORTER_OTLP_ENDPOINT, or
    with it.

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
def _ended_with_block(span: Span) -> Iterator[Span]:
    """End a span with the block. An error is recorded by its class only, since its text may name a customer."""
    try:
        yield span
    except BaseException as error:
        span.set_attribute("error.type", type(error).__qualname__)
        if isinstance(error, Exception):  # a cancellation is no error
            span.set_status(StatusCode.ERROR)
        raise
    finally:
        span.end()


class _Complaints(logging.Handler):
    """Logs OpenTelemetry's complaints rarely: about an unreachable collector it complains several times a second."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._monotonic = monotonic
        self._logged_at = -SECONDS_BETWEEN_COMPLAINTS

    def emit(self, record: logging.LogRecord) -> None:
        """Log a warning, unless the last one was a moment ago."""
        now = self._monotonic()
        if now - self._logged_at < SECONDS_BETWEEN_COMPLAINTS:
            return
        self._logged_at = now
        error = record.exc_info[1] if record.exc_info else None
        message = record.getMessage() if error is None else f"{record.getMessage()} {type(error).__name__}: {error}"
        log.warning(
            "tracing: spans that can't be sent are dropped, everything else goes on (%s)", " ".join(message.split())
        )


def _log_complaints_rarely() -> None:
    """Replace OpenTelemetry's own logging, which has stack traces."""
    theirs = logging.getLogger("opentelemetry")
    theirs.handlers, theirs.propagate = [_Complaints()], False
