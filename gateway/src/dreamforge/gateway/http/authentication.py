"""Who a request comes from, and whether it may: decided before any route, so that no route can forget it.

With `FORGE_GATEWAY_AUTH=none` everybody may do everything, which is for loopback. Else a request needs a credential, in
`Authorization: Bearer`, in the cookie of a session or, for the interfaces of `BASIC_PATHS`, as a password, that has the
scope of its method and path.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Protocol

from starlette.requests import Request, cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from dreamforge.contracts import access
from dreamforge.contracts.access import ANYBODY, Identity
from dreamforge.contracts.errors import DependencyAway, ForgeError, InvalidInput
from dreamforge.contracts.log.actor import Actor, ActorKind
from dreamforge.gateway.http.errors import CsrfTokenNeeded, NotAuthenticated, ScopeNeeded
from dreamforge.gateway.http.middleware import send_problem
from dreamforge.gateway.http.problems import Problem, problem_of

IDENTITY = "dreamforge.identity"
REFUSAL_NOW = "dreamforge.refusal_now"
COOKIE = "forge_session"
SESSION_PATH = "/v1/session"
OIDC_START_PATH, OIDC_CALLBACK_PATH = "/v1/session/oidc", "/v1/session/oidc/callback"
CSRF_HEADER = b"forge-csrf-token"
TENANTS_PATH = "/v1/tenants"
# What anybody may read: pages without data, documents, and whether the process answers.
PUBLIC = frozenset(
    (
        "/",
        "/favicon.ico",
        "/docs",
        "/openapi.json",
        "/asyncapi",
        "/asyncapi.json",
        "/healthz",
        "/readyz",
        OIDC_START_PATH,
        OIDC_CALLBACK_PATH,
    )
)
# Interfaces whose clients know user names and passwords only: any name, and a credential as the password. Nowhere else,
# because a browser sends what it was asked for here by itself.
BASIC_PATHS = ("/sdapi/", "/controlnet/")
BASIC_CHALLENGE = 'Basic realm="Dream Forge: any user, and an API key as the password", charset="UTF-8"'
ADMINS_ONLY = frozenset(("/metrics", "/v1/audit"))
READS = frozenset(("GET", "HEAD"))
# One of them comes with every write of a browser's page, and `origin` refuses those of other sites: without either, a
# cookie could have been sent by a page that no rule has judged.
BROWSER_HEADERS = frozenset((b"origin", b"sec-fetch-site"))


def needed_scope(method: str, path: str) -> access.Scope | None:
    """The scope that a request needs; None for what anybody may do.

    >>> needed_scope("GET", "/"), needed_scope("POST", "/v1/jobs"), needed_scope("GET", "/metrics")
    (None, <Scope.SUBMIT: 'submit'>, <Scope.ADMIN: 'admin'>)
    """
    if path == SESSION_PATH or method == "OPTIONS" or (path in PUBLIC and method in READS):
        return None
    if path in ADMINS_ONLY or path == TENANTS_PATH or path.startswith(f"{TENANTS_PATH}/"):
        return access.Scope.ADMIN
    return access.Scope.READ if method in READS else access.Scope.SUBMIT


def actor_in(scope: Scope, identity: Identity) -> Actor:
    """Who sends a request, and from where: the address is a proxy's word only where the proxy is trusted."""
    client = scope.get("client")
    agent = next((value for name, value in scope["headers"] if name == b"user-agent"), b"").decode("latin-1")
    kind: ActorKind = "api_key" if identity.key_id else "app_user" if identity.subject else "unauthenticated"
    return Actor(kind, identity.credential, identity.tenant or "", client[0] if client else "", agent)


def actor_of(request: Request) -> Actor:
    """Who sends a request, for the events that it causes."""
    return actor_in(request.scope, identity_of(request))


def identity_of(request: Request) -> Identity:
    """Who a request comes from, as the middleware found."""
    identity: Identity = request.scope[IDENTITY]
    return identity


class FindsIdentity(Protocol):
    """Who a credential stands for. Errors: NotAuthenticated, TokenRefused, DependencyAway."""

    async def identity_of(self, credential: str, *, in_cookie: bool) -> Identity: ...


class NotesCredentials(Protocol):
    """What is told which credentials were used, and which were refused. It neither waits nor fails."""

    def used(self, scope: Scope, identity: Identity) -> None: ...
    def refused(self, scope: Scope, credential: str, error: ForgeError) -> None: ...


