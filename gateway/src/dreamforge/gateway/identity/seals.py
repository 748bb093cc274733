"""Sealed texts: claims that only gateways with the same secret can read, make or change (JWE, A256GCM)."""

import hashlib
import hmac
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwe import JWERegistry
from joserfc.jwk import OctKey

_HEADER = {"alg": "dir", "enc": "A256GCM"}
_ALGORITHMS = ("dir", "A256GCM")


class Seal:
    """For one purpose, with a key of its own: a text that was sealed for another cannot be opened."""

    def __init__(self, secret: bytes, purpose: str) -> None:
        key = hmac.new(secret, purpose.encode(), hashlib.sha256).digest()
        self._key = OctKey.import_key(key)
        self._registry = JWERegistry(algorithms=list(_ALGORITHMS))

    def close(self, claims: Mapping[str, Any], *, until: datetime | None = None) -> str:  # Any: JSON
        """The claims as a text that can be opened until then; None: for as long as the secret is the same."""
        end = {} if until is None else {"exp": int(until.timestamp())}
        return jwt.encode({**_HEADER}, {**claims, **end}, self._key, registry=self._registry)

    def open(self, text: str, now: datetime) -> dict[str, Any] | None:  # Any: JSON
        """The claims; None for what was not sealed with this key, was changed, or is too old."""
        try:
            claims = jwt.decode(text, self._key, registry=self._registry).claims
        except (JoseError, ValueError, RecursionError):
            return None
        return claims if claims.get("exp", math.inf) > now.timestamp() else None
