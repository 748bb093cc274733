"""Who is asking: the identity of a request, and sessions of browsers."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.access import Identity, Scope, identity_of_key
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.http.authentication import COOKIE, SESSION_PATH, identity_of
from dreamforge.gateway.http.errors import NotAuthenticated
from dreamforge.gateway.http.root_path import root_of
from dreamforge.gateway.read.replies import MeReply
from dreamforge.gateway.routes.common import BoundedBodyRoute, dependencies_of, reply
from dreamforge.runtime import clock

router = APIRouter(tags=["access"], route_class=BoundedBodyRoute)
# A session ends with its key at the latest; a browser forgets it after a month.
SESSION_SECONDS = 30 * 86_400


class SignIn(BaseModel):
    """An API key, to be kept by the browser where no script can read it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    key: str = Field(max_length=200, description="as `dreamforge keys create NAME` printed it")


@router.get("/v1/me", response_model=MeReply, responses=doc.problems(503))
async def read_me(request: Request) -> Response:
    """Which tenant a request acts for, and what it may do."""
    return reply(_me(request, identity_of(request)))


@router.post(SESSION_PATH, response_model=MeReply, responses=doc.problems(400, 413, 415, 422, 503))
async def sign_in(request: Request, sign_in: SignIn) -> Response:
    """Begin a session: the key is kept in a cookie that only this gateway gets, and that no script can read."""
    dependencies = dependencies_of(request)
    if dependencies.settings.gateway_auth == "none":
        return reply(_me(request, identity_of(request)))
    identity = identity_of_key(sign_in.key, dependencies.keys(), clock.now())
    if identity is None:
        raise NotAuthenticated(reason="the API key is unknown, expired or revoked")
    answer = reply(_me(request, identity))
    secure, path = request.url.scheme == "https", f"{root_of(request)}/"
    answer.set_cookie(
        COOKIE, sign_in.key, max_age=SESSION_SECONDS, httponly=True, samesite="strict", secure=secure, path=path
    )
    return answer


@router.delete(SESSION_PATH, status_code=204, response_class=Response, responses=doc.problems())
async def sign_out(request: Request) -> Response:
    """End the session of this browser. The key stays valid: `dreamforge keys revoke` ends that."""
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict", path=f"{root_of(request)}/")
    return answer


def _me(request: Request, identity: Identity) -> MeReply:
    settings = dependencies_of(request).settings
    return MeReply(
        authentication=settings.gateway_auth,
        key_id=identity.key_id or None,
        tenant=identity.tenant,
        scopes=tuple(scope for scope in Scope if identity.allows(scope)),
    )