class Authentication:
    """Finds the identity of each request, or answers 401, 403 or 429. `take_request(tenant)` counts one."""

    def __init__(
        self, app: ASGIApp, credentials: FindsIdentity, take_request: Callable[[str], None], notes: NotesCredentials
    ) -> None:
        """`take_request` may raise QuotaExceeded and DependencyAway."""
        self._app, self._credentials, self._take_request, self._notes = app, credentials, take_request, notes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                identity = scope[IDENTITY] = await self._identity(scope)
                if identity.tenant is not None:
                    self._take_request(identity.tenant)
            except ForgeError as error:
                await send_problem(scope, send, _answered(problem_of(error), scope))
                return
        await self._app(scope, receive, send)

    async def _identity(self, scope: Scope) -> Identity:
        """Errors: NotAuthenticated, TokenRefused, CsrfTokenNeeded, ScopeNeeded, DependencyAway."""
        method = scope.get("method", "GET")  # a websocket reads: what comes from its client changes nothing
        needed = needed_scope(method, _path_of(scope))
        if needed is None:
            return ANYBODY  # what needs no scope shows nothing of a tenant
        sent = dict(scope["headers"])
        credential, in_cookie = credential_in(sent, basic=_takes_basic(scope))
        if credential is None:
            raise NotAuthenticated(reason="the request has no API key")
        writes_by_cookie = in_cookie and method not in READS
        if writes_by_cookie and not sent.keys() & BROWSER_HEADERS:
            raise NotAuthenticated(reason="a session changes things only for a browser that says which page asks")
        try:
            identity = await self._credentials.identity_of(credential, in_cookie=in_cookie)
        except InvalidInput as error:
            self._notes.refused(scope, credential, error)
            raise
        self._notes.used(scope, identity)
        if writes_by_cookie:
            require_csrf_token(credential, sent)
        if not identity.allows(needed):
            raise ScopeNeeded(scope=needed.value)
        scope[REFUSAL_NOW] = partial(self._refusal_of, credential, in_cookie)
        return identity

    async def _refusal_of(self, credential: str, in_cookie: bool) -> ForgeError | None:
        """Why a credential that was good no longer is, for answers that last; None while it is."""
        try:
            await self._credentials.identity_of(credential, in_cookie=in_cookie)
        except DependencyAway:
            return None
        except ForgeError as error:
            return error
        return None


def _path_of(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope["root_path"])


def _takes_basic(scope: Scope) -> bool:
    return _path_of(scope).startswith(BASIC_PATHS)


def _answered(problem: Problem, scope: Scope) -> Problem:
    """A refusal as the clients of the path read it: with the way to authenticate that they know."""
    if problem.status != 401 or not _takes_basic(scope):
        return problem
    return replace(problem, headers={**problem.headers, "WWW-Authenticate": BASIC_CHALLENGE})


def csrf_token(session: str) -> str:
    """What a page sends with its writes: only who can read the answers of this gateway to that session knows it.

    >>> csrf_token("a") == csrf_token("a") != csrf_token("b")
    True
    """
    digest = hmac.new(session.encode(), b"forge csrf token", hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def require_csrf_token(session: str, sent: Mapping[bytes, bytes]) -> None:
    """Errors: CsrfTokenNeeded."""
    if not hmac.compare_digest(sent.get(CSRF_HEADER, b""), csrf_token(session).encode()):
        raise CsrfTokenNeeded()


class NoAuthentication:
    """Everybody may do everything."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[IDENTITY] = ANYBODY
        await self._app(scope, receive, send)


def credential_in(sent: Mapping[bytes, bytes], *, basic: bool = False) -> tuple[str | None, bool]:
    """The credential of a request, and whether it is in the session's cookie: the header counts first.

    >>> credential_in({b"authorization": b"Bearer forge_x", b"cookie": b"forge_session=forge_y"})
    ('forge_x', False)
    >>> credential_in({b"cookie": b"a=b; forge_session=forge_y"})
    ('forge_y', True)

    Cookies of other services of the same host come along, whatever is in them.

    >>> credential_in({b"cookie": b'layout={"a": 1}; forge_session=forge_y'})
    ('forge_y', True)

    `basic`: whether a password counts, too.

    >>> credential_in({b"authorization": b"Basic bWU6Zm9yZ2VfeA=="}, basic=True)
    ('forge_x', False)
    >>> credential_in({b"authorization": b"Basic bWU6Zm9yZ2VfeA=="})
    (None, False)
    """
    kind, _, credential = sent.get(b"authorization", b"").decode("latin-1").partition(" ")
    if kind.lower() == "bearer":
        return credential.strip(), False
    if basic and kind.lower() == "basic" and (password := _password_in(credential)):
        return password, False
    found = cookie_parser(sent.get(b"cookie", b"").decode("latin-1")).get(COOKIE)
    return found, found is not None


def _password_in(credential: str) -> str | None:
    """The password of Basic authentication (RFC 7617); None where there is none that can be read."""
    try:
        text = base64.b64decode(credential.strip(), validate=True).decode()
    except ValueError:  # of base64, and of text
        return None
    return text.partition(":")[2] or None
