"""A request as a span, by the conventions for HTTP servers: the first of a trace, or one in the trace of its client."""

from contextlib import AbstractContextManager

from starlette.types import Scope

from dreamforge.runtime.service import tracing
from dreamforge.runtime.service.spans import NO_SPAN, TraceSpan

METHODS = frozenset(("GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"))
#: Asked every few seconds by machines.
UNTRACED = frozenset(("/healthz", "/readyz", "/metrics"))


def open_request_span(scope: Scope, caller: str) -> AbstractContextManager[TraceSpan]:
    """The span of a request; `caller` is the traceparent that its client sent, "" without one.

    Neither query nor headers are in it: they can have what its client does not show to others.
    """
    if not tracing.is_on() or scope["path"] in UNTRACED:
        return NO_SPAN
    method = scope["method"] if scope["method"] in METHODS else "_OTHER"
    attributes = {"http.request.method": method, "url.path": scope["path"], "url.scheme": scope["scheme"]}
    return tracing.span(_name(method), kind="server", parent=caller, root=True, attributes=attributes)


def say_answer(span: TraceSpan, method: str, route: str, status: int) -> None:
    """Name the span by its route, and say how the request was answered; status 0: its client left before."""
    if span is NO_SPAN:
        return
    if route != "none":
        span.rename(f"{_name(method)} {route}")
        span.set({"http.route": route})
    if status:
        span.set({"http.response.status_code": status})
    if status >= 500:
        span.fail(str(status))


def _name(method: str) -> str:
    return method if method in METHODS else "HTTP"
