"""Tokens: what is not signed by the provider for this gateway, and valid now, is refused, whatever it claims."""

import base64
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from joserfc import jws, jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, KeySet, RSAKey

from dreamforge.contracts.access import Scope
from dreamforge.gateway.http.errors import TokenRefused
from dreamforge.gateway.identity.claims import ClaimRules, identity_of_claims, roles_of
from dreamforge.gateway.identity.provider import Endpoints
from dreamforge.gateway.identity.seals import Seal
from dreamforge.gateway.identity.tokens import UnknownSigner, key_set, verified, verified_sign_in

ISSUER = "https://id.example.org"
RULES = ClaimRules(ISSUER, "studio", "forge", roles=roles_of("ops=admin,artists=submit"))
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
SIGNER, OTHER = (RSAKey.generate_key(2048, auto_kid=True) for _ in range(2))
CURVE = ECKey.generate_key("P-256", auto_kid=True)
KEYS = key_set(KeySet([SIGNER, CURVE]).as_dict())


def signed(key: RSAKey | ECKey = SIGNER, alg: str = "RS256", kid: str | None = None, **claims: Any) -> str:
    valid = {"iss": ISSUER, "aud": "forge", "sub": "ann", "exp": NOW.timestamp() + 60} | claims
    header = {"alg": alg, "kid": kid or key.kid}
    return jwt.encode(header, {name: value for name, value in valid.items() if value is not None}, key, [alg])


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_token_of_the_provider_is_accepted() -> None:
    assert verified(signed(), KEYS, RULES, NOW)["sub"] == "ann"
    assert verified(signed(CURVE, "ES256", aud=["other", "forge"]), KEYS, RULES, NOW)["sub"] == "ann"
    assert verified(signed(exp=NOW.timestamp() - 10), KEYS, RULES, NOW)["sub"] == "ann"  # clocks differ a little


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"iss": ISSUER + "/"},
        {"iss": None},
        {"aud": "studio"},
        {"aud": []},
        {"aud": None},
        {"aud": "forge-of-others"},
        {"exp": NOW.timestamp() - 60},
        {"exp": None},
        {"exp": "never"},
        {"exp": True},
        {"nbf": NOW.timestamp() + 60},
        {"iat": NOW.timestamp() + 60},
        {"sub": None},
        {"sub": 7},
    ],
)
def test_a_wrong_claim_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        verified(signed(**claims), KEYS, RULES, NOW)


def test_a_token_that_the_provider_did_not_sign_is_refused() -> None:
    """The classes of attacks on JWT: no algorithm, the public key as a secret, another key, a key that comes along."""
    header, payload, signature = signed().split(".")
    hmac_head = f"{segment({'alg': 'HS256', 'kid': SIGNER.kid})}.{payload}"
    hmac_digest = hmac.digest(SIGNER.as_pem(private=False), hmac_head.encode(), "sha256")
    own = {"alg": "RS256", "jwk": OTHER.as_dict(private=False), "kid": SIGNER.kid}
    content = base64.urlsafe_b64decode(payload + "==")
    forged = {
        "none": f"{segment({'alg': 'none', 'kid': SIGNER.kid})}.{payload}.",
        "None": f"{segment({'alg': 'None'})}.{payload}.",
        "hmac": f"{hmac_head}.{base64.urlsafe_b64encode(hmac_digest).rstrip(b'=').decode()}",
        "other key": signed(OTHER, kid=SIGNER.kid),
        "its own key": jws.serialize_compact(own, content, OTHER, ["RS256"]),
        "no signature": f"{header}.{payload}.",
        "changed": f"{header}.{segment({'iss': ISSUER, 'aud': 'forge', 'sub': 'eve', 'exp': 9e9})}.{signature}",
        "key of another kind": f"{segment({'alg': 'RS256', 'kid': CURVE.kid})}.{payload}.{signature}",
        "unreadable": "a.b.c",
        "deep": f"{base64.urlsafe_b64encode(b'[' * 9000).decode()}.{payload}.{signature}",
        "long": "a" * 20_000,
        "empty": "",
    }
    for name, token in forged.items():
        with pytest.raises(TokenRefused):
            print(name, verified(token, KEYS, RULES, NOW))
    with pytest.raises(UnknownSigner):
        verified(signed(OTHER), KEYS, RULES, NOW)


