"""The application behind the listener for runners; none of its routes is one of the API."""

from fastapi import FastAPI
from starlette.types import ASGIApp

from dreamforge.gateway.dependencies import Dependencies
from dreamforge.gateway.http import exception_handlers
from dreamforge.gateway.http.middleware import RequestMiddleware
from dreamforge.gateway.remote_runners import access, models, objects
from dreamforge.gateway.remote_runners.certificates import certificates_of
from dreamforge.runtime.remote.credentials import RunnerCredentials
from dreamforge.runtime.service.settings import InvalidSettings


def remote_application(dependencies: Dependencies) -> ASGIApp:
    """What its server runs. Errors: InvalidSettings without the folders of certificates and credentials."""
    remote = dependencies.settings.remote
    if remote.credentials_dir is None:
        raise InvalidSettings(("FORGE_REMOTE_CREDENTIALS_DIR is not set: it holds the public keys of runners",))
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    for module in (access, objects, models):
        app.include_router(module.router)
    exception_handlers.install(app)
    app.state.dependencies = dependencies
    app.state.credentials = RunnerCredentials(remote.credentials_dir)
    app.state.models_dir = remote.models_dir
    app.state.authority = certificates_of(remote).authority
    app.state.receiving = 0
    return RequestMiddleware(app)
