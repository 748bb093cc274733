"""Who is asking: the identity of a request, and sessions of browsers that sign in with a key."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.access import Identity, Scope
from dreamforge.contracts.tenant_replies import MeReply, SessionReply
from dreamforge.contracts.tenants import UNCONFIGURED
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.http.authentication import (
    OIDC_START_PATH,
    SESSION_PATH,
    credential_in,
    csrf_token,
    identity_of,
    require_csrf_token,
)
from dreamforge.gateway.http.errors import NotAuthenticated, TokenRefused
from dreamforge.gateway.http.root_path import root_of
from dreamforge.gateway.routes.common import PublicBodyRoute, dependencies_of, quota_replies, reply, tenant_for
from dreamforge.gateway.routes.session_cookie import SESSION

router = APIRouter(tags=["access"], route_class=PublicBodyRoute)
# A session ends with its key at the latest; a browser forgets it after a month.
SESSION_SECONDS = 30 * 86_400


class SignIn(BaseModel):
    """An API key, to be kept by the browser where no script can read it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    key: str = Field(max_length=200, description="as `dreamforge keys create NAME` printed it")


@router.get("/v1/me", response_model=MeReply, responses=doc.problems(503))
async def read_me(request: Request) -> Response:
    """Which tenant a request acts for, what it may do, and what it uses of its quotas."""
    credential, in_cookie = credential_in(dict(request.scope["headers"]))
    return reply(await _me(request, identity_of(request), session=credential if in_cookie else None))


@router.get(SESSION_PATH, response_model=SessionReply, responses=doc.problems())
async def read_sign_ins(request: Request) -> Response:
    """How a browser can sign in here."""
    credentials = dependencies_of(request).credentials
    oidc = credentials.oidc is not None and credentials.oidc.offers_sign_in
    start = f"{root_of(request)}{OIDC_START_PATH}" if oidc else None
    return reply(SessionReply(keys=credentials.takes_keys, oidc=start))


@router.post(SESSION_PATH, response_model=MeReply, responses=doc.problems(400, 413, 415, 422, 503))
async def sign_in(request: Request, sign_in: SignIn) -> Response:
    """Begin a session: the key is kept in a cookie that only this gateway gets, and that no script can read."""
    dependencies = dependencies_of(request)
    if dependencies.settings.gateway_auth == "none":
        return reply(await _me(request, identity_of(request)))
    try:
        identity = dependencies.credentials.identity_of_key(sign_in.key)
    except (NotAuthenticated, TokenRefused) as error:
        dependencies.audit.sign_in_refused(request.scope, "key", error.reason)
        raise
    dependencies.audit.signed_in(request.scope, identity, "key")
    answer = reply(await _me(request, identity, session=sign_in.key))
    SESSION.set(request, answer, sign_in.key, SESSION_SECONDS)
    return answer


@router.delete(SESSION_PATH, status_code=204, response_class=Response, responses=doc.problems())
async def sign_out(request: Request) -> Response:
    """End the session of this browser. A key stays valid: `dreamforge keys revoke` ends that."""
    sent = dict(request.scope["headers"])
    credential, in_cookie = credential_in(sent)
    if in_cookie and credential is not None and dependencies_of(request).settings.gateway_auth != "none":
        require_csrf_token(credential, sent)
    answer = Response(status_code=204)
    SESSION.delete(request, answer)
    return answer


async def _me(request: Request, identity: Identity, session: str | None = None) -> MeReply:
    dependencies = dependencies_of(request)
    authentication, tenant = dependencies.settings.gateway_auth, tenant_for(request, identity)
    return MeReply(
        authentication=authentication,
        key_id=identity.key_id or None,
        subject=identity.subject or None,
        tenant=identity.tenant,
        scopes=tuple(scope for scope in Scope if identity.allows(scope)),
        csrf_token=csrf_token(session) if session and authentication != "none" else None,
        quotas=await quota_replies(dependencies, tenant),
        metadata=dependencies.tenants().get(tenant, UNCONFIGURED).metadata,
    )
