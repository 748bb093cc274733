"""Spans: where the time of a job goes, across processes, where `FORGE_TRACES_SAMPLED` is above 0.

A trace begins with a request to the gateway and follows the `traceparent` in the headers of the events that it caused.
Without the setting nothing of OpenTelemetry is imported, and a span costs a call of a function (decision 0076).
"""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

from dreamforge.runtime.service.spans import (
    NO_ATTRIBUTES,
    NO_SPAN,
    SpanAttributes,
    SpanKind,
    TraceSpan,
    Tracing,
    is_sampled,
)

#: How long a process that ends waits for its last spans to be taken.
FLUSH_SECONDS = 1.0
_tracing: Tracing | None = None


def is_on() -> bool:
    """Whether this process makes spans."""
    return _tracing is not None


def span(
    name: str,
    *,
    kind: SpanKind = "internal",
    parent: str = "",
    root: bool = False,
    attributes: SpanAttributes = NO_ATTRIBUTES,
    began_seconds_ago: float = 0.0,
) -> AbstractContextManager[TraceSpan]:
    """A span around what the `with` statement does. An error that leaves it makes it a failed one.

    Its parent is the span around it, where there is one of the same trace, else `parent`, a W3C traceparent. Without
    either there is none, unless it may be the `root` of a new trace.
    """
    if _tracing is None:
        return NO_SPAN
    return _tracing.span(name, kind, parent, attributes, began_seconds_ago, root=root)


def record(
    name: str, *, seconds: float, ended_seconds_ago: float = 0.0, attributes: SpanAttributes = NO_ATTRIBUTES
) -> None:
    """A span that is over already, below the one around this call; where there is none, nothing."""
    if _tracing is not None:
        _tracing.record(name, seconds, ended_seconds_ago, attributes)


def records(traceparent: str) -> bool:
    """Whether a span with this parent is one that is exported; worth asking before attributes are put together."""
    return _tracing is not None and (is_sampled(traceparent) or _tracing.current() is not None)


def current_ids() -> dict[str, str]:
    """The ids of trace and span around this call, for a log line; empty without one."""
    found = _tracing.current() if _tracing is not None else None
    return {"trace_id": found[0], "span_id": found[1]} if found is not None else {}


def exemplar() -> dict[str, str] | None:
    """The ids that a metric's observation is to name; None without a trace."""
    return current_ids() or None


@contextlib.contextmanager
def exporting(service: str, share: float, *, flush_seconds: float = FLUSH_SECONDS) -> Iterator[None]:
    """Trace this `share` of requests in this process, and export the spans by OTLP over HTTP (OTEL_EXPORTER_OTLP_*).

    At the end, spans that wait are exported for `flush_seconds` at most. Share 0: nothing is traced.
    Errors: InvalidSettings where the packages for it are not installed.
    """
    global _tracing
    if not share:
        yield
        return
    started = _tracing = _start(service, share)
    try:
        yield
    finally:
        _tracing = None
        started.stop(flush_seconds)


def _start(service: str, share: float) -> Tracing:
    # Every process has this module, for the ids in its log lines; what follows, only one that is a service.
    from dreamforge.runtime.service.settings import InvalidSettings

    try:
        # A fifth of a second, and megabytes, that a process without tracing does without.
        from dreamforge.runtime.service.span_export import SpanExport
    except ModuleNotFoundError as error:
        needed = f"needs the packages of dreamforge-runtime[tracing]: there is no module {error.name}"
        raise InvalidSettings((f"FORGE_TRACES_SAMPLED is {share:g}: it {needed}",)) from None
    try:
        return SpanExport(service, share)
    except ValueError as error:  # of the SDK, about a variable of its own
        raise InvalidSettings((f"a variable OTEL_* is wrong: {error}",)) from None
