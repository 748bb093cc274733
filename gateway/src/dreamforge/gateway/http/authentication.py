"""Who a request comes from, and whether it may: decided before any route, so that no route can forget it.

With `FORGE_GATEWAY_AUTH=none` everybody may do everything, which is for loopback. With `keys`, a request needs an API
key, in `Authorization: Bearer` or in the cookie of a session, that has the scope of its method and path.
"""

from collections.abc import Callable, Mapping

from starlette.requests import Request, cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from dreamforge.contracts import access
from dreamforge.contracts.access import ANYBODY, Identity, KeyState
from dreamforge.contracts.errors import ForgeError
from dreamforge.gateway.http.errors import NotAuthenticated, ScopeNeeded
from dreamforge.gateway.http.middleware import send_problem
from dreamforge.gateway.http.problems import problem_of
from dreamforge.runtime import clock

IDENTITY = "dreamforge.identity"
COOKIE = "forge_session"
SESSION_PATH = "/v1/session"
# What anybody may read: pages without data, documents, and whether the process answers.
PUBLIC = frozenset(
    ("/", "/favicon.ico", "/docs", "/openapi.json", "/asyncapi", "/asyncapi.json", "/healthz", "/readyz")
)
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
    if path == "/metrics":
        return access.Scope.ADMIN
    return access.Scope.READ if method in READS else access.Scope.SUBMIT


def identity_of(request: Request) -> Identity:
    """Who a request comes from, as the middleware found."""
    identity: Identity = request.scope[IDENTITY]
    return identity


class Authentication:
    """Finds the identity of each request, or answers 401 or 403. `keys` may raise DependencyAway."""

    def __init__(self, app: ASGIApp, keys: Callable[[], Mapping[str, KeyState]]) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                scope[IDENTITY] = self._identity(scope)
            except ForgeError as error:
                await send_problem(scope, send, problem_of(error))
                return
        await self._app(scope, receive, send)

    def _identity(self, scope: Scope) -> Identity:
        """Errors: NotAuthenticated, ScopeNeeded, DependencyAway."""
        needed = needed_scope(scope["method"], scope["path"].removeprefix(scope["root_path"]))
        if needed is None:
            return ANYBODY  # what needs no scope shows nothing of a tenant
        sent = dict(scope["headers"])
        key, in_cookie = key_in(sent)
        if key is None:
            raise NotAuthenticated(reason="the request has no API key")
        if in_cookie and scope["method"] not in READS and not sent.keys() & BROWSER_HEADERS:
            raise NotAuthenticated(reason="a session changes things only for a browser that says which page asks")
        identity = access.identity_of_key(key, self._keys(), clock.now())
        if identity is None:
            raise NotAuthenticated(reason="the API key is unknown, expired or revoked")
        if not identity.allows(needed):
            raise ScopeNeeded(scope=needed.value)
        return identity


class NoAuthentication:
    """Everybody may do everything."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[IDENTITY] = ANYBODY
        await self._app(scope, receive, send)


def key_in(sent: Mapping[bytes, bytes]) -> tuple[str | None, bool]:
    """The API key of a request, and whether it is in the session's cookie: the header counts first.

    >>> key_in({b"authorization": b"Bearer forge_x", b"cookie": b"forge_session=forge_y"})
    ('forge_x', False)
    >>> key_in({b"cookie": b"a=b; forge_session=forge_y"})
    ('forge_y', True)

    Cookies of other services of the same host come along, whatever is in them.

    >>> key_in({b"cookie": b'layout={"a": 1}; forge_session=forge_y'})
    ('forge_y', True)
    """
    kind, _, key = sent.get(b"authorization", b"").decode("latin-1").partition(" ")
    if kind.lower() == "bearer":
        return key.strip(), False
    found = cookie_parser(sent.get(b"cookie", b"").decode("latin-1")).get(COOKIE)
    return found, found is not None
