"""The studio's sign-in at the OpenID Connect provider: there, and back to the studio, whatever happens."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query
from loguru import logger
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.errors import DependencyAway
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.http.authentication import OIDC_CALLBACK_PATH, OIDC_START_PATH
from dreamforge.gateway.http.errors import PageNotFound, SignInUnknown, TokenRefused
from dreamforge.gateway.http.root_path import root_of
from dreamforge.gateway.routes.common import dependencies_of
from dreamforge.gateway.routes.session_cookie import PENDING, SESSION
from dreamforge.runtime import clock

if TYPE_CHECKING:
    from dreamforge.gateway.identity.oidc import Oidc

router = APIRouter(tags=["access"])
SHOWN_CHARS = 200
REDIRECT: dict[int | str, doc.Json] = {
    303: {
        "description": "To the provider, or back to the studio, with `sign_in` in its address if it did not succeed: "
        "refused, expired, unavailable",
        "headers": doc.IDS | {"Location": {"schema": {"type": "string"}, "description": "where to go on"}},
    }
}


def _oidc_of(request: Request) -> "Oidc":
    oidc = dependencies_of(request).credentials.oidc
    if oidc is None or not oidc.offers_sign_in:
        raise PageNotFound(hint="this gateway offers no sign-in by OpenID Connect (FORGE_OIDC_CLIENT_ID)")
    return oidc


@router.get(OIDC_START_PATH, status_code=303, response_class=Response, responses=REDIRECT | doc.problems(404))
async def begin_sign_in(request: Request) -> Response:
    """Begin a sign-in at the OpenID Connect provider. For browsers: open it as a page."""
    oidc = _oidc_of(request)
    try:
        url, pending = oidc.begin(_callback_of(request), clock.now())
    except DependencyAway as error:
        return _back(request, error)
    answer = Response(status_code=303, headers={"Location": url})
    PENDING.set(request, answer, pending, oidc.sign_in_seconds)
    return answer


class CallbackQuery(BaseModel):
    """What the provider sends back; what else it adds is not read."""

    model_config = ConfigDict(extra="ignore")

    state: str = Field(default="", max_length=200)
    code: str = Field(default="", max_length=4096)
    error: str = Field(default="", max_length=4096)


@router.get(OIDC_CALLBACK_PATH, status_code=303, response_class=Response, responses=REDIRECT | doc.problems(404, 422))
async def finish_sign_in(request: Request, query: Annotated[CallbackQuery, Query()]) -> Response:
    """Where the provider sends the browser back to. The session is always a new one."""
    oidc = _oidc_of(request)
    try:
        if query.error:
            raise TokenRefused(reason=f"the provider answered {query.error[:SHOWN_CHARS]!r}")
        pending = request.cookies.get(PENDING.name, "")
        identity, session = await oidc.finish(pending, query.state, query.code, _callback_of(request), clock.now())
    except (SignInUnknown, TokenRefused, DependencyAway) as error:
        return _back(request, error)
    dependencies_of(request).audit.signed_in(request.scope, identity, "oidc")
    answer = Response(status_code=303, headers={"Location": f"{root_of(request)}/"})
    SESSION.set(request, answer, session, oidc.session_seconds)
    PENDING.delete(request, answer)
    return answer


def _callback_of(request: Request) -> str:
    """This gateway's address as the browser knows it; the provider compares it with those that are registered there."""
    return f"{request.url.scheme}://{request.headers.get('host', '')}{root_of(request)}{OIDC_CALLBACK_PATH}"


def _back(request: Request, error: SignInUnknown | TokenRefused | DependencyAway) -> Response:
    """To the studio, which says what happened in its own words; what the provider said is for the log only."""
    match error:
        case SignInUnknown():
            outcome = "expired"
        case TokenRefused():
            outcome = "refused"
        case _:
            outcome = "unavailable"
    dependencies_of(request).audit.sign_in_refused(request.scope, "oidc", f"{outcome}: {error}")
    logger.warning("a sign-in by OpenID Connect did not succeed ({}): {}", outcome, error)
    answer = Response(status_code=303, headers={"Location": f"{root_of(request)}/?sign_in={outcome}"})
    PENDING.delete(request, answer)
    return answer
