"""A collector of spans for tests: takes OTLP over HTTP as protobuf, as any backend does, and keeps what it got."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True, slots=True)
class CollectedSpan:
    """One span as it was sent. Ids in hexadecimal digits; `parent_id` is "" of the first of a trace."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    attributes: dict[str, Any]  # Any: text, number, bool or a list
    is_error: bool
    began_ns: int
    ended_ns: int


@dataclass(slots=True)
class OtlpCollector:
    """What has arrived. `url` is for OTEL_EXPORTER_OTLP_ENDPOINT."""

    url: str = ""
    _spans: list[CollectedSpan] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, body: bytes) -> None:
        """One request of an exporter."""
        request = ExportTraceServiceRequest.FromString(body)
        found = [
            _span(span, _values(resource.resource.attributes)["service.name"])
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._spans += found

    @property
    def spans(self) -> list[CollectedSpan]:
        """All of them, in the order of their beginnings."""
        with self._lock:
            return sorted(self._spans, key=lambda span: span.began_ns)

    def trace(self, trace_id: str) -> list[CollectedSpan]:
        """Those of one trace."""
        return [span for span in self.spans if span.trace_id == trace_id]


def _span(span: Any, service: str) -> CollectedSpan:  # Any: a message of protobuf
    kind = span.DESCRIPTOR.enum_types_by_name["SpanKind"].values_by_number[span.kind].name
    return CollectedSpan(
        service=service,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=kind.removeprefix("SPAN_KIND_").lower(),
        attributes=_values(span.attributes),
        is_error=span.status.code == span.status.STATUS_CODE_ERROR,
        began_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
    )


def _values(attributes: Any) -> dict[str, Any]:  # Any: messages of protobuf
    return {each.key: _value(each.value) for each in attributes}


def _value(value: Any) -> Any:  # Any: see `CollectedSpan`
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)


@contextmanager
def otlp_collector() -> Iterator[OtlpCollector]:
    """A collector on a free port of this machine, until the end of the `with` statement."""
    collector = OtlpCollector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), name="otlp collector", daemon=True).start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
