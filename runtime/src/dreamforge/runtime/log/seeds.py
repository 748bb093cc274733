"""Seeds of nkeys: what a user of NATS proves itself with. The server knows only the public half."""

import os
from pathlib import Path

import nkeys  # type: ignore[import-untyped]

from dreamforge.runtime.service.settings import InvalidSettings


def new_seed() -> str:
    """A new seed, from the kernel's random bits."""
    seed: bytes = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    return seed.decode()


def public_key_of(seed: str) -> str:
    """What the server is told of a seed. Errors: ValueError when it is none of a user."""
    try:
        pair = nkeys.from_seed(bytearray(seed.strip().encode()))
        public: str = pair.public_key.decode()
    except Exception as error:  # the library raises its own and those of base64 and binascii
        raise ValueError("it is no nkey seed (SU...)") from error
    if not public.startswith("U"):
        raise ValueError("it is the seed of another kind of key, not of a user (SU...)")
    return public


def seed_in(path: Path | None) -> str | None:
    """The seed in a file; None without one. Errors: InvalidSettings."""
    if path is None:
        return None
    try:
        seed = path.read_text(encoding="ascii").strip()
        public_key_of(seed)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidSettings((f"FORGE_NATS_SEED_FILE is {str(path)!r}: {reason}",)) from None
    return seed
