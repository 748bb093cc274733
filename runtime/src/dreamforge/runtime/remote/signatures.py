"""How a runner proves itself over HTTP: each request is signed with the seed that it has for NATS.

`Authorization: Nkey ID SECONDS SIGNATURE`, over the method, the path and the time. The server has only the public key;
the connection is TLS, and what is stored is named by its hash, so the body need not be signed. Pure.
"""

import base64
import binascii
import re
from dataclasses import dataclass

import nkeys  # type: ignore[import-untyped]
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

SCHEME = "Nkey"
#: How far the clocks of two machines may differ: more than any that is set by itself.
SKEW_SECONDS = 600
_CREDENTIAL = re.compile(r"([A-Za-z0-9_-]{1,64}) ([0-9]{1,12}) ([A-Za-z0-9_-]{86})", re.ASCII)
#: Of a public nkey: a byte for its kind, 32 of the key, two of a checksum (nkeys of NATS).
_KEY = slice(1, 33)


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a runner says with a request: who it is and when, and the proof."""

    runner_id: str
    seconds: int
    signature: bytes


def authorization(seed: str, runner_id: str, method: str, path: str, seconds: int) -> str:
    """The header's value for one request. Errors: ValueError for a text that is no seed."""
    try:
        signature = nkeys.from_seed(bytearray(seed.strip().encode())).sign(_text(runner_id, method, path, seconds))
    except nkeys.NkeysError as error:
        raise ValueError("it is no nkey seed (SU...)") from error
    return f"{SCHEME} {runner_id} {seconds} {base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def parse_authorization(value: str) -> SignedRequest | None:
    """What a header says; None where it is none of ours."""
    scheme, _, rest = value.partition(" ")
    found = _CREDENTIAL.fullmatch(rest)
    if scheme != SCHEME or found is None:
        return None
    return SignedRequest(found[1], int(found[2]), base64.urlsafe_b64decode(found[3] + "=="))


def is_signed_by(request: SignedRequest, public_key: str, method: str, path: str) -> bool:
    """Whether the holder of the seed of this public key has signed that request."""
    try:
        key = VerifyKey(base64.b32decode(public_key + "=" * (-len(public_key) % 8))[_KEY])
        key.verify(_text(request.runner_id, method, path, request.seconds), request.signature)
    except (BadSignatureError, binascii.Error, ValueError, TypeError):
        return False
    return True


def _text(runner_id: str, method: str, path: str, seconds: int) -> bytes:
    return f"dreamforge {runner_id} {seconds} {method} {path}".encode()
