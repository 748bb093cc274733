"""What is sent, and how it is signed: https://www.standardwebhooks.com, symmetric signatures (v1). Pure."""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from dreamforge.contracts.events import JobEvent
from dreamforge.contracts.log.envelope import Recorded
from dreamforge.contracts.webhook_events import SealedSecret
from dreamforge.contracts.webhooks import kind_of

if TYPE_CHECKING:
    from dreamforge.gateway.identity.seals import Seal

SECRET_PREFIX = "whsec_"


def written_secret(secret: bytes) -> str:
    """A secret as its owner keeps it, and as the libraries of Standard Webhooks read it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def seal_of(key: str, webhook_id: str) -> "Seal":
    """What seals the secrets of one webhook: those of another cannot be put in their place."""
    from dreamforge.gateway.identity.seals import Seal  # its cryptography is 90 ms of a start, and few have webhooks

    return Seal(key.encode(), f"webhook {webhook_id}")


def sealed_secret(seal: "Seal", secret: bytes) -> str:
    """A secret as the log keeps it."""
    return seal.close({"secret": base64.b64encode(secret).decode()})


def opened_secrets(seal: "Seal", secrets: Sequence[SealedSecret], now: datetime) -> tuple[bytes, ...]:
    """Those that can be opened with the key of today."""
    found = (seal.open(each.sealed, now) for each in secrets)
    return tuple(base64.b64decode(claims["secret"]) for claims in found if claims is not None)


def body_of(recorded: Recorded, event: JobEvent) -> bytes:
    """The JSON that a receiver gets of an event: its data are those of the event streams."""
    named = {"type": event.TYPE, "job_id": recorded.entity_id, "sequence": recorded.sequence}
    data = named | event.model_dump(mode="json")
    document = {"type": kind_of(type(event)), "timestamp": event.at.isoformat(), "data": data}
    return json.dumps(document, separators=(",", ":")).encode()


def headers_of(message_id: str, at: datetime, body: bytes, secrets: Sequence[bytes]) -> dict[str, str]:
    """The headers of one attempt. The id is the same for each attempt; time and signatures are of this one."""
    seconds = int(at.timestamp())
    signed = f"{message_id}.{seconds}.".encode() + body
    digests = (hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets)
    return {
        "Content-Type": "application/json",
        "User-Agent": "DreamForge-Webhooks/1",
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }
