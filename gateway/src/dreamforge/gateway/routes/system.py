"""Health, readiness, metrics."""

from collections.abc import Callable

from fastapi import APIRouter
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.replies import Health, Readiness
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.routes.common import dependencies_of, reply
from dreamforge.runtime import clock

METRICS_CONTENT = {kind: {"schema": {"type": "string"}} for kind in ("text/plain", "application/openmetrics-text")}
router = APIRouter(tags=["system"])


@router.get("/healthz", response_model=Health, responses=doc.problems())
async def healthz() -> Response:
    """The process answers."""
    return reply(Health(status="ok"))


@router.get(
    "/readyz",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "Not ready, with the reasons"}, **doc.problems()},
)
async def readyz(request: Request) -> Response:
    """Whether requests can be served: NATS, Postgres with its tables, S3."""
    dependencies = dependencies_of(request)
    checks = await dependencies.check()
    if dependencies.settings.gateway_auth != "none":  # anybody may ask; the reasons are in the log
        checks = {name: result if result == "ok" else "not ready" for name, result in checks.items()}
    ready = all(result == "ok" for result in checks.values())
    skew = round(clock.skew_seconds(), 1)
    return reply(Readiness(ready=ready, checks=checks, clock_skew_seconds=skew), 200 if ready else 503)


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "For Prometheus", "content": METRICS_CONTENT},
        **doc.problems(),
    },
)
async def metrics(request: Request) -> Response:
    """Counters and histograms of this process; exemplars of traces where OpenMetrics is accepted."""
    encode, media_type = encoder_for(request.headers.get("accept", ""))
    return Response(encode(REGISTRY), headers={"Content-Type": media_type, "Vary": "Accept"})


def encoder_for(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    """What writes metrics in the format that is accepted, and its media type."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is none
        return choose_encoder("")