def test_an_id_token_answers_one_sign_in() -> None:
    token = signed(aud="studio", nonce="n")
    assert verified_sign_in(token, KEYS, RULES, "n", NOW)["sub"] == "ann"
    others = ({"aud": "studio"}, {"aud": "forge", "nonce": "m"}, {"aud": ["studio"], "azp": "x", "nonce": "m"})
    for wrong in (token, *(signed(**claims) for claims in others)):
        with pytest.raises(TokenRefused):
            verified_sign_in(wrong, KEYS, RULES, "m", NOW)


def test_keys_that_cannot_be_trusted_are_passed_over() -> None:
    with pytest.warns(SecurityWarning):
        short = RSAKey.generate_key(1024, auto_kid=True)
    listed = [short.as_dict(private=False), {"kty": "oct", "k": "AAAA"}, {"kty": "RSA"}, 7, {"kty": "PQ"}]
    listed.append(SIGNER.as_dict(private=False) | {"use": "enc"})
    with pytest.raises(ValueError, match="no key"):
        key_set({"keys": listed})
    assert [key.kid for key in key_set({"keys": [*listed, CURVE.as_dict(private=False)]})] == [CURVE.kid]


def test_scopes_beyond_read_and_submit_need_a_role() -> None:
    plain = identity_of_claims({"sub": "ann", "tenant": "a", "scope": "admin", "roles": ["admin"]}, RULES)
    assert (plain.tenant, plain.scopes, plain.sees) == ("a", {Scope.READ, Scope.SUBMIT}, "a")
    assert Scope.ADMIN in identity_of_claims({"sub": "ann", "roles": ["ops"]}, RULES).scopes
    nested = ClaimRules(ISSUER, "", "forge", roles_claim="realm.roles", roles={"ops": frozenset((Scope.ADMIN,))})
    assert Scope.ADMIN in identity_of_claims({"sub": "ann", "realm": {"roles": ["ops"]}}, nested).scopes


def test_no_subject_gets_the_tenant_of_another() -> None:
    """Without the claim each subject has a tenant of its own, which neither a name nor a claim can choose."""
    tenants = [identity_of_claims({"sub": sub}, RULES).tenant for sub in ("studio-a", "bob", "auth0|7")]
    assert len({*tenants, "studio-a"}) == 4
    for claimed in (tenants[0], "", "a b", 7, ["a"], "ä", "a" * 65):
        with pytest.raises(TokenRefused):
            identity_of_claims({"sub": "eve", "tenant": claimed}, RULES)
    for subject in ("", None, "a\x1b[2J", "a" * 256):
        with pytest.raises(TokenRefused):
            identity_of_claims({"sub": subject}, RULES)


def test_a_discovery_document_is_of_its_issuer_and_leads_nowhere_unsafe() -> None:
    right = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}
    assert Endpoints.of(right, ISSUER).jwks == f"{ISSUER}/keys"
    unsafe = ("http://id.example.org/keys", "file:///etc/passwd", "https://a@b/keys", "", None, 7)
    for wrong in (*({"jwks_uri": url} for url in unsafe), {"issuer": "https://evil.example"}, {"token_endpoint": "x"}):
        with pytest.raises(ValueError, match=r"https|issuer"):
            Endpoints.of(right | wrong, ISSUER)


def test_a_seal_opens_only_what_it_closed() -> None:
    session, sign_in = Seal(b"secret" * 6, "session"), Seal(b"secret" * 6, "sign-in")
    text = session.close({"sub": "ann"}, until=datetime(2026, 11, 26, 13, tzinfo=UTC))
    opened = session.open(text, NOW)
    assert opened is not None
    assert opened["sub"] == "ann"
    assert session.open(text, datetime(2026, 11, 26, 13, tzinfo=UTC)) is None
    changed = text[:-3] + ("AAA" if text[-3:] != "AAA" else "BBB")
    for seal, wrong in ((sign_in, text), (Seal(b"other" * 8, "session"), text), (session, changed), (session, "x")):
        assert seal.open(wrong, NOW) is None
