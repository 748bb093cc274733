"""Spans as the SDK of OpenTelemetry makes them, exported by OTLP over HTTP. Imported only once tracing is on.

The provider is ours alone: libraries that make spans of their own find none, so a trace has what we put there. What
is not to be exported is decided before the SDK is asked, which takes 70 us to make a span that goes nowhere.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from loguru import logger
from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_BSP_MAX_QUEUE_SIZE
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Counter

from dreamforge.contracts.errors import ForgeError
from dreamforge.runtime import clock, ids
from dreamforge.runtime.service.spans import NO_SPAN, SpanAttributes, SpanKind, TraceSpan, is_sampled

SPANS = Counter("forge_trace_spans_total", "Spans that ended: exported, or dropped and why", ["outcome"])
#: The default of the specification: about 2 MB of spans.
QUEUE_SPANS = 2048
NANOSECONDS = 1_000_000_000
KINDS = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}


class CountedExporter(SpanExporter):
    """An exporter, with what becomes of its spans as a metric, and one line of log when that changes."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._lock = threading.Lock()
        self._works = True
        self._waiting = 0

    def admit(self, at_most: int) -> bool:
        """Count one more span that waits, unless so many do."""
        with self._lock:
            if self._waiting >= at_most:
                return False
            self._waiting += 1
            return True

    @property
    def waiting(self) -> int:
        """How many spans nothing has become of yet."""
        return self._waiting

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand them over, for as long as the exporter tries. In the thread of the SDK."""
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # it must not end that thread
            logger.opt(exception=error).error("spans could not be encoded")
            result = SpanExportResult.FAILURE
        works = result is SpanExportResult.SUCCESS
        SPANS.labels("exported" if works else "export_failed").inc(len(spans))
        with self._lock:
            self._waiting -= len(spans)
        if works is not self._works:
            self._works = works
            text = "spans are exported again" if works else "spans are dropped: the OTLP endpoint does not take them"
            logger.log("INFO" if works else "WARNING", text)
        return result

    def shutdown(self) -> None:
        """End a try that is going on, too."""
        self._exporter.shutdown()


class BoundedSpans(SpanProcessor):
    """Hands ended spans to the SDK's batches, and drops one that would be too many: nothing here ever waits."""

    def __init__(self, exporter: CountedExporter, queue_spans: int) -> None:
        self._exporter, self._queue_spans = exporter, queue_spans
        # Those that are being exported have left its queue, so ours is never longer.
        self._batches = BatchSpanProcessor(exporter, max_queue_size=queue_spans)

    def on_end(self, span: ReadableSpan) -> None:
        """One more; of what is not sampled there is none."""
        if self._exporter.admit(self._queue_spans):
            self._batches.on_end(span)
        else:
            SPANS.labels("queue_full").inc()

    def shutdown(self) -> None:
        """Export what waits, for as long as the SDK tries."""
        self._batches.shutdown()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class SdkSpan:
    """See `TraceSpan`."""

    span: trace.Span

    @property
    def traceparent(self) -> str:
        context = self.span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def rename(self, name: str) -> None:
        self.span.update_name(name)

    def set(self, attributes: SpanAttributes) -> None:
        self.span.set_attributes({name: value for name, value in attributes.items() if value is not None})

    def fail(self, error_type: str) -> None:
        self.span.set_attribute("error.type", error_type)
        self.span.set_status(trace.StatusCode.ERROR)


class SpanExport:
    """See `Tracing`."""

    def __init__(self, service: str, share: float) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # a line for each try; ours is one for all
        queue_spans = _positive(os.environ.get(OTEL_BSP_MAX_QUEUE_SIZE, ""), QUEUE_SPANS)
        self._exporter = CountedExporter(OTLPSpanExporter())
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=resource_of(service),
            shutdown_on_exit=False,  # others are not made at all
        )
        self._provider.add_span_processor(BoundedSpans(self._exporter, queue_spans))
        self._share = share
        self._tracer = self._provider.get_tracer("dreamforge")
        self._propagator = TraceContextTextMapPropagator()

    def span(
        self,
        name: str,
        kind: SpanKind,
        parent: str,
        attributes: SpanAttributes,
        began_seconds_ago: float,
        *,
        root: bool,
    ) -> AbstractContextManager[TraceSpan]:
        """See `tracing.span`."""
        within = self._context(parent)
        if within is None and not (root and not parent and ids.is_drawn(self._share)):
            return NO_SPAN
        span = self._tracer.start_span(
            name,
            context=Context() if within is None else within,
            kind=KINDS[kind],
            attributes={key: value for key, value in attributes.items() if value is not None},
            start_time=_ago(began_seconds_ago) if began_seconds_ago else None,
        )
        return _within(span)

    def record(self, name: str, seconds: float, ended_seconds_ago: float, attributes: SpanAttributes) -> None:
        """See `tracing.record`."""
        if not trace.get_current_span().get_span_context().is_valid:
            return
        given = {key: value for key, value in attributes.items() if value is not None}
        ended = _ago(ended_seconds_ago)
        self._tracer.start_span(name, attributes=given, start_time=ended - int(seconds * NANOSECONDS)).end(ended)

    def current(self) -> tuple[str, str] | None:
        """See `Tracing`."""
        found = trace.get_current_span().get_span_context()
        return (f"{found.trace_id:032x}", f"{found.span_id:016x}") if found.is_valid else None

    def stop(self, within_seconds: float) -> None:
        """See `Tracing`."""
        # A thread that is left behind when an endpoint takes the connection and does not answer.
        ending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(within_seconds)
        if ending.is_alive():
            logger.warning("{} spans were not exported within {:g} s", self._exporter.waiting, within_seconds)
            self._exporter.shutdown()

    def _context(self, parent: str) -> Context | None:
        """Where a span belongs: below the one around it, or below `parent`; None: nowhere, or in no trace of ours."""
        around = trace.get_current_span().get_span_context()
        if around.is_valid and (not parent or parent[3:35] == f"{around.trace_id:032x}"):
            return get_current()
        if not is_sampled(parent):
            return None
        given = self._propagator.extract({"traceparent": parent}, Context())
        return given if trace.get_current_span(given).get_span_context().is_valid else None


def resource_of(service: str) -> Resource:
    """What makes the spans of a process; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win."""
    ours = Resource({"service.namespace": "dreamforge", "service.name": service, "service.instance.id": ids.new_id()})
    return Resource.create().merge(ours).merge(OTELResourceDetector().detect())


@contextlib.contextmanager
def _within(span: trace.Span) -> Iterator[TraceSpan]:
    ours = SdkSpan(span)
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield ours
        except Exception as error:
            # Only its type: messages can have words of a prompt.
            ours.fail(error.code if isinstance(error, ForgeError) else type(error).__name__)
            raise


def _ago(seconds: float) -> int:
    """A time of this machine in nanoseconds, as the SDK counts them."""
    return int((clock.machine_now().timestamp() - seconds) * NANOSECONDS)


def _positive(text: str, otherwise: int) -> int:
    return int(text) if text.isdecimal() and int(text) > 0 else otherwise
