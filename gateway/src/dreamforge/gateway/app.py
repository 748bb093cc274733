"""The application: routes, errors and the OpenAPI document. It can be built with nothing running."""

from importlib.metadata import version

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.dependencies import Dependencies
from dreamforge.gateway.documents.openapi import ApiDocument
from dreamforge.gateway.facades import ERROR_SHAPES
from dreamforge.gateway.facades.a1111 import extra_routes as a1111_extras
from dreamforge.gateway.facades.a1111 import list_routes as a1111_lists
from dreamforge.gateway.facades.a1111 import routes as a1111
from dreamforge.gateway.facades.comfyui import routes as comfyui
from dreamforge.gateway.facades.comfyui import websocket as comfyui_websocket
from dreamforge.gateway.facades.comfyui.v2 import assets as comfyui_assets
from dreamforge.gateway.facades.comfyui.v2 import routes as comfyui_v2
from dreamforge.gateway.facades.mcp import endpoint as mcp
from dreamforge.gateway.facades.openai import routes as openai
from dreamforge.gateway.http import exception_handlers
from dreamforge.gateway.http.authentication import Authentication, NoAuthentication
from dreamforge.gateway.http.direct_route import DirectRoute
from dreamforge.gateway.http.middleware import RefusesAmbiguous, RequestMiddleware
from dreamforge.gateway.http.origin import OriginCheck, OriginPolicy
from dreamforge.gateway.routes import (
    access,
    artifacts,
    audit,
    batches,
    erasure,
    events,
    fleet,
    imports,
    job_control,
    jobs,
    oidc,
    pages,
    queue,
    system,
    tenants,
    uploads,
    webhooks,
)
from dreamforge.gateway.routes.common import of_this_log
from dreamforge.gateway.settings import parts_of


def api(limits: Limits, root_path: str = "") -> FastAPI:
    """The routes; `root_path` is their prefix as clients see it.

    FastAPI's own documentation pages are off: they load scripts from a foreign host.
    """
    app = FastAPI(
        title="Dream Forge",
        version=version("dreamforge-gateway"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    for module in (
        *(jobs, job_control, erasure, batches, events, queue, artifacts, uploads, imports, fleet),
        *(openai, a1111, a1111_extras, a1111_lists),
    ):
        app.include_router(module.router, dependencies=[Depends(of_this_log)])
    for module in (access, audit, oidc, tenants, webhooks, system, pages):
        app.include_router(module.router)
    for module in (comfyui_v2, comfyui_assets):
        app.include_router(module.router, dependencies=[Depends(of_this_log)])
    for prefix in ("", "/api"):
        app.include_router(comfyui.router, prefix=prefix, dependencies=[Depends(of_this_log)])
    app.router.routes += comfyui_websocket.ROUTES
    app.router.routes.append(mcp.route(limits.body_bytes + 2 * limits.upload_bytes))
    exception_handlers.install(app)
    app.state.document = ApiDocument(app, limits, root_path)
    return app


def application(dependencies: Dependencies) -> ASGIApp:
    """What uvicorn runs."""
    root_path = dependencies.settings.gateway_root_path
    app = api(dependencies.settings.limit, root_path)
    app.state.dependencies = dependencies
    app.state.pages = pages.Pages(app.state.document, dependencies.settings.gateway_pictures_url)
    origins = parts_of(dependencies.settings.gateway_origins)
    policy = OriginPolicy.of(parts_of(dependencies.settings.gateway_hosts), origins)
    open_to_all = dependencies.settings.gateway_auth == "none"
    routes = RefusesAmbiguous(_submissions_directly(app, root_path))
    authenticated = (
        NoAuthentication(routes)
        if open_to_all
        else Authentication(routes, dependencies.credentials, dependencies.quotas.take_request, dependencies.audit)
    )
    return RequestMiddleware(
        OriginCheck(_readable_from(authenticated, origins), policy), root_path=root_path, error_shapes=ERROR_SHAPES
    )


def _submissions_directly(app: FastAPI, root_path: str) -> ASGIApp:
    """The one route whose rate bounds that of the whole system: half of its time was the framework's dispatch."""
    routes = (route for route in jobs.router.routes if isinstance(route, APIRoute))
    route = next(route for route in routes if route.endpoint is jobs.submit_job)
    return DirectRoute(app, route, jobs.submit_job_directly, root_path)


def _readable_from(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """With CORS for the pages of these origins; without any, no other page reads a reply."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST", "PATCH", "DELETE"),
        allow_headers=("*",),
        expose_headers=(
            "Forge-Sequence",
            "Forge-Log",
            "Location",
            "Retry-After",
            "X-Request-Id",
            "Idempotent-Replayed",
        ),
    )
