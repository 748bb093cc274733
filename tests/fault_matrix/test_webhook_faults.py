"""Every call of the gateway that delivers to webhooks, times every way in which it can go wrong: all of it arrives.

It has a system of its own: with webhooks, the calls of the deliverer are no longer told from those of the routes.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from system_testkit.fault_injection import FaultCase, fault_injector
from system_testkit.in_process_system import InProcessSystem, in_process_system
from system_testkit.webhook_receiver import WebhookReceiver

from dreamforge.gateway.webhooks import session
from dreamforge.runtime import ids
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.choice import chosen_servers

pytestmark = [pytest.mark.fault, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
KINDS = ["job.requested", "job.succeeded"]
OWN = {
    "FORGE_GATEWAY_WEBHOOK_KEY": "k" * 32,
    "FORGE_GATEWAY_WEBHOOK_NETWORKS": "127.0.0.1",
    "FORGE_GATEWAY_WEBHOOK_HTTP": "true",
    "FORGE_GATEWAY_WEBHOOK_FIRST_RETRY_SECONDS": "0.1",
}
NOTHING_DONE, EVERY = frozenset((FaultCase.ERROR, FaultCase.TIMEOUT)), frozenset(FaultCase)
CHECKPOINT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class DelivererCall:
    """One call, as it looks on the wire. A client gets a 503 in the cases of `refused_in`."""

    name: str
    wire: str
    refused_in: frozenset[FaultCase] = frozenset()
    disconnect: bool = False


CALLS = (
    DelivererCall("renews which gateway delivers", r"^gateway\S* \$KV\.leaders\.webhooks$"),
    DelivererCall("follows the webhooks", r"^gateway\S* \$JS\.API\.CONSUMER\.CREATE\.WEBHOOKS", disconnect=True),
    DelivererCall("follows the deliveries", r"^gateway\S* \$JS\.API\.CONSUMER\.CREATE\.DELIVERIES", disconnect=True),
    DelivererCall("follows the log of jobs", r"^gateway\S* \$JS\.API\.CONSUMER\.CREATE\.JOBS", disconnect=True),
    DelivererCall("loads the job of a delivery", r"^gateway\S* \$JS\.API\.DIRECT\.GET\.JOBS$"),
    DelivererCall("records what has arrived", r"^gateway\S* forge\.deliveries\.\w+\.succeeded$"),
    DelivererCall("records how far it has read", r"^gateway\S* forge\.deliveries\.\w+\.reached$"),
    DelivererCall("appends that a webhook has ended", r"^gateway\S* forge\.webhooks\.\w+\.ended$"),
    # Of the routes.
    DelivererCall("appends that a webhook is there", r"^gateway\S* forge\.webhooks\.\w+\.created$", NOTHING_DONE),
    DelivererCall("asks whether there is one", r"^gateway\S* \$JS\.API\.STREAM\.MSG\.GET\.WEBHOOKS$", EVERY),
)


@dataclass
class DeliveringSystem:
    """The system, a receiver, and a webhook of all jobs."""

    system: InProcessSystem
    receiver: WebhookReceiver
    webhook_id: str

    async def job_with_a_webhook_of_its_own(self) -> tuple[str, str]:
        """A job that is finished, and the webhook that was for it alone."""
        job_id = await self.system.submit(steps=20)
        await eventually(lambda: self.receiver.types(job_id), 30)
        body, key = {"url": self.receiver.url, "job_id": job_id}, {"Idempotency-Key": ids.new_id()}
        made = (await self.system.request("POST", "/v1/webhooks", json=body, headers=key)).json()
        assert (await self.system.finished(job_id))["status"] == "succeeded"
        return job_id, str(made["webhook_id"])

    def has_arrived(self, job_id: str) -> bool:
        """Whether the end of a job is there."""
        return "job.succeeded" in self.receiver.types(job_id)

    async def has_ended(self, webhook_id: str) -> bool:
        """Whether a webhook says that nothing more is sent."""
        shown = (await self.system.request("GET", f"/v1/webhooks/{webhook_id}")).json()
        return shown["ended_at"] is not None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def delivering(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DeliveringSystem]:
    if chosen_servers() != "embedded":
        pytest.skip("starts servers of its own: needs FORGE_TEST_SERVERS=embedded")
    folder, receiver = tmp_path_factory.mktemp("webhooks"), WebhookReceiver()
    with fault_injector() as faults, pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "CHECKPOINT_SECONDS", CHECKPOINT_SECONDS)
        async with in_process_system(folder, faults, **OWN) as system:
            await receiver.start()
            body = {"url": receiver.url, "kinds": KINDS}
            made = (await system.request("POST", "/v1/webhooks", json=body)).json()
            yield DeliveringSystem(system, receiver, made["webhook_id"])
            await receiver.stop()


@pytest.mark.parametrize("case", FaultCase)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name.replace(" ", "-"))
async def test_all_that_happens_arrives_whatever_call_fails(
    delivering: DeliveringSystem, call: DelivererCall, case: FaultCase
) -> None:
    system = delivering.system
    await eventually(system.ready, 30)
    system.refusals.clear()
    with system.faults.inject(case, call.wire) as fault:
        if call.disconnect:
            system.faults.disconnect("gateway")
            await eventually(lambda: fault.hits, 30)
            await eventually(system.ready, 30)
        job_id, webhook_id = await delivering.job_with_a_webhook_of_its_own()
        await eventually(lambda: delivering.has_arrived(job_id), 30)
        await eventually(lambda: delivering.has_ended(webhook_id), 30)
        await eventually(lambda: fault.hits, 30)

    assert len(system.refusals) == (case in call.refused_in), system.refusals
    first_arrivals = dict.fromkeys(delivering.receiver.types(job_id))
    assert list(first_arrivals) == KINDS
    shown = (await system.request("GET", f"/v1/webhooks/{delivering.webhook_id}")).json()
    assert (shown["failing_jobs"], shown["parked"]) == (0, 0)
    assert await last_sequence(system.bus, "PARKED") == 0, "a valid event was parked"
