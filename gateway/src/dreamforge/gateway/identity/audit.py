"""Notes what no other fact tells: sign-ins, refused credentials, new addresses, reads of admins. In the background.

No request waits for it. An attacker who is refused again and again fills no disk: one event a minute for
an address, and a bound for all of them.
"""

import asyncio
from collections import deque

from loguru import logger
from prometheus_client import Counter
from starlette.types import Scope

from dreamforge.contracts.access import Identity
from dreamforge.contracts.errors import DependencyAway, ForgeError
from dreamforge.contracts.installation_events import (
    AddressFirstUsed,
    AuditEvent,
    CredentialRefused,
    SignedIn,
    TenantRead,
)
from dreamforge.contracts.key_format import KEY_PREFIX
from dreamforge.contracts.log.actor import Actor
from dreamforge.contracts.log.envelope import Envelope, seal
from dreamforge.gateway.http.authentication import actor_in
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.bus import NATS_ERRORS, Bus
from dreamforge.runtime.log.views import AddressesView

REFUSED_SECONDS, READ_SECONDS = 60.0, 3600.0
# Of one gateway: some 70 MB a day at the most.
EVENTS_PER_MINUTE = 120
REMEMBERED_MAX = 4096
UNKNOWN_TENANT = "-"
REASON_CHARS_MAX = 300
LOST = Counter("forge_audit_lost_total", "Audit events that were not written: too many at once, or no log")


class Audit:
    """What is to be noted, until it is in the log."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._waiting: deque[Envelope] = deque(maxlen=EVENTS_PER_MINUTE)
        self._some = asyncio.Event()
        self._addresses: AddressesView | None = None
        self._since: dict[tuple[str, ...], float] = {}
        self._more: dict[tuple[str, ...], int] = {}
        self._minute, self._in_minute = 0.0, 0

    async def run(self, bus: Bus, addresses: AddressesView) -> None:
        """Append until cancelled."""
        self._addresses = addresses
        while True:
            await self._some.wait()
            self._some.clear()
            await self.flush(bus)

    async def flush(self, bus: Bus) -> None:
        """Append what waits. What cannot be appended is counted and logged, not repeated."""
        while self._waiting:
            envelope = self._waiting.popleft()
            try:
                await bus.js.publish(envelope.subject, envelope.data, headers=envelope.headers)
            except (*NATS_ERRORS, DependencyAway) as error:
                LOST.inc()
                logger.warning("an audit event is lost ({}): {}", error or type(error).__name__, envelope.subject)

    def used(self, scope: Scope, identity: Identity) -> None:
        """A credential was accepted: noted, if it was never used from this address."""
        seen, client = self._addresses, scope.get("client")
        address = client[0] if client else ""
        if seen is None or not seen.ready.is_set() or (identity.credential, address) in seen.used:
            return
        seen.add(identity.credential, address)
        self._note(AddressFirstUsed(at=clock.now()), identity.tenant, actor_in(scope, identity))

    def refused(self, scope: Scope, credential: str, error: ForgeError) -> None:
        """A credential was refused; of it, only what kind it is. A key that has the form of one names its id."""
        method = "key" if credential.startswith(KEY_PREFIX) else "session" if _in_cookie(scope) else "token"
        self._refused(scope, method, str(getattr(error, "reason", error)))

    def sign_in_refused(self, scope: Scope, method: str, reason: str) -> None:
        """A browser could not sign in."""
        self._refused(scope, method, reason)

    def signed_in(self, scope: Scope, identity: Identity, method: str) -> None:
        """A browser began a session."""
        event = SignedIn.model_validate({"at": clock.now(), "method": method})
        self._note(event, identity.tenant, actor_in(scope, identity))

    def tenant_read(self, scope: Scope, identity: Identity, tenant: str | None, job_id: str | None = None) -> None:
        """An admin read what is another tenant's, or (None) a list of all tenants'."""
        if tenant == identity.tenant or not self._is_due(("read", identity.credential, tenant or ""), READ_SECONDS):
            return
        event = TenantRead(at=clock.now(), tenant=tenant, job_id=job_id)
        self._note(event, tenant, actor_in(scope, identity))

    def _refused(self, scope: Scope, method: str, reason: str) -> None:
        actor = actor_in(scope, Identity("", None, frozenset()))
        key = ("refused", actor.address, method)
        self._more[key] = times = self._more.get(key, 0) + 1
        if not self._is_due(key, REFUSED_SECONDS):
            return
        del self._more[key]
        event = {"at": clock.now(), "method": method, "reason": reason[:REASON_CHARS_MAX], "times": times}
        self._note(CredentialRefused.model_validate(event), None, actor)

    def _is_due(self, key: tuple[str, ...], seconds: float) -> bool:
        """Whether that was noted as long ago as that; the longest forgotten makes room."""
        now = clock.monotonic_seconds()
        if now - self._since.get(key, float("-inf")) < seconds:
            return False
        self._since.pop(key, None)
        if len(self._since) >= REMEMBERED_MAX:
            oldest = next(iter(self._since))
            del self._since[oldest]
            self._more.pop(oldest, None)
        self._since[key] = now
        return True

    def _note(self, event: AuditEvent, tenant: str | None, actor: Actor) -> None:
        now = clock.monotonic_seconds()
        if now - self._minute >= 60.0:
            self._minute, self._in_minute = now, 0
        self._in_minute += 1
        if self._in_minute > EVENTS_PER_MINUTE:
            LOST.inc()
            return
        entity_id = tenant or UNKNOWN_TENANT
        self._waiting.append(seal(event, entity_id=entity_id, event_id=ids.new_id(), source=self._source, actor=actor))
        self._some.set()


def _in_cookie(scope: Scope) -> bool:
    return not any(name == b"authorization" for name, _ in scope["headers"])
