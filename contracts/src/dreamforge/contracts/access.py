"""Who may do what: the API key aggregate, and the identity that a valid key gives. Pure.

A key is `forge_{key_id}_{secret}`: the id names it in lists and logs, the prefix lets scanners of leaked secrets
recognise it, and of the secret (256 random bits) the log has only a SHA-256, which for that many bits needs no salt
and no slow hash.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from dreamforge.contracts.errors import Conflict, UnknownKey
from dreamforge.contracts.installation_events import KeyCreated, KeyEvent, KeyRevoked

_KEY = re.compile(r"forge_([0-9a-z]{10})_([A-Za-z0-9_-]{43})", re.ASCII)


class Scope(StrEnum):
    """What a key allows. `admin` includes the others, for every tenant."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a request comes from: an API key, or a subject of the OpenID Connect provider.

    `tenant` None: anybody, where the gateway asks for no keys. `sees` is the only tenant whose jobs it may see; None:
    every one.
    """

    key_id: str
    tenant: str | None
    scopes: frozenset[Scope]
    subject: str = ""

    @property
    def credential(self) -> str:
        """What names it in the log: the id of its key, or its subject."""
        return self.key_id or self.subject

    @property
    def sees(self) -> str | None:
        """The tenant that reads are limited to."""
        return None if Scope.ADMIN in self.scopes else self.tenant

    def allows(self, scope: Scope) -> bool:
        """Whether it may do what needs this scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


ANYBODY = Identity("", None, frozenset(Scope))


@dataclass(frozen=True, slots=True)
class KeyState:
    """One key, folded. `distrusted`: an event of it could not be read, which may have been its revocation."""

    created: KeyCreated | None = None
    revoked_at: datetime | None = None
    distrusted: bool = False


@dataclass(frozen=True, slots=True)
class CreateKey:
    """The secret lets its owner act for a tenant."""

    now: datetime
    secret: str
    name: str
    tenant: str
    scopes: frozenset[Scope]
    expires_at: datetime | None = None
    created_by: str = "operator"


@dataclass(frozen=True, slots=True)
class RevokeKey:
    """The key is refused from now on. It cannot be undone."""

    now: datetime
    revoked_by: str = "operator"


KeyCommand = CreateKey | RevokeKey


def decide_key(key_id: str, state: KeyState, command: KeyCommand) -> tuple[KeyEvent, ...]:
    """What follows from a command; () when nothing does. Errors: Conflict (the id is taken), UnknownKey."""
    if isinstance(command, CreateKey):
        if state.created is not None:
            raise Conflict(f"there is a key {key_id} already")
        return (
            KeyCreated(
                at=command.now,
                name=command.name,
                secret_sha256=digest_of(command.secret),
                tenant=command.tenant,
                scopes=tuple(sorted(scope.value for scope in command.scopes)),
                expires_at=command.expires_at,
                created_by=command.created_by,
            ),
        )
    if state.created is None:
        raise UnknownKey(key_id=key_id)
    return () if state.revoked_at is not None else (KeyRevoked(at=command.now, revoked_by=command.revoked_by),)


def evolve_key(state: KeyState, event: KeyEvent) -> KeyState:
    """The state after one more fact. Errors: TypeError for an event that is not of this aggregate."""
    match event:
        case KeyCreated():  # of a key that there is, it would be forged: another secret, or more scopes
            return replace(state, created=state.created or event)
        case KeyRevoked():
            return replace(state, revoked_at=event.at)
    raise TypeError(type(event).__name__)


def written_key(key_id: str, secret: str) -> str:
    """A key as its owner keeps it."""
    return f"forge_{key_id}_{secret}"


def digest_of(secret: str) -> str:
    """What the log keeps of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def identity_of_key(key: str, keys: Mapping[str, KeyState], now: datetime) -> Identity | None:
    """Who a key as its owner keeps it stands for; None if it is unknown, revoked or expired."""
    if (found := _KEY.fullmatch(key)) is None:
        return None
    state = keys.get(found[1], KeyState())
    created = state.created
    if created is None or not hmac.compare_digest(created.secret_sha256, digest_of(found[2])):
        return None
    if (
        state.revoked_at is not None
        or state.distrusted
        or (created.expires_at is not None and created.expires_at <= now)
    ):
        return None
    return Identity(found[1], created.tenant, frozenset(Scope(scope) for scope in created.scopes))
