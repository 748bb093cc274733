"""Delivers for as long as this gateway leads: reads JOBS, sends what webhooks want, records what became of it.

Each webhook is served by tasks of its own, so that none waits for the receiver of another. All that a restart, or the
next leader, needs is in the log: see `contracts.deliveries`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from datetime import timedelta
from typing import Any

from prometheus_client import Counter

from dreamforge.contracts.deliveries import Backlog, DeliveryQueue
from dreamforge.contracts.events import TERMINAL_EVENTS, JobEvent
from dreamforge.contracts.log.envelope import Recorded, seal
from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.webhook_events import (
    DeliveriesReached,
    DeliveryDropped,
    DeliveryEvent,
    DeliveryFailed,
    DeliveryParked,
    DeliveryReplayed,
    DeliverySucceeded,
    JobDelivery,
)
from dreamforge.contracts.webhooks import KINDS, EndWebhook, kind_of
from dreamforge.gateway.webhooks.endpoint import Endpoint
from dreamforge.gateway.webhooks.sender import Sender, SendOutcome
from dreamforge.gateway.webhooks.settings import WebhookSettings
from dreamforge.gateway.webhooks.signing import body_of, headers_of, opened_secrets, seal_of
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.aggregate import WEBHOOK
from dreamforge.runtime.log.bus import Bus, ack
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.log.views import DeliveriesView, WebhooksView
from dreamforge.runtime.service.tasks import TaskGroup, run_until_first
from dreamforge.runtime.service.telemetry import LAG

DELIVERED = Counter("forge_webhook_deliveries_total", "Attempts to deliver to webhooks", ["outcome"])
# How far JOBS was read is recorded so often, and again after a day, long before the stream forgets it.
CHECKPOINT_SECONDS, CHECKPOINT_AGAIN = 30.0, timedelta(days=1)
KIND_OF_TOKEN = {event.TOKEN: kind for kind, event in KINDS.items()}
TERMINAL_TOKENS = frozenset(event.TOKEN for event in TERMINAL_EVENTS)
NO_SECRET = "no secret can be opened: FORGE_GATEWAY_WEBHOOK_KEY has changed, so rotate the secret of this webhook"


class DeliverySession:
    """One term of the gateway that delivers. `tenant_of_job` gives None for a job that is not there any more."""

    def __init__(
        self,
        bus: Bus,
        store: EventStore,
        webhooks: WebhooksView,
        settings: WebhookSettings,
        sender: Sender,
        tenant_of_job: Callable[[str], Awaitable[str | None]],
        source: str,
    ) -> None:
        self._bus, self._store, self._webhooks, self._settings = bus, store, webhooks, settings
        self._sender, self._tenant_of_job, self._source = sender, tenant_of_job, source
        self._view = DeliveriesView(bus, changed=self._recorded, sends=webhooks.sends)
        self._endpoints: dict[str, Endpoint] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._read_again = asyncio.Event()

    async def run(self) -> None:
        """Deliver until cancelled. Errors: DependencyAway, ApiError, LogReplaced, maybe in a group."""
        async with TaskGroup() as group:
            group.create_task(self._view.run())
            await self._view.ready.wait()
            await self._webhooks.ready.wait()
            unchanged = self._webhooks.changed

            def changed(webhook_id: str) -> None:
                if not group.is_ending:  # the view that calls this goes on, and the next session reads all webhooks
                    self._changed(group, webhook_id)

            self._webhooks.changed = changed
            for webhook_id in tuple(self._webhooks.webhooks):
                changed(webhook_id)
            group.create_task(self._record_places())
            try:
                await self._follow()
            finally:
                self._webhooks.changed = unchanged

    def _changed(self, group: asyncio.TaskGroup, webhook_id: str) -> None:
        """A webhook was created, changed or deleted."""
        state = self._webhooks.webhooks.get(webhook_id)
        if state is None or state.created is None:
            self._endpoints.pop(webhook_id, None)
            if task := self._tasks.pop(webhook_id, None):
                task.cancel()
            return
        if endpoint := self._endpoints.get(webhook_id):
            endpoint.state = state
            return
        deliveries = self._view.of(webhook_id)
        backlog = Backlog(max(state.created.from_sequence, deliveries.reached))
        limit = self._settings.gateway_webhook_open_jobs
        endpoint = self._endpoints[webhook_id] = Endpoint(webhook_id, state, deliveries, backlog, limit)
        for job_id, queue in deliveries.queues.items():
            if queue.is_open:
                endpoint.schedule(job_id)
        self._tasks[webhook_id] = group.create_task(self._serve(endpoint))
        self._read_again.set()

    def _recorded(self, webhook_id: str, event: DeliveryEvent) -> None:
        endpoint = self._endpoints.get(webhook_id)
        if endpoint is not None and isinstance(event, DeliveryReplayed):
            endpoint.schedule(event.job_id)

    async def _follow(self) -> None:
        """Read JOBS from the first place that a webhook needs; again, when one is new or has room again."""
        while True:
            self._read_again.clear()
            places = [each.backlog.through for each in self._endpoints.values() if not each.stopped]
            if places:
                await run_until_first(self._follow_from(min(places)), self._wait_to_read_again())
            else:
                await self._read_again.wait()

    async def _wait_to_read_again(self) -> None:
        await self._read_again.wait()

    async def _follow_from(self, sequence: int) -> None:
        async with aclosing(Follower(self._bus, JOBS.name, after_sequence=sequence).batches()) as batches:
            async for batch in batches:
                for message in batch.messages:
                    await self._offer(message)
                LAG.labels("webhooks", JOBS.name).set(batch.pending)

    async def _offer(self, message: LogMessage) -> None:
        _, _, job_id, _, token, *_ = f"{message.subject}....".split(".")
        kind = KIND_OF_TOKEN.get(token)
        reading = [
            each for each in self._endpoints.values() if not each.stopped and each.backlog.through < message.sequence
        ]
        asked = [each for each in reading if kind is not None and _may_want(each, job_id, kind)]
        tenant = await self._tenant_of_job(job_id) if asked else None
        for endpoint in reading:
            if kind is not None and tenant is not None and endpoint.state.wants(tenant, job_id, kind):
                endpoint.offer(job_id, message.sequence)
            else:
                endpoint.backlog.through = message.sequence
            endpoint.note_end(job_id, message.sequence, is_terminal=token in TERMINAL_TOKENS)

    async def _serve(self, endpoint: Endpoint) -> None:
        """Send what one webhook has to be sent, some jobs at once; one of a single job ends with it."""
        ended = await self._end_of_job(endpoint)
        endpoint.job_end = endpoint.job_end or ended
        await self._send_all(endpoint)
        await self._store.handle(WEBHOOK, endpoint.webhook_id, EndWebhook(clock.now()))

    async def _end_of_job(self, endpoint: Endpoint) -> int | None:
        """After which sequence nothing more can come, where it is known: this gateway may have read JOBS beyond it."""
        created = endpoint.state.created
        if created is None or created.job_id is None:
            return None
        loaded = await self._store.load(created.job_id)
        ends = [each.sequence for each in loaded.history if isinstance(each.event, TERMINAL_EVENTS)]
        return ends[0] if ends else loaded.version if loaded.state.hidden or not loaded.history else None

    async def _send_all(self, endpoint: Endpoint) -> None:
        """Until all is sent, where there is an end."""
        connections = self._settings.gateway_webhook_connections
        async with TaskGroup() as group:
            while not endpoint.is_finished:
                endpoint.wake.clear()
                for job_id in endpoint.begin(clock.now(), connections):
                    group.create_task(self._send_next(endpoint, job_id))
                wait = (endpoint.waiting[0][0] - clock.now()).total_seconds() if endpoint.waiting else None
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if wait is None else max(0.0, wait)):
                        await endpoint.wake.wait()

    async def _send_next(self, endpoint: Endpoint, job_id: str) -> None:
        """Make one attempt for a job, and record it."""
        before = endpoint.deliveries.queue(job_id)
        event = await self._attempt(endpoint, job_id, before)
        if event is not None:
            await self._view.reaches(await self._append(endpoint.webhook_id, event))
            DELIVERED.labels(event.TOKEN).inc()
            if isinstance(event, DeliverySucceeded) and before.attempts:
                endpoint.recovered()
        if endpoint.end(job_id):
            self._read_again.set()

    async def _attempt(self, endpoint: Endpoint, job_id: str, queue: DeliveryQueue) -> JobDelivery | None:
        created = endpoint.state.created
        assert created is not None, "only webhooks that exist have an endpoint"
        loaded = await self._store.load(job_id)
        wanted = {each.sequence: each for each in loaded.history if _kind(each) in created.kinds}
        head = queue.next_of(sequence for sequence in wanted if sequence > created.from_sequence)
        if head is None or head not in wanted or loaded.state.hidden or loaded.state.tenant != created.tenant:
            newest = max((head or 0, endpoint.backlog.until(job_id, queue), *queue.again))
            if newest <= queue.after and not queue.again:
                return None
            return DeliveryDropped(
                at=clock.now(), job_id=job_id, sequence=newest, until=newest, reason="the job was deleted"
            )
        outcome = await self._send(endpoint, wanted[head])
        until = max(endpoint.backlog.until(job_id, queue), *wanted)
        return self._result(job_id, head, until, _kind(wanted[head]), queue, outcome)

    async def _send(self, endpoint: Endpoint, recorded: Recorded) -> SendOutcome:
        created, now = endpoint.state.created, clock.now()
        assert created is not None
        assert isinstance(recorded.event, JobEvent)
        key = self._settings.gateway_webhook_key.get_secret_value()
        secrets = opened_secrets(seal_of(key, endpoint.webhook_id), endpoint.state.signing(now), now)
        if not secrets:
            return SendOutcome(0, NO_SECRET, 0.0)
        body = body_of(recorded, recorded.event)
        return await self._sender.send(created.url, headers_of(f"msg_{recorded.event_id}", now, body, secrets), body)

    def _result(
        self, job_id: str, sequence: int, until: int, kind: str, queue: DeliveryQueue, outcome: SendOutcome
    ) -> JobDelivery:
        now, attempts = clock.now(), queue.attempts + 1
        named: dict[str, Any] = {
            "at": now,
            "job_id": job_id,
            "sequence": sequence,
            "until": until,
            "kind": kind,
            "attempts": attempts,
        }
        if outcome.succeeded:
            return DeliverySucceeded(**named, status=outcome.status, elapsed_seconds=outcome.elapsed_seconds)
        since = queue.failing_since or now
        retry_at = self._settings.webhook_retries.retry_at(attempts, since, now, outcome.retry_after_seconds)
        if retry_at is None or outcome.final:
            return DeliveryParked(**named, reason=outcome.reason, failing_since=since)
        return DeliveryFailed(**named, reason=outcome.reason, failing_since=since, retry_at=retry_at)

    async def _append(self, webhook_id: str, event: DeliveryEvent) -> int:
        """Errors: DependencyAway, ApiError; then it is not known to be written, and the delivery is made again."""
        envelope = seal(event, entity_id=webhook_id, event_id=ids.new_id(), source=self._source)
        return int(ack(await self._bus.ask(envelope.subject, envelope.data, envelope.headers))["seq"])

    async def _record_places(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            for endpoint in tuple(self._endpoints.values()):
                place, known = endpoint.backlog.floor(endpoint.deliveries), endpoint.deliveries
                old = known.reached_at is None or clock.now() - known.reached_at > CHECKPOINT_AGAIN
                if place > known.reached or old:
                    await self._append(endpoint.webhook_id, DeliveriesReached(at=clock.now(), sequence=place))


def _kind(recorded: Recorded) -> str:
    return kind_of(type(recorded.event)) if isinstance(recorded.event, JobEvent) else ""


def _may_want(endpoint: Endpoint, job_id: str, kind: str) -> bool:
    created = endpoint.state.created
    return created is not None and endpoint.state.wants(created.tenant, job_id, kind)
