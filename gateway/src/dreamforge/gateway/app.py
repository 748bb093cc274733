"""The application: routes, errors and the OpenAPI document. It can be built with nothing running."""

from importlib.metadata import version

from fastapi import FastAPI
from starlette.types import ASGIApp

from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.dependencies import Dependencies
from dreamforge.gateway.documents.openapi import describe
from dreamforge.gateway.http import exception_handlers
from dreamforge.gateway.http.middleware import RequestMiddleware
from dreamforge.gateway.routes import artifacts, fleet, jobs, pages, queue, system, uploads


def api(limits: Limits) -> FastAPI:
    """The routes. FastAPI's own documentation pages are off: they load scripts from a foreign host."""
    app = FastAPI(
        title="Dream Forge",
        version=version("dreamforge-gateway"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    for module in (jobs, queue, artifacts, uploads, fleet, system, pages):
        app.include_router(module.router)
    exception_handlers.install(app)
    app.state.document = describe(app, limits)
    return app


def application(dependencies: Dependencies) -> ASGIApp:
    """What uvicorn runs."""
    app = api(dependencies.settings.limit)
    app.state.dependencies = dependencies
    app.state.pages = pages.Pages.of(app.state.document, s3_origin=dependencies.settings.s3_origin)
    return RequestMiddleware(app)
