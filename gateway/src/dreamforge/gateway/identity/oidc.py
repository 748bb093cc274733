"""OpenID Connect here: bearer tokens, and the studio's sign-in by authorization code with PKCE, state and nonce."""

import base64
import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote_plus, urlencode

from joserfc.jwk import KeySet

from dreamforge.contracts.access import Identity, Scope
from dreamforge.contracts.errors import DependencyAway
from dreamforge.gateway.http.errors import SignInUnknown, TokenRefused
from dreamforge.gateway.identity.claims import Claims, identity_of_claims
from dreamforge.gateway.identity.provider import Provider
from dreamforge.gateway.identity.seals import Seal
from dreamforge.gateway.identity.settings import OidcSettings
from dreamforge.gateway.identity.tokens import UnknownSigner, verified, verified_sign_in
from dreamforge.runtime import ids

# How long a person may take at the provider.
SIGN_IN_SECONDS = 600


class Oidc:
    """One provider, and what its tokens mean. A session is a sealed text, so every gateway with the secret knows it."""

    def __init__(self, settings: OidcSettings) -> None:
        self.rules = settings.oidc_rules
        self.provider = Provider(settings.oidc_issuer, settings.oidc_timeout_seconds)
        self._settings = settings
        secret = (settings.gateway_session_secret.get_secret_value() or ids.new_key_secret()).encode()
        # What claims mean is part of the purpose: once that is changed, sessions of before are signed in anew.
        self._sessions = Seal(secret, f"session {self.rules.fingerprint}")
        self._pending = Seal(secret, f"sign-in {self.rules.issuer} {self.rules.client_id}")

    @property
    def offers_sign_in(self) -> bool:
        """Whether the studio can sign in, beside programs that bring tokens."""
        return bool(self._settings.oidc_client_id)

    @property
    def sign_in_seconds(self) -> int:
        """How long a sign-in may take."""
        return SIGN_IN_SECONDS

    @property
    def session_seconds(self) -> float:
        """How long a session lasts."""
        return self._settings.oidc_session_seconds

    async def identity_of_token(self, token: str, now: datetime) -> tuple[Identity, float]:
        """Who a bearer token stands for, and until when (POSIX seconds). Errors: TokenRefused, DependencyAway."""
        claims = await self._with_newest_keys(lambda keys: verified(token, keys, self.rules, now))
        return identity_of_claims(claims, self.rules), float(claims["exp"])

    def identity_of_session(self, session: str, now: datetime) -> tuple[Identity, float] | None:
        """Who the cookie of a session stands for, and until when (POSIX seconds); None if it is over."""
        claims = self._sessions.open(session, now)
        if claims is None:
            return None
        scopes = frozenset(Scope(scope) for scope in claims["scopes"])
        return Identity("", claims["tenant"], scopes, claims["sub"]), float(claims["exp"])

    def begin(self, redirect_uri: str, now: datetime) -> tuple[str, str]:
        """Where the browser is sent, and the sealed cookie that it must bring back. Errors: DependencyAway."""
        endpoint = self.provider.endpoints.authorization
        if endpoint is None:
            raise DependencyAway(dependency="oidc", reason="the provider has no authorization endpoint")
        pending = {"state": ids.new_key_secret(), "nonce": ids.new_key_secret(), "verifier": ids.new_key_secret()}
        digest = hashlib.sha256(pending["verifier"].encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self.rules.client_id,
            "redirect_uri": redirect_uri,
            "scope": self._settings.oidc_scopes,
            "state": pending["state"],
            "nonce": pending["nonce"],
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        url = f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"
        return url, self._pending.close(pending, until=now + timedelta(seconds=SIGN_IN_SECONDS))

    async def finish(
        self, cookie: str, state: str, code: str, redirect_uri: str, now: datetime
    ) -> tuple[Identity, str]:
        """Who came back from the provider, and the new session.

        Errors: SignInUnknown, TokenRefused, DependencyAway.
        """
        pending = self._pending.open(cookie, now)
        if pending is None or pending["state"] != state:
            raise SignInUnknown()
        token = await self._exchange(code, pending["verifier"], redirect_uri)
        claims = await self._with_newest_keys(
            lambda keys: verified_sign_in(token, keys, self.rules, pending["nonce"], now)
        )
        identity = identity_of_claims(claims, self.rules)
        session = {"sub": identity.subject, "tenant": identity.tenant, "scopes": sorted(identity.scopes)}
        until = now + timedelta(seconds=self._settings.oidc_session_seconds)
        return identity, self._sessions.close(session | {"sid": ids.new_key_secret()}, until=until)

    async def _with_newest_keys(self, verify: Callable[[KeySet], Claims]) -> Claims:
        """Verify, and once more if the provider may have a newer key that the token names."""
        try:
            return verify(self.provider.keys)
        except UnknownSigner:
            await self.provider.refreshed()
        try:
            return verify(self.provider.keys)
        except UnknownSigner:
            raise TokenRefused(reason="the token names no key of the provider (`kid`)") from None

    async def _exchange(self, code: str, verifier: str, redirect_uri: str) -> str:
        """The ID token for a code."""
        endpoints = self.provider.endpoints
        if endpoints.token is None:
            raise DependencyAway(dependency="oidc", reason="the provider has no token endpoint")
        client_id, secret = self.rules.client_id, self._settings.oidc_client_secret.get_secret_value()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": client_id,
        }
        options: dict[str, Any] = {"data": form}  # Any: as httpx declares them
        if secret and "client_secret_basic" in endpoints.authentication_methods:
            options["auth"] = (quote_plus(client_id), quote_plus(secret))  # RFC 6749, section 2.3.1
        elif secret:
            form["client_secret"] = secret
        status, answer = await self.provider.request("POST", endpoints.token, **options)
        token = answer.get("id_token") if isinstance(answer, dict) else None
        if status >= 500:
            raise DependencyAway(dependency="oidc", reason=f"the token endpoint answered {status}")
        if status != 200 or not isinstance(token, str):
            error = str(answer.get("error", "")) if isinstance(answer, dict) else ""
            raise TokenRefused(reason=f"the provider gave no ID token for the code ({status} {error[:80]!r})")
        return token
