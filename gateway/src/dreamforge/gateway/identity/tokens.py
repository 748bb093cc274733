"""Whether a token is what the provider signed, for this gateway, and still holds. Pure: keys and time come along.

Only algorithms with a public key are accepted: with `none` or HMAC, all who know the public key could sign.
"""

import warnings
from datetime import datetime

from joserfc import jwt
from joserfc.errors import (
    ExpiredTokenError,
    InvalidClaimError,
    InvalidKeyIdError,
    JoseError,
    MissingClaimError,
    SecurityWarning,
)
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from dreamforge.gateway.http.errors import TokenRefused
from dreamforge.gateway.identity.claims import ClaimRules, Claims

ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
)  # fmt: skip
LEEWAY_SECONDS = 30
TOKEN_BYTES_MAX = 16 * 1024
KEYS_MAX = 64
RSA_BITS_MIN = 2048


class UnknownSigner(Exception):
    """The token names a key that is not in the set: the provider may have a newer set."""


def verified(token: str, keys: KeySet, rules: ClaimRules, now: datetime) -> Claims:
    """The claims of a bearer token. Errors: TokenRefused, UnknownSigner."""
    return _verified(token, keys, now, rules.issuer, rules.audience)


def verified_sign_in(token: str, keys: KeySet, rules: ClaimRules, nonce: str, now: datetime) -> Claims:
    """The claims of an ID token that answers the sign-in with this nonce. Errors: TokenRefused, UnknownSigner."""
    claims = _verified(token, keys, now, rules.issuer, rules.client_id)
    if claims.get("nonce") != nonce:
        raise TokenRefused(reason="the ID token is of another sign-in (`nonce`)")
    if claims.get("azp", rules.client_id) != rules.client_id:
        raise TokenRefused(reason="the ID token was issued to another client (`azp`)")
    return claims


def _verified(token: str, keys: KeySet, now: datetime, issuer: str, audience: str) -> Claims:
    if len(token) > TOKEN_BYTES_MAX:
        raise TokenRefused(reason=f"the token is longer than {TOKEN_BYTES_MAX} bytes")
    registry = jwt.JWTClaimsRegistry(
        now=int(now.timestamp()),
        leeway=LEEWAY_SECONDS,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": audience},
        exp={"essential": True},
        sub={"essential": True},
    )
    try:
        claims = jwt.decode(token, keys, algorithms=ALGORITHMS).claims
        registry.validate(claims)
    except InvalidKeyIdError:
        raise UnknownSigner from None
    except ExpiredTokenError:
        raise TokenRefused(reason="the token is expired") from None
    except MissingClaimError as error:
        raise TokenRefused(reason=f"the token lacks a claim ({error.description})") from None
    except InvalidClaimError as error:
        raise TokenRefused(reason=f"a claim of the token is wrong ({error.description})") from None
    except (JoseError, ValueError, RecursionError):
        raise TokenRefused(reason="the token is not signed by the provider") from None
    return claims


def key_set(document: object) -> KeySet:
    """The public keys of a JWKS that can sign tokens; others are passed over. Errors: ValueError.

    >>> key_set({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]})
    Traceback (most recent call last):
    ValueError: the key set has no key that can sign tokens
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("the key set is not a JSON object with `keys`")
    found = [key for each in listed[:KEYS_MAX] if (key := _signing_key(each)) is not None]
    if not found:
        raise ValueError("the key set has no key that can sign tokens")
    return KeySet([*found])


def _signing_key(data: object) -> RSAKey | ECKey | OKPKey | None:
    if not isinstance(data, dict) or data.get("use", "sig") != "sig":
        return None
    kinds: dict[object, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
    kind = kinds.get(data.get("kty"))
    if kind is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # short keys are passed over below
            key = kind.import_key({str(name): value for name, value in data.items()})
            short = isinstance(key, RSAKey) and key.public_key.key_size < RSA_BITS_MIN
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return None if short else key
