"""What the routes depend on. It can be built with nothing running, and connects in the background."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from loguru import logger

from dreamforge.contracts.access import KeyState
from dreamforge.contracts.deliveries import Deliveries
from dreamforge.contracts.errors import DependencyAway, Unavailable
from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.log.permissions import GATEWAY
from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.tenants import UNCONFIGURED, Metadata, TenantState
from dreamforge.contracts.webhooks import WebhookState
from dreamforge.gateway.batches.template_process import TemplateProcesses
from dreamforge.gateway.events.hub import Hub
from dreamforge.gateway.events.tenant_feed import TenantFeed
from dreamforge.gateway.http.direct_links import DirectLinks
from dreamforge.gateway.http.errors import ProjectionBehind
from dreamforge.gateway.identity.audit import Audit
from dreamforge.gateway.identity.credentials import Credentials
from dreamforge.gateway.quotas.tenant_quotas import TenantQuotas
from dreamforge.gateway.quotas.usage_tables import UsageTables
from dreamforge.gateway.read import queries
from dreamforge.gateway.read.checkpoints import Checkpoints
from dreamforge.gateway.read.database import Database
from dreamforge.gateway.read.same_log import SameLog
from dreamforge.gateway.read.stripped_images import StrippedImages
from dreamforge.gateway.read.thumbnails import Thumbnails
from dreamforge.gateway.settings import GatewaySettings
from dreamforge.gateway.submit.body import submission_for
from dreamforge.gateway.submit.card_presets import CardPresets
from dreamforge.gateway.submit.uploads import Uploads
from dreamforge.gateway.webhooks.deliverer import Deliverer
from dreamforge.gateway.webhooks.sender import Sender
from dreamforge.gateway.webhooks.session import DeliverySession
from dreamforge.runtime import ids
from dreamforge.runtime.http.outgoing_rule import OutgoingRule
from dreamforge.runtime.log.bus import ApiError, Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.probe import LogProbe
from dreamforge.runtime.log.streams import open_log
from dreamforge.runtime.log.views import (
    AddressesView,
    DeliveriesView,
    FleetView,
    KeysView,
    ModelsView,
    QueuesView,
    TenantsView,
    WebhooksView,
)
from dreamforge.runtime.network import networks_of
from dreamforge.runtime.service import retry
from dreamforge.runtime.service.health import Check, ReadinessChecks
from dreamforge.runtime.service.tasks import TaskGroup
from dreamforge.runtime.storage.bucket_owner import ClaimedBucket
from dreamforge.runtime.storage.job_archive import JobArchive
from dreamforge.runtime.storage.objects import ObjectStore

if TYPE_CHECKING:
    from dreamforge.gateway.identity.oidc import Oidc

ANNOUNCE_SECONDS = 1.0
# Every start takes a moment to connect: it is worth a warning after half a second, by the pauses of `backoff`.
QUIET_TRIES = 3
# A notification follows its commit within milliseconds.
NOTIFIED_SECONDS = 1.0
JOBS_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Log:
    """What exists once NATS was reached."""

    bus: Bus
    store: EventStore
    fleet: FleetView
    models: ModelsView
    queues: QueuesView
    keys: KeysView
    tenants: TenantsView
    webhooks: WebhooksView
    deliveries: DeliveriesView
    hub: Hub


class Dependencies:
    """The dependencies of the gateway, each of which may be unavailable at any time."""

    def __init__(self, settings: GatewaySettings) -> None:
        url = settings.database_url.get_secret_value()
        seconds = settings.gateway_database_timeout_seconds
        self.settings = settings
        self.database = Database(url, pool_size=settings.gateway_database_pool, timeout_seconds=seconds)
        self.checkpoints = Checkpoints(url)
        self.tenant_feed = TenantFeed(self.database, self.checkpoints)
        self.same_log = SameLog(self.database)
        self.objects = ObjectStore(settings)
        self.bucket = ClaimedBucket(self.objects)
        self.stripped_images = StrippedImages(self.objects)
        self.direct_links = _direct_links(settings)
        self.thumbnails = Thumbnails(self.objects, settings.limit.upload_pixels)
        self.uploads = Uploads(
            self.objects,
            settings.limit,
            self._rendered_for,
            at_once=settings.gateway_uploads,
            decode_seconds=settings.gateway_decode_seconds,
        )
        self.templates = TemplateProcesses(settings.gateway_template_seconds)
        self.wildcards_dir = settings.gateway_wildcards_dir
        self.wildcards_bytes = settings.gateway_wildcards_bytes
        self.schema = submission_for(settings.limit)
        self.credentials = Credentials(self.keys if "keys" in settings.gateway_auth else None, _oidc(settings))
        self.quotas = TenantQuotas(
            UsageTables(self.database, self.uploads.bytes_of),
            self.tenants,
            installation=settings.quota,
            open_jobs=settings.limit.open_jobs,
        )
        self._source = f"/dreamforge/gateway/{ids.new_id()}"
        self._tenants_of_jobs: dict[str, str] = {}
        self.audit = Audit(self._source)
        self._log: Log | None = None
        self._card_presets = CardPresets()
        checks: dict[str, Check] = {
            "nats": self._check_nats,
            "postgres": self._check_postgres,
            "log": self.same_log.check,
            "s3": self.bucket.check,
        }
        self._readiness = ReadinessChecks(checks)

    @property
    def log(self) -> Log:
        """Errors: DependencyAway at once, rather than after a time-out, while NATS is not connected."""
        if self._log is None or not self._log.bus.connected:
            raise DependencyAway(dependency="nats", reason="not connected")
        return self._log

    @property
    def limits(self) -> Limits:
        """The bounds of a request in this installation."""
        return self.settings.limit

    @property
    def store(self) -> EventStore:
        """The jobs. Errors: as `log`."""
        return self.log.store

    def models(self) -> Mapping[str, ModelDescriptor]:
        """The registered models, their default presets for the cards of live runners.

        Errors: DependencyAway until the registry was read once, and the heartbeats where a preset is for a card.
        """
        view = self.log.models
        if not view.ready.is_set():
            raise DependencyAway(dependency="nats", reason="the registry of models has not been read yet")
        return self._card_presets.of(view.models, self.heartbeats)

    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """The heartbeats of live runners. Errors: DependencyAway until they were read once."""
        view = self.log.fleet
        if not view.ready.is_set():
            raise DependencyAway(dependency="nats", reason="the heartbeats have not been read yet")
        return view.live()

    def held_queues(self) -> Mapping[str, datetime]:
        """The queues that are held, by scope, and since when. Errors: DependencyAway until they were read once."""
        view = self.log.queues
        if not view.ready.is_set():
            raise DependencyAway(dependency="nats", reason="the held queues have not been read yet")
        return view.held

    async def tenant_of_job(self, job_id: str) -> str | None:
        """Whose job it is, remembered for jobs that were asked for lately; None: there is none. Errors: as `log`."""
        tenant = self._tenants_of_jobs.pop(job_id, None) or (await self.store.load(job_id)).state.tenant or None
        if tenant is not None:
            self._tenants_of_jobs[job_id] = tenant
        if len(self._tenants_of_jobs) > JOBS_REMEMBERED:
            del self._tenants_of_jobs[next(iter(self._tenants_of_jobs))]
        return tenant

    def keys(self) -> Mapping[str, KeyState]:
        """The API keys, by id. Errors: DependencyAway until they were read once."""
        view = self.log.keys
        if not view.ready.is_set():
            raise DependencyAway(dependency="nats", reason="the API keys have not been read yet")
        return view.keys

    def tenants(self) -> Mapping[str, TenantState]:
        """The tenants that were configured, by name. Errors: DependencyAway until they were read once."""
        view = self.log.tenants
        if not view.ready.is_set():
            raise DependencyAway(dependency="nats", reason="the tenants have not been read yet")
        return view.tenants

    def images_for(self, tenant: str, metadata: Metadata | None = None) -> ObjectStore | StrippedImages:
        """The images of a tenant, with their recipes or without, as is asked for or else as the tenant has set it.

        Errors: DependencyAway until the tenants were read once.
        """
        chosen = metadata or self.tenants().get(tenant, UNCONFIGURED).metadata
        return self.stripped_images if chosen == "none" else self.objects

    def webhooks(self) -> Mapping[str, WebhookState]:
        """The webhooks of every tenant, by id. Errors: DependencyAway until they were read once."""
        view = self.log.webhooks
        if not view.ready.is_set():
            raise DependencyAway(dependency="nats", reason="the webhooks have not been read yet")
        return view.webhooks

    def deliveries_to(self, webhook_id: str) -> Deliveries:
        """What became of deliveries to a webhook. Errors: DependencyAway until they were read once."""
        view = self.log.deliveries
        if not view.ready.is_set():
            raise DependencyAway(dependency="nats", reason="the deliveries have not been read yet")
        return view.of(webhook_id)

    @property
    def source(self) -> str:
        """The CloudEvents source of what this gateway appends."""
        return self._source

    async def run(self) -> None:
        """Connect to everything and follow it until cancelled. Errors: BrokerUnfit, DatabaseUnfit."""
        try:
            async with TaskGroup() as tasks:
                tasks.create_task(self.checkpoints.run(), name="checkpoints")
                tasks.create_task(self.tenant_feed.run(), name="tenant-feed")
                tasks.create_task(self._follow_log(), name="log")
                tasks.create_task(self._announce(), name="announce")
                if self.credentials.oidc is not None:
                    tasks.create_task(self.credentials.oidc.provider.run(), name="oidc")
        except* Exception as group:
            raise _first(group) from None  # one clear line for the operator

    async def check(self) -> dict[str, str]:
        """Ready or the reason why not, by dependency."""
        return await self._readiness.results()

    async def drain(self) -> None:
        """Tell the clients of the event streams to reconnect later."""
        if self._log is not None:
            self._log.hub.drain()

    async def close(self) -> None:
        """Finish what is in flight, and disconnect."""
        await self.quotas.close()
        await self.uploads.close()
        if self.credentials.oidc is not None:
            await self.credentials.oidc.provider.close()
        if self._log is not None:
            await self.audit.flush(self._log.bus)
            await self._log.store.close()
            await self._log.bus.close()
        await self.database.close()

    async def _follow_log(self) -> None:
        settings = self.settings
        bus = await open_log(settings, f"gateway-{self._source.rpartition('/')[2]}", user=GATEWAY)
        hub = Hub(
            bus,
            limit_streams=settings.gateway_streams,
            limit_bytes=settings.gateway_stream_buffer_bytes,
            heartbeat_seconds=settings.gateway_heartbeat_seconds,
            archive=JobArchive(self.objects),
        )
        store, webhooks = EventStore(bus, self._source, archive=hub.archive), WebhooksView(bus)
        log = self._log = Log(
            bus,
            store,
            FleetView(bus),
            ModelsView(bus),
            QueuesView(bus),
            KeysView(bus),
            TenantsView(bus, changed=self.quotas.changed),
            webhooks,
            DeliveriesView(bus, sends=webhooks.sends),
            hub,
        )
        async with TaskGroup() as tasks:
            tasks.create_task(log.fleet.run(), name="fleet")
            tasks.create_task(log.models.run(), name="models")
            tasks.create_task(log.queues.run(), name="queues")
            tasks.create_task(log.keys.run(), name="keys")
            tasks.create_task(log.tenants.run(), name="tenants")
            tasks.create_task(log.webhooks.run(), name="webhooks")
            tasks.create_task(log.deliveries.run(), name="deliveries")
            if settings.gateway_webhook_key.get_secret_value():
                tasks.create_task(self._deliver(bus, store, log.webhooks), name="deliverer")
            if settings.gateway_auth != "none":
                addresses = AddressesView(bus)
                tasks.create_task(addresses.run(), name="addresses")
                tasks.create_task(self.audit.run(bus, addresses), name="audit")
            tasks.create_task(retry.until_it_works("the event streams", hub.run, Unavailable, ApiError), name="hub")
            tasks.create_task(self.same_log.run(bus), name="same-log")
            tasks.create_task(self.bucket.claim(bus), name="bucket")

    async def _deliver(self, bus: Bus, store: EventStore, webhooks: WebhooksView) -> None:
        """Deliver to webhooks, while no other gateway does."""
        settings, source = self.settings, self._source
        sender = Sender(self.outgoing_rule, settings.gateway_webhook_timeout_seconds)

        def session() -> DeliverySession:
            return DeliverySession(bus, store, webhooks, settings, sender, self.tenant_of_job, source)

        try:
            await Deliverer(bus, source, session).run()
        finally:
            await sender.close()

    @property
    def outgoing_rule(self) -> OutgoingRule:
        """Where webhooks may be sent."""
        return OutgoingRule(networks_of(self.settings.gateway_webhook_networks))

    async def _announce(self) -> None:
        logged: dict[str, str] = {}
        async for attempt in retry.backoff("readiness", cap_seconds=ANNOUNCE_SECONDS):
            unavailable = {name: reason for name, reason in (await self.check()).items() if reason != "ok"}
            if not unavailable:
                logger.info("gateway is ready")
                return
            if attempt > QUIET_TRIES and unavailable.keys() != logged.keys():
                logger.warning("not ready: {}", "; ".join(f"{name}: {reason}" for name, reason in unavailable.items()))
                logged = unavailable

    async def _check_nats(self) -> None:
        log = self.log
        self.heartbeats()
        self.models()
        self.held_queues()
        self.keys()
        self.tenants()
        if not log.hub.ready:
            raise DependencyAway(dependency="nats", reason="the event streams are not followed yet")
        await LogProbe(log.bus, "gateway", self.settings.nats_monitor_urls).check()

    async def _check_postgres(self) -> None:
        sequence = await self.database.checkpoint()
        if not self.checkpoints.listening:
            raise DependencyAway(dependency="postgres", reason="not listening to the projection yet")
        try:
            await self.checkpoints.wait_for(sequence, NOTIFIED_SECONDS)
        except ProjectionBehind as error:
            reason = f"the tables are at {sequence}, and no notification of the projection came after {error.reached}"
            raise DependencyAway(dependency="postgres", reason=reason) from error

    async def _rendered_for(self, sha256: str, tenant: str | None) -> bool:
        return await self.database.row(queries.rendered_for(sha256, tenant)) is not None


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    """The first error of a group, however deep."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _oidc(settings: GatewaySettings) -> "Oidc | None":
    """Imported where it is used: an HTTP client and the cryptography of its tokens are 0.2 s of a start."""
    if "oidc" not in settings.gateway_auth:
        return None
    from dreamforge.gateway.identity.oidc import Oidc

    return Oidc(settings)


def _direct_links(settings: GatewaySettings) -> DirectLinks | None:
    url = settings.gateway_pictures_url
    return DirectLinks(settings, url, settings.gateway_pictures_seconds) if url else None
