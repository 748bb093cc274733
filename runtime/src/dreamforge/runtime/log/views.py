"""Small folds that several services keep in memory: the fleet's heartbeats and the registered models."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import ClassVar

from loguru import logger
from pydantic import ValidationError

from dreamforge.contracts.access import KeyState, evolve_key
from dreamforge.contracts.deliveries import Deliveries
from dreamforge.contracts.fleet import LEASE_SECONDS, Heartbeat
from dreamforge.contracts.installation_events import KeyEvent, ModelRegistered, ModelRemoved, QueueEvent, TenantEvent
from dreamforge.contracts.log.envelope import COPIED_FROM
from dreamforge.contracts.log.streams import AUDIT, DELIVERIES, KEYS, MODELS, QUEUES, RUNNERS_BUCKET, TENANTS, WEBHOOKS
from dreamforge.contracts.log.subjects import ADDRESSES_FIRST_USED, key_of
from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.queue_control import QueueState, evolve_queue
from dreamforge.contracts.tenants import UNCONFIGURED, TenantState, evolve_tenant
from dreamforge.contracts.validation import describe_validation_error
from dreamforge.contracts.webhook_events import DeliveryEvent, WebhookEvent
from dreamforge.contracts.webhooks import WebhookState, evolve_webhook
from dreamforge.runtime import clock
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.log.readable import readable
from dreamforge.runtime.service.telemetry import LAG

_HEARTBEATS = key_of(RUNNERS_BUCKET, "")
# A runner without a heartbeat for two leases is not live, even if the end of its lease was not seen.
SILENT_SECONDS = 2.0 * LEASE_SECONDS
LEASE = "Nats-TTL"
GONE_OPERATIONS = ("DEL", "PURGE")


def _nothing(_: str) -> None:
    return None


@dataclass(slots=True)
class StreamView(ABC):
    """A fold of one stream that is kept in memory; `ready` is set once the stream has been read to its end."""

    STREAM: ClassVar[str]
    FILTERS: ClassVar[tuple[str, ...]] = (">",)
    LATEST_ONLY: ClassVar[bool] = False

    bus: Bus
    ready: asyncio.Event = field(default_factory=asyncio.Event, kw_only=True)

    async def run(self) -> None:
        """Follow the stream until cancelled."""
        follower = Follower(self.bus, self.STREAM, self.FILTERS, latest_only=self.LATEST_ONLY)
        async for batch in follower.batches():
            for message in batch.messages:
                self._apply(message)
            LAG.labels("view", self.STREAM).set(batch.pending)
            if batch.pending == 0:
                self.ready.set()

    @abstractmethod
    def _apply(self, message: LogMessage) -> None:
        """Fold one message."""


@dataclass(slots=True)
class FleetView(StreamView):
    """The live runners, by id. `on_heartbeat(runner_id)` and `on_lost(runner_id)` are called after each change."""

    STREAM = f"KV_{RUNNERS_BUCKET}"
    LATEST_ONLY = True

    on_heartbeat: Callable[[str], None] = _nothing
    on_lost: Callable[[str], None] = _nothing
    runners: dict[str, Heartbeat] = field(default_factory=dict)
    _received_at: dict[str, float] = field(default_factory=dict)

    def live(self) -> dict[str, Heartbeat]:
        """Runners with a recent heartbeat. A bucket that was lost with its server never reports that a lease ended."""
        oldest = clock.monotonic_seconds() - SILENT_SECONDS
        return {name: heartbeat for name, heartbeat in self.runners.items() if self._received_at[name] >= oldest}

    def _apply(self, message: LogMessage) -> None:
        runner_id = message.subject.removeprefix(_HEARTBEATS)
        if COPIED_FROM in message.headers or LEASE not in message.headers:
            logger.warning("ignoring a message under the key of {} that is no heartbeat of it", runner_id)
            return
        if "Nats-Marker-Reason" in message.headers or message.headers.get("KV-Operation") in GONE_OPERATIONS:
            if self.runners.pop(runner_id, None) is not None:
                self.on_lost(runner_id)
            return
        try:
            heartbeat = Heartbeat.model_validate_json(message.data)
        except ValidationError as error:
            logger.warning(
                "ignoring a malformed heartbeat of {}: {}", runner_id, describe_validation_error(error, maximum=1)[0][1]
            )
            return
        if heartbeat.runner_id != runner_id:  # no runner takes assignments under that id
            logger.warning("ignoring a heartbeat of {} under the key of {}", heartbeat.runner_id, runner_id)
            return
        self.runners[runner_id], self._received_at[runner_id] = heartbeat, clock.monotonic_seconds()
        self.on_heartbeat(runner_id)


@dataclass(slots=True)
class ModelsView(StreamView):
    """The available models, by id, in the order of their registration."""

    STREAM = MODELS.name

    models: dict[str, ModelDescriptor] = field(default_factory=dict)
    changed: Callable[[str], None] = _nothing

    def _apply(self, message: LogMessage) -> None:
        recorded = readable(message)
        if recorded is None:
            return
        if isinstance(recorded.event, ModelRegistered):
            self.models[recorded.entity_id] = recorded.event.descriptor
        elif isinstance(recorded.event, ModelRemoved):
            self.models.pop(recorded.entity_id, None)
        self.changed(recorded.entity_id)


@dataclass(slots=True)
class QueuesView(StreamView):
    """The queues that are held, by scope (see contracts.queue_control), and since when."""

    STREAM = QUEUES.name

    changed: Callable[[str], None] = _nothing
    held: dict[str, datetime] = field(default_factory=dict)

    def _apply(self, message: LogMessage) -> None:
        recorded = readable(message)
        if recorded is None or not isinstance(recorded.event, QueueEvent):
            return
        since = evolve_queue(QueueState(self.held.get(recorded.entity_id)), recorded.event).held_since
        if since is None:
            self.held.pop(recorded.entity_id, None)
        else:
            self.held[recorded.entity_id] = since
        self.changed(recorded.entity_id)


# Credentials and addresses that are kept in memory: beyond them the oldest are forgotten, and noted anew.
ADDRESSES_MAX = 100_000


@dataclass(slots=True)
class AddressesView(StreamView):
    """From which addresses each credential was used, as far as the audit goes back."""

    STREAM = AUDIT.name
    FILTERS = (ADDRESSES_FIRST_USED,)

    used: dict[tuple[str, str], None] = field(default_factory=dict)

    def _apply(self, message: LogMessage) -> None:
        recorded = readable(message)
        if recorded is not None and recorded.actor is not None:
            self.add(recorded.actor.id, recorded.actor.address)

    def add(self, credential: str, address: str) -> None:
        """It was used from there."""
        if len(self.used) >= ADDRESSES_MAX:
            del self.used[next(iter(self.used))]
        self.used[credential, address] = None


@dataclass(slots=True)
class KeysView(StreamView):
    """Every API key, by id."""

    STREAM = KEYS.name

    keys: dict[str, KeyState] = field(default_factory=dict)

    def _apply(self, message: LogMessage) -> None:
        recorded = readable(message)
        if recorded is not None and isinstance(recorded.event, KeyEvent):
            state = self.keys.get(recorded.entity_id, KeyState())
            self.keys[recorded.entity_id] = evolve_key(state, recorded.event)
        elif (key_id := message.subject.split(".")[2:3]) and key_id[0] in self.keys:
            logger.error("key {} is refused from now on: an event of it cannot be read", key_id[0])
            self.keys[key_id[0]] = replace(self.keys[key_id[0]], distrusted=True)


@dataclass(slots=True)
class TenantsView(StreamView):
    """Every tenant that was configured, by name. `changed(tenant)` is called after each change."""

    STREAM = TENANTS.name

    changed: Callable[[str], None] = _nothing
    tenants: dict[str, TenantState] = field(default_factory=dict)

    def _apply(self, message: LogMessage) -> None:
        recorded = readable(message)
        if recorded is not None and isinstance(recorded.event, TenantEvent):
            state = self.tenants.get(recorded.entity_id, UNCONFIGURED)
            self.tenants[recorded.entity_id] = evolve_tenant(state, recorded.event)
            self.changed(recorded.entity_id)


@dataclass(slots=True)
class WebhooksView(StreamView):
    """Every webhook that sends, by id: it was not deleted and has not ended.

    `changed(webhook_id)` is called after each change.
    """

    STREAM = WEBHOOKS.name

    changed: Callable[[str], None] = _nothing
    webhooks: dict[str, WebhookState] = field(default_factory=dict)

    def sends(self, webhook_id: str) -> bool:
        """Whether it may send anything, as far as is known."""
        return webhook_id in self.webhooks or not self.ready.is_set()

    def _apply(self, message: LogMessage) -> None:
        recorded = readable(message)
        if recorded is None or not isinstance(recorded.event, WebhookEvent):
            return
        state = evolve_webhook(self.webhooks.get(recorded.entity_id, WebhookState()), recorded.event)
        if state.sends:
            self.webhooks[recorded.entity_id] = state
        else:
            self.webhooks.pop(recorded.entity_id, None)
        self.changed(recorded.entity_id)


def _always(_: str) -> bool:
    return True


# Webhooks that are gone, and of which deliveries are shown yet.
GONE_MAX = 1_000


def _no_delivery(_: str, __: DeliveryEvent) -> None:
    return None


@dataclass(slots=True)
class DeliveriesView(StreamView):
    """What became of deliveries, by webhook. `changed(webhook_id, event)` is called after each change.

    `sends(webhook_id)` is false of a webhook that is gone: the oldest of those are forgotten.
    """

    STREAM = DELIVERIES.name

    changed: Callable[[str, DeliveryEvent], None] = _no_delivery
    sends: Callable[[str], bool] = _always
    deliveries: dict[str, Deliveries] = field(default_factory=dict)
    _forget_at: int = 2 * GONE_MAX
    _sequence: int = 0
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    def of(self, webhook_id: str) -> Deliveries:
        """Those to one webhook."""
        if webhook_id not in self.deliveries and len(self.deliveries) >= self._forget_at:
            self._forget()
        return self.deliveries.setdefault(webhook_id, Deliveries())

    def _forget(self) -> None:
        gone = [webhook_id for webhook_id in self.deliveries if not self.sends(webhook_id)]
        for webhook_id in gone[:-GONE_MAX]:
            del self.deliveries[webhook_id]
        self._forget_at = len(self.deliveries) + GONE_MAX

    async def reaches(self, sequence: int) -> None:
        """Wait until an event that was written has been read back."""
        while self._sequence < sequence:
            self._moved.clear()
            await self._moved.wait()

    def _apply(self, message: LogMessage) -> None:
        recorded = readable(message)
        if recorded is not None and isinstance(recorded.event, DeliveryEvent):
            self.of(recorded.entity_id).apply(recorded.event)
            self.changed(recorded.entity_id, recorded.event)
        self._sequence = message.sequence
        self._moved.set()
