"""An OpenTelemetry collector for tests: takes OTLP over HTTP and shows the spans that it received."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Wire
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.receiver import Receiver, receiving


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as the collector received it."""

    resource: dict[str, Any]
    name: str
    kind: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    began_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    links: list[tuple[bytes, dict[str, Any]]]
    """The ids of the spans that it is linked to, with the attributes of each link."""
    has_failed: bool
    events: int


@dataclass
class Collector:
    receiver: Receiver

    @property
    def endpoint(self) -> str:
        """The value for TIERSTREAM_TRACING_ENDPOINT."""
        return self.receiver.url.rpartition("/")[0]

    @property
    def spans(self) -> list[ReceivedSpan]:
        """The spans received so far, by the time at which they began."""
        found = []
        for body in self.receiver.taken:
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = _values(of_resource.resource.attributes)
                found += [_received(one, resource) for scope in of_resource.scope_spans for one in scope.spans]
        return sorted(found, key=lambda one: one.began_ns)

    def named(self, name: str) -> list[ReceivedSpan]:
        return [one for one in self.spans if one.name == name]

    def children(self, parent: ReceivedSpan) -> list[ReceivedSpan]:
        return [one for one in self.spans if one.parent_id == parent.span_id]

    @property
    def everything(self) -> bytes:
        """All that was received, to check what must not be in it."""
        return b"\n".join(repr(one).encode() for one in self.spans) + b"".join(self.receiver.taken)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a port of its own."""
    with receiving() as receiver:
        yield Collector(receiver)


def _received(span: Wire, resource: dict[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        resource,
        span.name,
        Wire.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id,
        span.span_id,
        span.parent_span_id,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _values(span.attributes),
        [(link.span_id, _values(link.attributes)) for link in span.links],
        span.status.code == Status.STATUS_CODE_ERROR,
        len(span.events),
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
