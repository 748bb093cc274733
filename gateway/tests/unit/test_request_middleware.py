"""Ids of a client are kept where they are well-formed and replaced where not; a bug is answered as a problem."""

import httpx
import pytest
from prometheus_client import REGISTRY
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.app import api
from dreamforge.gateway.http.middleware import RefusesAmbiguous, RequestMiddleware, context_from
from dreamforge.gateway.http.problems import MEDIA_TYPE
from dreamforge.gateway.routes.system import encoder_for
from dreamforge.runtime.service import tracing
from dreamforge.runtime.testing.otlp_collector import otlp_collector

TRACE, SPAN = "a" * 32, "b" * 16


def test_a_callers_trace_goes_on_with_a_span_of_ours() -> None:
    context = context_from([(b"traceparent", f"00-{TRACE}-{SPAN}-00".encode()), (b"x-request-id", b"r-1")])
    version, trace, span, flags = context.traceparent.split("-")
    assert (version, trace, flags, context.request_id) == ("00", TRACE, "00", "r-1")
    assert span != SPAN
    assert len(span) == 16


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        f"ff-{TRACE}-{SPAN}-00",
        f"00-{'0' * 32}-{SPAN}-00",
        f"00-{TRACE}-{'0' * 16}-00",
        f"00-{TRACE.upper()}-{SPAN}-00",
        "x" * 55,
    ],
)
def test_what_is_not_a_trace_context_is_replaced(traceparent: str) -> None:
    context = context_from([(b"traceparent", traceparent.encode())])
    assert TRACE not in context.traceparent
    assert len(context.traceparent) == 55


@pytest.mark.parametrize("request_id", [b"", b"a b", b"\xff", b"x" * 129, b"a\x00"])
def test_a_request_id_that_could_break_a_log_is_replaced(request_id: bytes) -> None:
    assert context_from([(b"x-request-id", request_id)]).request_id.encode() != request_id


async def test_a_bug_of_ours_is_a_problem_document_without_its_reason() -> None:
    app = api(Limits())

    @app.get("/bug")
    async def bug() -> None:
        raise KeyError("a secret")

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(RequestMiddleware(app)), base_url="http://test"
    ) as client:
        answer = await client.get("/bug", headers={"X-Request-Id": "r-1"})
    assert (answer.status_code, answer.headers["content-type"]) == (500, MEDIA_TYPE)
    assert (answer.json()["code"], answer.json()["request_id"]) == ("internal", "r-1")
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("said", "answered"), [({}, "no-store"), ({"Cache-Control": "private, max-age=60"}, "private, max-age=60")]
)
async def test_no_cache_keeps_what_does_not_say_how_long(said: dict[str, str], answered: str) -> None:
    app = RequestMiddleware(Response("of one tenant", headers=said))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.get("/")).headers.get_list("cache-control") == [answered]


async def test_a_line_break_at_the_end_of_a_path_is_part_of_it() -> None:
    transport = httpx.ASGITransport(RequestMiddleware(RefusesAmbiguous(Response("a route that allows one"))))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/metrics%0A")
    assert (answer.status_code, answer.json()["code"]) == (404, "no_such_route")


async def test_a_traced_request_is_an_exemplar_of_its_duration_in_openmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = Route("/of-this-test/{id}", answer)
        await Response("ok")(scope, receive, send)

    with otlp_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with tracing.exporting("gateway", 1.0, flush_seconds=30):
            transport = httpx.ASGITransport(RequestMiddleware(answer))
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                response = await client.get(
                    "/of-this-test/7?secret=1", headers={"traceparent": f"00-{TRACE}-{SPAN}-01"}
                )
    (span,) = collector.spans
    assert (span.name, span.trace_id, span.parent_id) == ("GET /of-this-test/{id}", TRACE, SPAN)
    assert response.headers["traceparent"][:52] == f"00-{TRACE}-{span.span_id}"
    assert span.attributes["url.path"] == "/of-this-test/7"
    encode, media_type = encoder_for("application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1")
    assert media_type.startswith("application/openmetrics-text")
    lines = [line for line in encode(REGISTRY).decode().splitlines() if "of-this-test" in line and "#" in line]
    assert f'trace_id="{TRACE}"' in lines[0]
    assert f'span_id="{span.span_id}"' in lines[0]


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain;version=0.0.4", "application/openmetrics-text;version=x"])
def test_metrics_are_plain_text_where_openmetrics_is_not_understood(accept: str) -> None:
    assert encoder_for(accept)[1].startswith("text/plain")
