"""The authority of an installation and the certificate of its servers, in a folder for its user alone.

The authority is made once. The certificate is made again when it ends soon, or the machine has other names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from dreamforge.runtime.private_folder import make_private, replace_private
from dreamforge.runtime.tls.certificates import (
    Issuer,
    ends_at,
    fingerprint_of,
    names_in,
    new_authority,
    read_authority,
    server_certificate,
)

RENEWED_BEFORE = timedelta(days=60)
AUTHORITY, AUTHORITY_KEY = "authority.pem", "authority.key"
SERVER, SERVER_KEY = "server.pem", "server.key"


@dataclass(frozen=True, slots=True)
class CertificateFolder:
    """Where they are kept."""

    folder: Path

    @property
    def authority(self) -> Path:
        """The certificate of the authority: what other machines trust."""
        return self.folder / AUTHORITY

    @property
    def server(self) -> Path:
        """The chain of the servers' certificate."""
        return self.folder / SERVER

    @property
    def server_key(self) -> Path:
        """Its private key."""
        return self.folder / SERVER_KEY

    def fingerprint(self) -> str:
        """What identifies the authority. Errors: OSError, ValueError."""
        return fingerprint_of(self.authority.read_text(encoding="ascii"))

    def ensure(self, names: Sequence[str], now: datetime) -> bool:
        """Have an authority, and a certificate for these names that holds for a while; whether it was made now.

        Errors: NotPrivate, OSError; ValueError where a file there is damaged.
        """
        make_private(self.folder)
        issuer = self._issuer(now)
        if self._holds(names, now):
            return False
        chain, key = server_certificate(issuer, names, now)
        replace_private(self.server_key, key)
        replace_private(self.server, chain)
        return True

    def _issuer(self, now: datetime) -> Issuer:
        key = self.folder / AUTHORITY_KEY
        if not self.authority.exists():
            made = new_authority(now)
            replace_private(key, made.key_pem)
            replace_private(self.authority, made.certificate_pem)
            return made
        return read_authority(self.authority.read_text(encoding="ascii"), key.read_text(encoding="ascii"))

    def _holds(self, names: Sequence[str], now: datetime) -> bool:
        if not (self.server.exists() and self.server_key.exists()):
            return False
        text = self.server.read_text(encoding="ascii")
        return set(names) <= names_in(text) and now < ends_at(text) - RENEWED_BEFORE
