"""A small OpenID Connect provider on a real socket: discovery, keys, authorization code with PKCE, signed tokens.

It asks nobody for a password: whoever opens its sign-in page is the user that the test named. It refuses what a
provider must refuse: other redirect addresses, a code that was used, a wrong PKCE verifier, a wrong client secret.
"""

import asyncio
import base64
import contextlib
import hashlib
import secrets
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

Claims = dict[str, Any]
CLIENT_ID, CLIENT_SECRET = "forge", "the secret of the client"


def new_key() -> RSAKey:
    """A signing key with an id."""
    return RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)


@dataclass
class OidcProvider:
    """`user` holds the claims of whoever opens the sign-in page; `keys[0]` signs."""

    issuer: str
    redirect_uris: set[str] = field(default_factory=set)
    user: Claims = field(default_factory=lambda: {"sub": "ann", "tenant": "studio-a"})
    keys: list[RSAKey] = field(default_factory=lambda: [new_key()])
    fetches: int = 0
    fails: bool = False
    _codes: dict[str, Claims] = field(default_factory=dict)

    def token(self, *, key: RSAKey | None = None, header: Claims | None = None, **claims: Any) -> str:
        """A token for this gateway, with other claims where they are given; None leaves one out."""
        now = int(time.time())
        all_claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "sub": "ann"} | claims
        signer = key or self.keys[0]
        return jwt.encode(
            {"alg": "RS256", "kid": signer.kid} | (header or {}),
            {name: value for name, value in all_claims.items() if value is not None},
            signer,
        )

    def rotate(self) -> None:
        """From now on another key signs, and the old one is withdrawn."""
        self.keys = [new_key()]

    def app(self) -> Starlette:
        """Its routes."""
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._discovery),
                Route("/keys", self._keys_document),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
            ]
        )

    async def _discovery(self, _: Request) -> Response:
        names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        return JSONResponse({"issuer": self.issuer} | {key: f"{self.issuer}/{path}" for key, path in names.items()})

    async def _keys_document(self, _: Request) -> Response:
        self.fetches += 1
        if self.fails:
            return JSONResponse({}, 500)
        return JSONResponse(KeySet([*self.keys]).as_dict())

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        if asked["client_id"] != CLIENT_ID or asked["redirect_uri"] not in self.redirect_uris:
            return JSONResponse({"error": "invalid_request"}, 400)
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}", 302)

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        asked = self._codes.pop(form["code"], None)
        secret = base64.b64encode(f"{CLIENT_ID}:{quote_plus(CLIENT_SECRET)}".encode()).decode()
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if request.headers.get("authorization") != f"Basic {secret}":
            return JSONResponse({"error": "invalid_client"}, 401)
        if asked is None or (challenge, form["redirect_uri"]) != (asked["code_challenge"], asked["redirect_uri"]):
            return JSONResponse({"error": "invalid_grant"}, 400)
        token = self.token(nonce=asked["nonce"], **self.user)
        return JSONResponse({"access_token": "opaque", "token_type": "Bearer", "id_token": token})


@contextlib.asynccontextmanager
async def oidc_provider() -> AsyncIterator[OidcProvider]:
    """One that answers on a free port of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        provider = OidcProvider(f"http://127.0.0.1:{listener.getsockname()[1]}")
        server = uvicorn.Server(uvicorn.Config(provider.app(), log_config=None, lifespan="off"))
        server.capture_signals = contextlib.nullcontext  # type: ignore[assignment]
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield provider
        finally:
            server.should_exit = True
            await serving
