"""A certificate authority and a certificate for signing pictures, for installations without ones of their own."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.x509.oid import ExtendedKeyUsageOID

from dreamforge.runtime.tls.certificates import BACKDATED, key_pem, name_of, new_key, pem, signed


@dataclass(frozen=True, slots=True)
class MadeCertificate:
    """PEM texts. `chain` is the certificate and then its authority; the authority's own key is not kept."""

    chain: str
    key: str
    authority: str


def make_certificate(organization: str, now: datetime, days: int) -> MadeCertificate:
    """A new authority and one certificate by it, as C2PA 2.1, section 14.5, asks for: P-256, for e-mail protection."""
    authority_key, key = new_key(), new_key()
    issuer = name_of(organization, f"{organization} pictures CA")
    subject = name_of(organization, f"{organization} pictures")
    period = now - BACKDATED, now + timedelta(days=days)
    authority = signed(issuer, issuer, authority_key, authority_key, period, purpose=None)
    leaf = signed(subject, issuer, key, authority_key, period, purpose=ExtendedKeyUsageOID.EMAIL_PROTECTION)
    return MadeCertificate(pem(leaf) + pem(authority), key_pem(key), pem(authority))
