"""What a runner asks first: whom to trust, how to reach NATS, and whether that NATS keeps what it acknowledges."""

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse

from dreamforge.contracts.errors import DependencyAway
from dreamforge.gateway.remote_runners.authentication import RunnerId
from dreamforge.gateway.settings import GatewaySettings
from dreamforge.runtime.log.durability import fsyncs, varz
from dreamforge.runtime.log.monitoring import problem_of
from dreamforge.runtime.remote.replies import ACCESS, AUTHORITY, RemoteAccess

router = APIRouter()


@router.get(AUTHORITY)
def read_authority(request: Request) -> PlainTextResponse:
    """The certificate of the authority: who asks compares its fingerprint with that of a token."""
    text = request.app.state.authority.read_text(encoding="ascii")
    return PlainTextResponse(text, media_type="application/x-pem-file")


@router.get(ACCESS)
async def read_access(request: Request, runner_id: RunnerId) -> RemoteAccess:
    """How this runner reaches NATS."""
    settings = _settings(request)
    return RemoteAccess(
        runner_id=runner_id,
        nats_port=settings.remote.nats_port,
        nats_prefix=settings.nats_prefix,
        allow_unsynced=settings.nats_allow_unsynced,
    )


@router.get("/nats/varz")
async def read_varz(request: Request) -> dict[str, Any]:  # Any: JSON
    """Whether each NATS server fsyncs, as its own page says it, and nothing else of that page."""
    urls = _settings(request).nats_monitor_urls
    try:
        found = await asyncio.gather(*(varz(url) for url in urls))
    except (OSError, ValueError) as error:
        raise DependencyAway(dependency="nats", reason=f"its monitoring page: {error}") from error
    return {"jetstream": {"config": {"sync_always": bool(found) and all(map(fsyncs, found))}}}


@router.get("/nats/healthz")
async def read_healthz(request: Request) -> JSONResponse:
    """Healthy where one server is, as for our own services."""
    urls = _settings(request).nats_monitor_urls
    answers = await asyncio.gather(*(asyncio.to_thread(problem_of, url) for url in urls))
    problems = [problem for problem in answers if problem is not None]
    if problems and all(problems):
        return JSONResponse({"error": problems[0]}, 503)
    return JSONResponse({"status": "ok"})


def _settings(request: Request) -> GatewaySettings:
    settings: GatewaySettings = request.app.state.dependencies.settings
    return settings
