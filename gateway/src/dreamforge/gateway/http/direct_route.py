"""One route of the application without the framework's dispatch, which costs more than the route itself."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dreamforge.contracts.errors import ForgeError
from dreamforge.gateway.http.exception_handlers import answer

Endpoint = Callable[[Request], Awaitable[Response]]


class DirectRoute:
    """Answers the requests of one route that have no query; every other one goes on to the framework.

    The route stays in the framework, for the document and for requests with a query, and the same errors get the same
    answers. Matching, parameters, dependencies and exit stacks of the framework are what is left out.
    """

    def __init__(self, app: FastAPI, route: APIRoute, endpoint: Endpoint, root_path: str) -> None:
        """`endpoint` does what the route and its dependencies do where no parameter is given."""
        self._app, self._route, self._endpoint = app, route, endpoint
        self._path = root_path + route.path
        self._methods = frozenset(route.methods or ())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["path"] != self._path
            or scope["query_string"]
            or scope["method"] not in self._methods
        ):
            await self._app(scope, receive, send)
            return
        scope["app"], scope["route"] = self._app, self._route
        request = Request(scope, receive, send)
        try:
            response = await self._endpoint(request)
        except (ForgeError, HTTPException) as error:  # the middleware answers the rest, our bugs
            response = await answer(request, error)
        await response(scope, receive, send)
