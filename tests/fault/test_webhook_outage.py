"""A receiver of webhooks is killed while events are sent to it, and for many retries: nothing is lost.

    FORGE_TEST_WEBHOOK_OUTAGE_SECONDS=300 pytest -m fault tests/fault/test_webhook_outage.py

keeps it away for minutes. Waits between retries are shortened by settings; `test_delivery_laws.py` has those of days.
"""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from system_testkit import webhook_receiver
from system_testkit.live_stack import LiveStack, live_stack
from system_testkit.webhook_receiver import deliveries_in

from dreamforge.runtime import clock
from dreamforge.runtime.embedded import GuardedProcess, spawn
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.choice import chosen_servers

OUTAGE_SECONDS = float(os.environ.get("FORGE_TEST_WEBHOOK_OUTAGE_SECONDS", "0"))
pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(120 + OUTAGE_SECONDS),
    pytest.mark.asyncio(loop_scope="module"),
]
KINDS = ["job.requested", "job.started", "job.artifact-stored", "job.succeeded"]
OWN = {
    "FORGE_GATEWAY_WEBHOOK_KEY": "k" * 32,
    "FORGE_GATEWAY_WEBHOOK_NETWORKS": "127.0.0.1",
    "FORGE_GATEWAY_WEBHOOK_HTTP": "true",
    "FORGE_GATEWAY_WEBHOOK_FIRST_RETRY_SECONDS": "0.1",
    "FORGE_GATEWAY_WEBHOOK_LONGEST_RETRY_SECONDS": "1",
    "FORGE_RUNNER_STEP_DELAY_SECONDS": "0.005",
}
RETRIES = 5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveStack]:
    if chosen_servers() != "embedded":
        pytest.skip("starts servers of its own: needs FORGE_TEST_SERVERS=embedded")
    async with live_stack(tmp_path_factory.mktemp("outage"), **OWN) as running:
        yield running


async def start_receiver(port: int, secret: str, file: Path) -> GuardedProcess:
    """A process of its own; it may not listen yet, which is a failed delivery more."""
    command = [sys.executable, "-m", webhook_receiver.__name__, str(port), secret, str(file)]
    paths = os.pathsep.join([str(Path(webhook_receiver.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return await spawn(command, environment=dict(os.environ) | {"PYTHONPATH": paths})


async def finished_jobs(stack: LiveStack, count: int) -> list[str]:
    jobs = [await stack.submit() for _ in range(count)]
    for job_id in jobs:
        assert (await stack.finished(job_id))["status"] == "succeeded"
    return jobs


async def test_nothing_is_lost_while_the_receiver_is_killed_and_away_for_many_retries(
    stack: LiveStack, tmp_path: Path
) -> None:
    file, port = tmp_path / "deliveries", free_port()
    body = {"url": f"http://127.0.0.1:{port}/", "kinds": KINDS}
    webhook = (await stack.request("POST", "/v1/webhooks", json=body)).json()
    path = f"/v1/webhooks/{webhook['webhook_id']}"
    receiver = await start_receiver(port, webhook["secret"], file)

    async def attempts() -> dict[str, int]:
        shown = (await stack.request("GET", f"{path}/deliveries?status=failed&limit=200")).json()["deliveries"]
        return {each["job_id"]: each["attempts"] for each in reversed(shown)}

    jobs = await finished_jobs(stack, 1)
    await eventually(lambda: bool(deliveries_in(file)), 30)
    sent = [await stack.submit() for _ in range(4)]
    await receiver.kill()  # while it gets these
    began = clock.monotonic_seconds()
    jobs += [*sent, *await finished_jobs(stack, 3)]

    async def away_long_enough() -> bool:
        tried = await attempts()
        return max(tried.values(), default=0) >= RETRIES and clock.monotonic_seconds() - began >= OUTAGE_SECONDS

    await eventually(away_long_enough, 60 + OUTAGE_SECONDS)
    await stack.kill_and_start_again("gateway")  # who delivers dies too: all that it needs is in the log
    await eventually(stack.ready, 60, interval_seconds=0.2)
    jobs += await finished_jobs(stack, 1)
    receiver = await start_receiver(port, webhook["secret"], file)

    async def shown() -> dict[str, Any]:
        found: dict[str, Any] = (await stack.request("GET", path)).json()
        return found

    def arrived() -> bool:
        return all(types_of(file, job_id)[-1:] == ["job.succeeded"] for job_id in jobs)

    try:
        await eventually(arrived, 60)
        assert {tuple(types_of(file, job_id)) for job_id in jobs} == {tuple(KINDS)}
        assert (await eventually(shown, 30, until=lambda found: found["failing_jobs"] == 0))["parked"] == 0
    finally:
        await receiver.kill()


def types_of(file: Path, job_id: str) -> list[str]:
    """The events of a job in the order of their first arrival; a repeat has the id of the first one."""
    found = {each["id"]: each["event"] for each in deliveries_in(file)}
    return [event["type"] for event in found.values() if event["data"]["job_id"] == job_id]
