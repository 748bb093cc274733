"""The outermost layer, pure ASGI: every request gets its ids, its duration metric and, on a bug, a problem document."""

import contextlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from loguru import logger
from prometheus_client import Histogram
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dreamforge.gateway.http.head import answer_head
from dreamforge.gateway.http.one_value import repeated
from dreamforge.gateway.http.problems import MEDIA_TYPE, NO_SUCH_ROUTE, Problem, http_problem, problem_of
from dreamforge.gateway.http.request_span import METHODS, open_request_span, say_answer
from dreamforge.gateway.http.root_path import set_root
from dreamforge.runtime import clock, ids
from dreamforge.runtime.service import tracing
from dreamforge.runtime.service.spans import TraceSpan
from dreamforge.runtime.service.telemetry import LATENCY_BUCKETS, log_context, trace_id_of

REQUESTS = Histogram("forge_http_seconds", "Time to answer", ["method", "route", "status"], buckets=LATENCY_BUCKETS)
CONTEXT, AT_END = "dreamforge.context", "dreamforge.at-end"

# The JSON of an error as another interface has it.
ErrorShape = Callable[[Problem], Mapping[str, object]]
NO_SHAPES: Mapping[str, ErrorShape] = MappingProxyType({})

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")
_SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
# Of every reply that does not say itself how long it may be kept: most show what only their reader may see.
_NOT_KEPT = (b"cache-control", b"no-store")
BUG = Problem(500, "internal", "Something went wrong here", "The error was logged under the request id")


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The ids with which a request is logged, answered and recorded in the events it causes."""

    request_id: str
    traceparent: str
    #: The trace context that the client sent; "" where it sent none.
    caller: str = ""
    error_shape: ErrorShape | None = None


def context_from(headers: list[tuple[bytes, bytes]], error_shape: ErrorShape | None = None) -> RequestContext:
    """The ids of the client where they are well-formed, parts of one fresh id where not; the span is always new."""
    sent = dict(headers)
    request_id = sent.get(b"x-request-id", b"")
    trace = _TRACEPARENT.fullmatch(caller := sent.get(b"traceparent", b""))
    fresh = ids.new_id()
    digits = fresh.replace("-", "")
    # A trace that begins here without being recorded is nothing that others should record.
    trace_id, flags = (trace[1].decode(), trace[2].decode()) if trace else (digits, "00")
    return RequestContext(
        request_id.decode() if _REQUEST_ID.fullmatch(request_id) else fresh,
        f"00-{trace_id}-{digits[16:]}-{flags}",  # the second half of a UUIDv7 has 62 random bits
        caller.decode() if trace else "",
        error_shape,
    )


def context_of(request: Request) -> RequestContext:
    """The ids of a request that came through the middleware."""
    context: RequestContext = request.scope[CONTEXT]
    return context


def at_end_of(request: Request) -> contextlib.ExitStack:
    """What is closed when the request has been answered, its stream included, or its client is gone."""
    exits: contextlib.ExitStack = request.scope[AT_END]
    return exits


class RequestMiddleware:
    """Wraps the application."""

    def __init__(
        self, app: ASGIApp, *, root_path: str = "", error_shapes: Mapping[str, ErrorShape] = NO_SHAPES
    ) -> None:
        """`root_path` is the prefix of every path, as clients see it.

        `error_shapes`: by the beginning of a path below it, how an interface of other programs answers errors.
        """
        self._app = app
        self._root = root_path
        self._error_shapes = tuple(error_shapes.items())
        self._shaped = tuple(error_shapes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        set_root(scope, self._root)
        with contextlib.ExitStack() as scope[AT_END]:
            await self._handle(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = context_from(scope["headers"], self._shape_for(scope["path"]))
        if scope["type"] == "websocket":
            scope[CONTEXT] = context
            await self._connect(scope, receive, send)
            return
        with open_request_span(scope, context.caller) as span:
            scope[CONTEXT] = replace(context, traceparent=span.traceparent) if span.traceparent else context
            await self._respond(scope, receive, send, span)

    async def _respond(self, scope: Scope, receive: Receive, send: Send, span: TraceSpan) -> None:
        context: RequestContext = scope[CONTEXT]
        added = [
            (b"x-request-id", context.request_id.encode()),
            (b"traceparent", context.traceparent.encode()),
            *_SAFE,
        ]
        started = clock.monotonic_seconds()
        status = 0

        async def send_with_ids(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), *added]
                says = any(name.lower() == _NOT_KEPT[0] for name, _ in headers)
                message["headers"] = headers if says else [*headers, _NOT_KEPT]
            await send(message)

        with log_context(request_id=context.request_id, trace_id=trace_id_of(context.traceparent)):
            try:
                await self._answer(scope, receive, send_with_ids)
            except ClientDisconnect:
                logger.debug("the client left before its request was complete")
            except Exception as error:
                logger.opt(exception=error).error("a bug: {} {}", scope["method"], scope["path"])
                if status == 0:
                    await send_problem(scope, send_with_ids, BUG)
            _observe(scope, status, clock.monotonic_seconds() - started, span)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A websocket: judged as a request, and logged under its ids until it ends."""
        context: RequestContext = scope[CONTEXT]
        with log_context(request_id=context.request_id, trace_id=trace_id_of(context.traceparent)):
            await self._app(scope, receive, send)

    def _shape_for(self, path: str) -> ErrorShape | None:
        below = path.removeprefix(self._root)
        if not below.startswith(self._shaped):
            return None
        return next((shape for start, shape in self._error_shapes if below.startswith(start)), None)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == self._root != "":
            await RedirectResponse(f"{self._root}/", 308)(scope, receive, send)  # relative URLs of pages need the slash
        elif scope["method"] == "HEAD":
            await answer_head(self._app, scope, receive, send)
        else:
            await self._app(scope, receive, send)


