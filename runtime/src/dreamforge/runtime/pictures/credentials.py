"""C2PA content credentials: who made a picture, when, in which job and from which recipe, signed. Blocking calls.

A picture is signed after it was encoded and before it is hashed and stored, so what is stored is what is downloaded.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

import c2pa
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.pictures.mark import DIGITAL_SOURCE_TYPE

#: What our own assertion is called: job, index and recipe of a picture.
ASSERTION = "org.dreamforge.picture"
GENERATOR = "Dream Forge"
#: Nothing is fetched from addresses in a picture, and no thumbnail is put into it.
_OFFLINE: dict[str, Any] = {  # Any: settings of the library
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}
#: The algorithm that a key signs with (C2PA 2.1, section 13.2).
_CURVES = {"secp256r1": b"es256", "secp384r1": b"es384", "secp521r1": b"es512"}


@dataclass(eq=False)
class CredentialsError(ForgeError):
    """A certificate or key cannot be used for signing, or a picture cannot be signed."""

    code = "content_credentials"
    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class Origin:
    """What is stated of a picture. `at` is when it was rendered; `recipe_sha256` that of `recipe_sha256()`."""

    job_id: str
    index: int
    recipe_sha256: str
    at: datetime


class PictureSigner:
    """Signs with one certificate chain, leaf first, and the leaf's private key, both PEM."""

    def __init__(self, chain: str, key: str) -> None:
        """Errors: CredentialsError for a key that cannot sign, or that is not the certificate's."""
        self._chain, self._key, self._algorithm = chain.encode(), key.encode(), _algorithm(key)
        self._signer()

    def sign(self, data: bytes, content_type: str, origin: Origin) -> bytes:
        """The picture with its credentials in it. Errors: CredentialsError."""
        out = io.BytesIO()
        try:
            with c2pa.Context.from_dict(_OFFLINE) as context, self._signer() as signer:
                builder = c2pa.Builder(json.dumps(_manifest(origin)), context=context)
                builder.sign(signer, content_type, io.BytesIO(data), out)
        except c2pa.C2paError as error:
            raise CredentialsError(f"the picture cannot be signed: {error}") from None
        return out.getvalue()

    def _signer(self) -> c2pa.Signer:
        try:
            return c2pa.Signer.from_info(c2pa.C2paSignerInfo(self._algorithm, self._chain, self._key, None))
        except c2pa.C2paError as error:
            raise CredentialsError(f"certificate and key cannot sign pictures: {error}") from None


def _algorithm(key: str) -> bytes:
    try:
        found = load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CredentialsError(f"the key is no PEM private key without a password: {error}") from None
    if isinstance(found, ed25519.Ed25519PrivateKey):
        return b"ed25519"
    if isinstance(found, ec.EllipticCurvePrivateKey) and found.curve.name in _CURVES:
        return _CURVES[found.curve.name]
    raise CredentialsError("the key must be of a curve P-256, P-384 or P-521, or Ed25519")


def _manifest(origin: Origin) -> dict[str, Any]:
    software = {"name": GENERATOR, "version": version("dreamforge-runtime")}
    created = {
        "action": "c2pa.created",
        "when": origin.at.isoformat(),
        "digitalSourceType": DIGITAL_SOURCE_TYPE,
        "softwareAgent": software,
    }
    stated = {"job_id": origin.job_id, "index": origin.index, "recipe_sha256": origin.recipe_sha256}
    return {
        "claim_generator_info": [software],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": ASSERTION, "data": stated},
        ],
    }


@dataclass(frozen=True, slots=True)
class ContentCredentials:
    """What a picture's credentials say. `problems` are the codes of C2PA for what does not fit."""

    state: str
    """Trusted: by a certificate of the given authorities; Valid: unchanged since; Invalid: not what was signed."""
    signer: str
    stated: Mapping[str, Any]  # Any: JSON of our assertion; empty in pictures of others
    problems: tuple[str, ...] = ()


def read_credentials(data: bytes, content_type: str, authorities: str = "") -> ContentCredentials | None:
    """The credentials in a file; None without any. `authorities`: certificates (PEM) whose signatures are trusted.

    Never raises for a damaged file: what cannot be read is Invalid.
    """
    trust = {"trust": {"trust_anchors": authorities}} if authorities else {}
    try:
        with c2pa.Context.from_dict(_OFFLINE | trust) as context:
            reader = c2pa.Reader(content_type, io.BytesIO(data), context=context)
            found = json.loads(reader.json())
            state = str(reader.get_validation_state())
    except c2pa.C2paError.ManifestNotFound:
        return None
    except (c2pa.C2paError, ValueError) as error:
        return ContentCredentials("Invalid", "", {}, (str(error),))
    manifest = found["manifests"].get(found.get("active_manifest"), {})
    signature = manifest.get("signature_info", {})
    signer = " of ".join(str(signature[part]) for part in ("common_name", "issuer") if signature.get(part))
    stated: Any = next((each["data"] for each in manifest.get("assertions", ()) if each.get("label") == ASSERTION), {})
    problems = tuple(each["code"] for each in found.get("validation_status", ()) if "untrusted" not in each["code"])
    return ContentCredentials(state, signer, stated if isinstance(stated, dict) else {}, problems)
