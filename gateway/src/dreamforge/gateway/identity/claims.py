"""What the claims of a verified token mean here: whose jobs, and which scopes. Pure."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dreamforge.contracts.access import Identity, Scope
from dreamforge.gateway.http.errors import TokenRefused

_TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
SUBJECT_CHARS_MAX = 255  # OpenID Connect Core, section 2
OWN_TENANT_PREFIX = "oidc-"
OWN_TENANT_DIGITS = 32

Claims = Mapping[str, Any]  # Any: a JSON document


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """Which tokens are for this gateway, and what their claims mean. `audience`: of bearer tokens."""

    issuer: str
    client_id: str
    audience: str
    tenant_claim: str = "tenant"
    default_scopes: frozenset[Scope] = frozenset((Scope.READ, Scope.SUBMIT))
    roles_claim: str = "roles"
    roles: Mapping[str, frozenset[Scope]] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """The same in every process for the same rules."""
        roles = sorted((role, sorted(scopes)) for role, scopes in self.roles.items())
        parts = (self.issuer, self.client_id, self.tenant_claim, sorted(self.default_scopes), self.roles_claim, roles)
        return json.dumps(parts)


def identity_of_claims(claims: Claims, rules: ClaimRules) -> Identity:
    """Who a token stands for. Errors: TokenRefused.

    >>> rules = ClaimRules("https://id", "forge", "forge", roles={"ops": frozenset((Scope.ADMIN,))})
    >>> identity_of_claims({"sub": "ann", "tenant": "studio-a", "roles": ["ops"]}, rules).sees is None
    True
    """
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_CHARS_MAX or not subject.isprintable():
        raise TokenRefused(reason="the token has no readable subject (`sub`)")
    scopes = set(rules.default_scopes)
    for role in _words(_at(claims, rules.roles_claim)):
        scopes |= rules.roles.get(role, frozenset())
    return Identity("", _tenant(claims, subject, rules), frozenset(scopes), subject)


def _tenant(claims: Claims, subject: str, rules: ClaimRules) -> str:
    """The tenant that the claim names; without one, a tenant of the subject alone, which no claim can name."""
    named = _at(claims, rules.tenant_claim) if rules.tenant_claim else None
    if named is None:
        digest = hashlib.sha256(f"{rules.issuer}\x1f{subject}".encode()).hexdigest()
        return f"{OWN_TENANT_PREFIX}{digest[:OWN_TENANT_DIGITS]}"
    if not isinstance(named, str) or _TENANT.fullmatch(named) is None or named.startswith(OWN_TENANT_PREFIX):
        raise TokenRefused(
            reason=f"the claim {rules.tenant_claim!r} of the token must be 1 to 64 letters, digits, _ or -, and not "
            f"begin with {OWN_TENANT_PREFIX!r}"
        )
    return named


def scopes_of(text: str) -> frozenset[Scope]:
    """The scopes of a comma-separated setting. Errors: ValueError.

    >>> sorted(scopes_of("read, submit"))
    [<Scope.READ: 'read'>, <Scope.SUBMIT: 'submit'>]
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not set(words) <= set(Scope):
        raise ValueError(f"must be of {', '.join(Scope)}, comma-separated")
    return frozenset(Scope(word) for word in words)


def roles_of(text: str) -> dict[str, frozenset[Scope]]:
    """What each role of a setting allows. Errors: ValueError.

    >>> roles_of("ops=admin, artists=submit, artists=read")["artists"] == {Scope.READ, Scope.SUBMIT}
    True
    """
    found: dict[str, frozenset[Scope]] = {}
    for part in (part.strip() for part in text.split(",") if part.strip()):
        role, equals, scope = part.rpartition("=")
        if not equals or not role.strip() or scope.strip() not in set(Scope):
            raise ValueError(f"{part!r} must be role=scope, with a scope of {', '.join(Scope)}")
        found[role.strip()] = found.get(role.strip(), frozenset()) | {Scope(scope.strip())}
    return found


def _at(claims: Claims, path: str) -> object:
    """The claim of that name; else the one that dots lead to.

    >>> _at({"a.b": 1}, "a.b"), _at({"a": {"b": 2}}, "a.b"), _at({"a": 3}, "a.b")
    (1, 2, None)
    """
    if path in claims:
        return claims[path]
    found: object = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _words(value: object) -> list[str]:
    """The words of a claim that is a list, or a text with blanks between, as `scope` is."""
    if isinstance(value, str):
        return value.split()
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