class RefusesAmbiguous:
    """Between authentication and the routes: what a client without a credential sends is not even called ambiguous."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            if "\n" in scope["path"]:  # routes are found by patterns that allow one at the end, scopes are not
                await send_problem(scope, send, http_problem(404, NO_SUCH_ROUTE))
                return
            if (error := repeated(scope["query_string"], scope["headers"])) is not None:
                await send_problem(scope, send, problem_of(error))
                return
        await self._app(scope, receive, send)


def _observe(scope: Scope, status: int, seconds: float, span: TraceSpan) -> None:
    route = getattr(scope.get("route"), "path", "none")
    say_answer(span, scope["method"], route, status)
    method = scope["method"] if scope["method"] in METHODS else "other"
    REQUESTS.labels(method, route, str(status)).observe(seconds, tracing.exemplar())
    level = "WARNING" if status >= 500 and route != "/readyz" else "DEBUG"
    logger.log(level, "{} {} {} in {:.1f} ms", scope["method"], scope["path"], status, seconds * 1000)


def encoded(problem: Problem, scope: Scope) -> tuple[bytes, str]:
    """The body of an error and its media type: a problem document, or what the clients of the interface expect."""
    context: RequestContext = scope[CONTEXT]
    if context.error_shape is not None:
        return json.dumps(context.error_shape(problem)).encode(), "application/json"
    body = problem.body(instance=scope["path"], request_id=context.request_id, root=scope["root_path"])
    return body, MEDIA_TYPE


async def send_problem(scope: Scope, send: Send, problem: Problem) -> None:
    """Answer with a problem document, outside the framework; a websocket instead of accepting it."""
    body, media_type = encoded(problem, scope)
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    kind = "websocket.http" if scope["type"] == "websocket" else "http"
    await send({"type": f"{kind}.response.start", "status": problem.status, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": b"" if scope.get("method") == "HEAD" else body})
