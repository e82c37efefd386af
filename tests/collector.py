"""A collector of OpenTelemetry, as far as tests need one: takes OTLP over HTTP and tells what came."""

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
class Told:
    """A span as it came."""

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
    """The spans that it is linked to, by their ids, and what is told of each link."""
    has_failed: bool
    events: int


@dataclass
class Collector:
    receiver: Receiver

    @property
    def endpoint(self) -> str:
        """As it is given in the settings."""
        return self.receiver.url.rpartition("/")[0]

    @property
    def spans(self) -> list[Told]:
        """What has come so far, by the time when it began."""
        found = []
        for body in self.receiver.taken:
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = _values(of_resource.resource.attributes)
                found += [_told(one, resource) for scope in of_resource.scope_spans for one in scope.spans]
        return sorted(found, key=lambda one: one.began_ns)

    def named(self, name: str) -> list[Told]:
        return [one for one in self.spans if one.name == name]

    def children(self, parent: Told) -> list[Told]:
        return [one for one in self.spans if one.parent_id == parent.span_id]

    @property
    def everything(self) -> bytes:
        """All that came, to look for what must not be in it."""
        return b"\n".join(repr(one).encode() for one in self.spans) + b"".join(self.receiver.taken)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a port of its own."""
    with receiving() as receiver:
        yield Collector(receiver)


def _told(span: Wire, resource: dict[str, Any]) -> Told:
    return Told(
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
