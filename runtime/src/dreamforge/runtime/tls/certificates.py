"""X.509 certificates as values: an authority, and what it issues. Pure but for the keys that are made."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

#: Certificates hold from a little before they were made: clocks of machines differ.
BACKDATED = timedelta(minutes=5)
#: Twenty years: it is exchanged by hand only, since every machine that joined holds it.
AUTHORITY_DAYS = 20 * 365
#: A little more than a year, which no verifier refuses.
SERVER_DAYS = 397


@dataclass(frozen=True, slots=True)
class Issuer:
    """An authority that can sign: its certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> str:
        """The certificate as text."""
        return pem(self.certificate)

    @property
    def key_pem(self) -> str:
        """The private key as text."""
        return key_pem(self.key)


def new_authority(now: datetime) -> Issuer:
    """An authority for the servers of one installation."""
    name, key = name_of("Dream Forge", "Dream Forge installation CA"), new_key()
    period = now - BACKDATED, now + timedelta(days=AUTHORITY_DAYS)
    return Issuer(signed(name, name, key, key, period, purpose=None), key)


def read_authority(certificate_text: str, key_text: str) -> Issuer:
    """The authority of two PEM texts. Errors: ValueError."""
    key = load_pem_private_key(key_text.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the key of the authority is none of an elliptic curve")
    return Issuer(x509.load_pem_x509_certificate(certificate_text.encode()), key)


def server_certificate(issuer: Issuer, names: Sequence[str], now: datetime) -> tuple[str, str]:
    """A certificate for a server under these host names and addresses: chain and private key, as PEM."""
    key, period = new_key(), (now - BACKDATED, now + timedelta(days=SERVER_DAYS))
    subject = name_of("Dream Forge", names[0][:64])
    purpose = ExtendedKeyUsageOID.SERVER_AUTH
    made = signed(subject, issuer.certificate.subject, key, issuer.key, period, purpose=purpose, names=names)
    return pem(made) + issuer.certificate_pem, key_pem(key)


def names_in(certificate_text: str) -> frozenset[str]:
    """The host names and addresses that a certificate is for. Errors: ValueError."""
    found = x509.load_pem_x509_certificate(certificate_text.encode()).extensions
    alternative = found.get_extension_for_class(x509.SubjectAlternativeName).value
    return frozenset(str(each.value) for each in alternative)


def ends_at(certificate_text: str) -> datetime:
    """When a certificate ends. Errors: ValueError."""
    return x509.load_pem_x509_certificate(certificate_text.encode()).not_valid_after_utc


def fingerprint_of(certificate_text: str) -> str:
    """SHA-256 over the certificate's DER form, in hex. Errors: ValueError."""
    found = x509.load_pem_x509_certificate(certificate_text.encode())
    return hashlib.sha256(found.public_bytes(Encoding.DER)).hexdigest()


def signed(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    period: tuple[datetime, datetime],
    *,
    purpose: ObjectIdentifier | None,
    names: Sequence[str] = (),
) -> x509.Certificate:
    """One certificate, for `purpose`; None: of an authority that signs such certificates and no authorities."""
    is_authority = purpose is None
    own, its = key.public_key(), issuer_key.public_key()
    builder = (
        x509.CertificateBuilder(issuer, subject, own, x509.random_serial_number(), *period)
        .add_extension(x509.BasicConstraints(is_authority, 0 if is_authority else None), critical=True)
        .add_extension(_usage(is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(its), critical=False)
    )
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_alternative, names))), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _usage(is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A private key, P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def name_of(organization: str, common_name: str) -> x509.Name:
    """A distinguished name."""
    parts = ((NameOID.ORGANIZATION_NAME, organization), (NameOID.COMMON_NAME, common_name))
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])


def pem(certificate: x509.Certificate) -> str:
    """A certificate as text."""
    return certificate.public_bytes(Encoding.PEM).decode()


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """A private key as text."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
