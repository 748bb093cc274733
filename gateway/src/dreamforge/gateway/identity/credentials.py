"""Who a credential stands for: an API key, a token of the OpenID Connect provider, or a session of the studio."""

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from dreamforge.contracts.access import Identity, KeyState, identity_of_key
from dreamforge.contracts.key_format import KEY_PREFIX
from dreamforge.gateway.http.errors import NotAuthenticated, TokenRefused
from dreamforge.runtime import clock

if TYPE_CHECKING:
    from dreamforge.gateway.identity.oidc import Oidc

# What was verified is remembered, so that a signature costs once a minute and not once a request.
REMEMBERED_MAX = 4096
REMEMBERED_SECONDS = 60.0


class Credentials:
    """`keys` may raise DependencyAway; None where keys are not accepted. `oidc` None: no tokens."""

    def __init__(self, keys: Callable[[], Mapping[str, KeyState]] | None, oidc: "Oidc | None") -> None:
        self._keys, self.oidc = keys, oidc
        self._remembered: dict[tuple[bool, bytes], tuple[Identity, float]] = {}

    @property
    def takes_keys(self) -> bool:
        """Whether a request may bring an API key."""
        return self._keys is not None

    async def identity_of(self, credential: str, *, in_cookie: bool) -> Identity:
        """Errors: NotAuthenticated, TokenRefused, DependencyAway."""
        if credential.startswith(KEY_PREFIX) or self.oidc is None:
            return self.identity_of_key(credential)
        at = clock.now()
        digest = (in_cookie, hashlib.sha256(credential.encode()).digest())
        known = self._remembered.get(digest)
        if known is not None and known[1] > at.timestamp():
            return known[0]
        if in_cookie:
            found = self.oidc.identity_of_session(credential, at)
            if found is None:
                raise TokenRefused(reason="the session is over")
        else:
            found = await self.oidc.identity_of_token(credential, at)
        self._remember(digest, found[0], min(found[1], at.timestamp() + REMEMBERED_SECONDS))
        return found[0]

    def identity_of_key(self, key: str) -> Identity:
        """Errors: NotAuthenticated, DependencyAway."""
        if self._keys is None:
            raise TokenRefused(reason="this gateway takes no API keys")
        identity = identity_of_key(key, self._keys(), clock.now())
        if identity is None:
            raise NotAuthenticated(reason="the API key is unknown, expired or revoked")
        return identity

    def _remember(self, digest: tuple[bool, bytes], identity: Identity, until: float) -> None:
        """The oldest makes room: it is verified again when it comes back."""
        self._remembered.pop(digest, None)
        if len(self._remembered) >= REMEMBERED_MAX:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = (identity, until)
