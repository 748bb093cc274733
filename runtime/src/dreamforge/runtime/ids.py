"""The one place that makes ids, seeds and chance."""

import os
import random
import secrets
import uuid

from dreamforge.contracts.key_format import KEY_ID_CHARS, SECRET_BYTES
from dreamforge.runtime import clock

# Namespace of idempotent job ids. Any fixed UUID does; changing it would fork every retried POST.
JOB_NAMESPACE = uuid.UUID("6f2c1c0e-7f0b-5b0a-9a53-0d5e4c6f7267")
# The same of batches, and of the jobs in them.
BATCH_NAMESPACE = uuid.UUID("0d7b3c52-9e1f-5c64-8a37-f2b6d0e4c918")
# The same of webhooks.
WEBHOOK_NAMESPACE = uuid.UUID("9a4c7de1-52b8-5f0e-b6d3-1c8e0f7a2b45")
# Letters and digits that no reader mistakes for another one.
KEY_ID_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
# Namespace of the identities of older streams. Any fixed UUID does; changing it would make each another log.
LOG_NAMESPACE = uuid.UUID("3b0f1f6e-4a0b-5d8e-9a3c-7c1b0a2d6e55")
SEED_BITS = 53  # exact in JSON and in every browser
# Of an id: 74 bits. So many ids are drawn from the operating system at once, as a system call takes longer than an id.
CHANCE_BYTES, DRAWN_IDS = 10, 256
_chances: list[bytes] = []
os.register_at_fork(after_in_child=_chances.clear)  # else two processes would make the same ids


def uuid7(unix_ms: int, entropy: int) -> str:
    """A version 7 UUID (RFC 9562): 48 bits of milliseconds, then 74 bits of chance. Pure.

    >>> uuid7(0x017F22E279B0, 0), uuid.UUID(uuid7(0, (1 << 74) - 1)).version
    ('017f22e2-79b0-7000-8000-000000000000', 7)
    """
    value = (unix_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | (entropy >> 62 & 0xFFF) << 64
    digits = f"{value | 0b10 << 62 | entropy & (1 << 62) - 1:032x}"  # a third of the time of uuid.UUID
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def new_id() -> str:
    """An id that sorts by time: for jobs without a key, for events, for runner instances."""
    return uuid7(int(clock.now().timestamp() * 1000), _chance())


def _chance() -> int:
    """80 bits of the operating system's that nothing else was given. Not for secrets: they wait in memory."""
    while True:
        try:
            return int.from_bytes(_chances.pop())  # one call, so that no two threads get the same
        except IndexError:
            drawn = os.urandom(CHANCE_BYTES * DRAWN_IDS)
            _chances.extend(drawn[at : at + CHANCE_BYTES] for at in range(0, len(drawn), CHANCE_BYTES))


def job_id_for(tenant: str, idempotency_key: str | None) -> str:
    """The id of the job of this idempotency key, always the same; a new one without a key.

    >>> job_id_for("t", "k") == job_id_for("t", "k") != job_id_for("u", "k")
    True
    """
    if idempotency_key is None:
        return new_id()
    return str(uuid.uuid5(JOB_NAMESPACE, f"{tenant}\x1f{idempotency_key}"))


def batch_id_for(tenant: str, idempotency_key: str | None) -> str:
    """The id of the batch of this idempotency key, always the same; a new one without a key.

    >>> batch_id_for("t", "k") == batch_id_for("t", "k") != job_id_for("t", "k")
    True
    """
    if idempotency_key is None:
        return new_id()
    return str(uuid.uuid5(BATCH_NAMESPACE, f"{tenant}\x1f{idempotency_key}"))


def job_id_in(batch_id: str, index: int) -> str:
    """The id of a job of a batch: it follows from the batch, so that a repeat makes the same jobs."""
    return str(uuid.uuid5(BATCH_NAMESPACE, f"{batch_id}\x1f{index}"))


def webhook_id_for(tenant: str, idempotency_key: str | None) -> str:
    """The id of the webhook of this idempotency key, always the same; a new one without a key.

    >>> webhook_id_for("t", "k")
    'y6nkjtc8af'
    """
    if idempotency_key is None:
        return new_key_id()
    chosen = uuid.uuid5(WEBHOOK_NAMESPACE, f"{tenant}\x1f{idempotency_key}").bytes
    return "".join(KEY_ID_LETTERS[byte % len(KEY_ID_LETTERS)] for byte in chosen[-KEY_ID_CHARS:])


def adopted_log_id(stream: str, created: str) -> str:
    """The identity of a stream that was made before there were identities: the same one from every process.

    >>> adopted_log_id("JOBS", "2026-01-01T00:00:00Z") == adopted_log_id("JOBS", "2026-01-01T00:00:00Z")
    True
    """
    return str(uuid.uuid5(LOG_NAMESPACE, f"{stream} {created}"))


def new_seed() -> int:
    """A seed for a request that did not bring one."""
    return _chance() & (1 << SEED_BITS) - 1


def new_secret() -> str:
    """A password of 192 random bits for an embedded server."""
    return secrets.token_urlsafe(24)


def new_key_id() -> str:
    """The public part of an API key: 52 random bits, in letters and digits that no reader mistakes."""
    return "".join(secrets.choice(KEY_ID_LETTERS) for _ in range(KEY_ID_CHARS))


def new_key_secret() -> str:
    """The secret part of an API key: 256 random bits."""
    return secrets.token_urlsafe(SECRET_BYTES)


def new_signing_secret() -> bytes:
    """What signs the requests of a webhook: 256 random bits (Standard Webhooks asks for 24 to 64 bytes)."""
    return secrets.token_bytes(SECRET_BYTES)


def is_drawn(share: float) -> bool:
    """True for this share of the calls, at random: 0 never, 1 always."""
    return random.random() < share


def jitter(seconds: float) -> float:
    """Between half and all of a delay, so that services do not retry in step."""
    return seconds * (0.5 + random.random() / 2)
