"""A retry, a takeover and a rebuild, while each process is the user of the bus that deploy/nats gives it.

The users of the embedded server and those of deploy/nats/permissions.conf are made from one table
(`task check:nats-permissions`). A job and a cancel are in test_finished_images.py; what a user may not, in
test_bus_permissions.py of the runtime.
"""

from collections.abc import AsyncIterator

import psutil
import pytest
import pytest_asyncio
from system_testkit.live_stack import LiveStack, live_stack

from dreamforge.projector.maintenance.rebuild import rebuild
from dreamforge.projector.maintenance.verify import verify
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.choice import chosen_servers

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]
OWN = {"FORGE_RUNNER_STEP_DELAY_SECONDS": "0.05", "FORGE_RETRY_BASE_SECONDS": "0.1"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveStack]:
    if chosen_servers() != "embedded":
        pytest.skip("starts servers of its own: needs FORGE_TEST_SERVERS=embedded")
    async with live_stack(tmp_path_factory.mktemp("users"), **OWN) as running:
        yield running
        for spec in running.specs:
            assert "permissions violation" not in running.log_of(spec.name).lower(), spec.name


async def status_of(stack: LiveStack, job_id: str) -> str:
    return str((await stack.job(job_id))["status"])


async def test_an_attempt_that_fails_is_retried(stack: LiveStack) -> None:
    job_id = await stack.submit(steps=60)
    await eventually(lambda: status_of(stack, job_id), 30, until=lambda status: status == "running")
    runner = psutil.Process(stack.processes["gpu-runner"].pid)
    (worker,) = (each for each in runner.children() if "dreamforge.gpu_runner.worker" in each.cmdline())
    worker.kill()
    assert (await stack.finished(job_id, 60))["status"] == "succeeded"
    facts = [event.event for event in await stack.read_events(job_id) if event.event != "step"]
    assert facts == [
        "requested",
        "assigned",
        "started",
        "attempt-failed",
        "assigned",
        "started",
        "artifact",
        "succeeded",
    ]


async def test_another_scheduler_takes_over(stack: LiveStack) -> None:
    await stack.start_another("scheduler", "scheduler-2")
    await eventually(stack.ready, 60)
    await stack.kill("scheduler")
    assert (await stack.finished(await stack.submit(steps=2), 60))["status"] == "succeeded"


async def test_the_tables_are_rebuilt_by_the_administrator_beside_a_projector_that_is_none(stack: LiveStack) -> None:
    job_id = await stack.submit(steps=2)
    before = await stack.finished(job_id)
    assert (await rebuild(stack.settings)).events > 0
    assert (await verify(stack.settings)).equal
    assert await stack.job(job_id) == before
    assert (await stack.finished(await stack.submit(steps=2)))["status"] == "succeeded"  # the projector goes on
