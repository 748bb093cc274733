"""The events of all jobs of one client, for interfaces with one connection for them. Part of the seam, as `runs`."""

from dataclasses import dataclass
from functools import partial

from starlette.requests import Request

from dreamforge.contracts.quotas import Quota
from dreamforge.gateway.events.hub import Hub, Subscription
from dreamforge.gateway.events.sse import Acceptance, SseEvent
from dreamforge.gateway.events.stream import facts_of
from dreamforge.gateway.facades.runs import workflow_rows
from dreamforge.gateway.read.queries import OPEN
from dreamforge.gateway.routes.common import dependencies_of, tenant_of

# Jobs of a client that connects late, whose history it is told.
JOBS_MAX = 100


@dataclass(frozen=True, slots=True)
class ClientEvents:
    """An open subscription to the jobs whose workflow names a client of a tenant."""

    hub: Hub
    subscription: Subscription
    acceptance: Acceptance

    def leave(self, job_id: str) -> None:
        """Hear no more of a job."""
        self.acceptance.forget(job_id)
        self.hub.leave(self.subscription, job_id)

    def close(self) -> None:
        """End it."""
        self.hub.close(self.subscription)


async def open_client(request: Request, client_id: str) -> ClientEvents:
    """Subscribe, as a stream of the sender's tenant. Errors: QuotaExceeded, StreamsFull, DependencyAway, OtherLog."""
    dependencies, tenant = dependencies_of(request), tenant_of(request)
    dependencies.same_log.require()
    hub, quotas = dependencies.log.hub, dependencies.quotas
    quotas.hold(tenant, Quota.STREAMS)
    subscription = await hub.open_client(tenant, client_id, partial(quotas.release, tenant, Quota.STREAMS))
    return ClientEvents(hub, subscription, Acceptance())


async def past_events(request: Request, events: ClientEvents, client_id: str) -> list[SseEvent]:
    """What was before of its jobs that have not ended; the subscription has what follows. Errors: DependencyAway."""
    found: list[SseEvent] = []
    for row in reversed(await workflow_rows(request, statuses=OPEN, limit=JOBS_MAX, client_id=client_id)):
        events.hub.follow(events.subscription, row["job_id"])
        found += await facts_of(events.hub, row["job_id"])
    return found
