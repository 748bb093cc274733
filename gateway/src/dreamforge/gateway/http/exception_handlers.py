"""Answers every exception of a route with its problem document."""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from loguru import logger
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from dreamforge.contracts.errors import DependencyAway, ForgeError
from dreamforge.contracts.validation import Location, describe_errors
from dreamforge.gateway.http.errors import SHOWN_CHARS, VIOLATIONS_MAX, InvalidRequest, Violation, pointer
from dreamforge.gateway.http.middleware import BUG, encoded
from dreamforge.gateway.http.problems import NO_SUCH_ROUTE, Problem, http_problem, problem_of

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def install(app: FastAPI) -> None:
    """Handle the error tree, and the framework's validation and routing; the middleware logs the rest, our bugs."""
    app.add_exception_handler(ForgeError, _forge_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _bug)


async def answer(request: Request, error: ForgeError | HTTPException) -> Response:
    """What the framework answers, once they are installed, where a route raises this."""
    return await (_forge_error if isinstance(error, ForgeError) else _http_error)(request, error)


def respond(request: Request, problem: Problem) -> Response:
    """A problem document as a response, or the error of the interface that was used."""
    body, media_type = encoded(problem, request.scope)
    return Response(body, problem.status, dict(problem.headers), media_type)


async def _forge_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ForgeError)
    problem = problem_of(error)
    if isinstance(error, DependencyAway):
        logger.warning("{}", error)  # the reason is for operators, not for clients
    elif problem.status >= 500 and problem.status != 503:
        logger.error("{}: {}", type(error).__name__, error)
    return respond(request, problem)


async def _bug(request: Request, error: Exception) -> Response:  # noqa: ARG001 the middleware logs it
    """Answered here, or the framework would answer in plain text before the middleware can."""
    return respond(request, BUG)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = describe_errors(error.errors()[:VIOLATIONS_MAX])
    violations = tuple(_violation(where, message) for where, message in found)
    return respond(request, problem_of(InvalidRequest(violations=violations)))


def _violation(where: Location, message: str) -> Violation:
    """FastAPI's locations begin with where the value came from: body, query, header or path."""
    if where[:1] == ("body",):
        return Violation(message, pointer(where[1:]))
    return Violation(message, parameter=str(where[-1])[:SHOWN_CHARS])


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    details = {
        404: NO_SUCH_ROUTE,
        405: f"{request.method[:16]} is not allowed here",
    }
    detail = details.get(error.status_code, str(error.detail))
    headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
    return respond(request, http_problem(error.status_code, detail, headers))


def _allowed(request: Request) -> str:
    """Every method of this path: the framework names only those of the first route that has it."""
    routes = request.app.router.routes

    def is_served(method: str) -> bool:
        return any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)

    methods = {method for method in METHODS if is_served(method)}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
