"""Deadlines, stalls and crashes where it counts: torch in the child, a real pipeline, the whole system around it."""

import os
import signal
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from system_testkit.live_stack import LiveStack, live_stack

from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.choice import chosen_servers

pytestmark = [
    pytest.mark.fault,
    pytest.mark.torch,
    pytest.mark.timeout(280),
    pytest.mark.asyncio(loop_scope="module"),
]
# A step of the tiny model takes some 10 ms. One that takes longer than this on a busy machine would fail the tests.
STALL_SECONDS = 4.0
SLOW_JOB_SECONDS = 120.0
LONG = {"model_id": "tiny", "steps": 150, "images": 2}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveStack]:
    """One system for all tests of this file: starting torch takes seconds, and outliving them is part of the test."""
    if chosen_servers() != "embedded":
        pytest.skip("starts servers of its own: needs FORGE_TEST_SERVERS=embedded")
    own = {"FORGE_RUNNER_STALL_SECONDS": str(STALL_SECONDS), "FORGE_RETRY_BASE_SECONDS": "0.1"}
    async with live_stack(tmp_path_factory.mktemp("real"), renderer="diffusers", **own) as running:
        yield running


def worker_pid(stack: LiveStack) -> int:
    """The worker process."""
    runner = stack.processes["gpu-runner"].pid
    found = subprocess.run(["pgrep", "-P", str(runner), "-f", "worker"], capture_output=True, text=True, check=True)
    (pid,) = found.stdout.split()
    return int(pid)


async def rendering(stack: LiveStack, job_id: str) -> None:
    """Wait until a job is past its first step."""
    await eventually(lambda: stack.job(job_id), SLOW_JOB_SECONDS, until=lambda job: job["step"] is not None)


async def attempts(stack: LiveStack, job_id: str) -> list[tuple[str, str | None]]:
    """How each attempt of a finished job ended, and why."""
    found: Any = (await stack.finished(job_id, SLOW_JOB_SECONDS))["attempts"]
    return [(each["status"], each["reason"]) for each in found]


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGSTOP, "stalled"), (signal.SIGSEGV, "child_crashed")],
    ids=lambda value: getattr(value, "name", value),
)
async def test_a_worker_that_stops_rendering_costs_one_attempt(
    stack: LiveStack, number: signal.Signals, reason: str
) -> None:
    job_id = await stack.submit(**LONG)
    await rendering(stack, job_id)
    killed = worker_pid(stack)
    os.kill(killed, number)
    assert await attempts(stack, job_id) == [("failed", reason), ("succeeded", None)]
    job: Any = await stack.job(job_id)
    assert len(job["artifacts"]) == LONG["images"]
    assert worker_pid(stack) != killed
    assert not stack.exited()


async def test_a_render_past_its_deadline_is_stopped_and_the_child_goes_on(stack: LiveStack) -> None:
    late = await stack.submit(**LONG | {"images": 16}, deadlines={"run_within_seconds": 1.0})
    await rendering(stack, late)
    before = worker_pid(stack)
    assert await attempts(stack, late) == [("failed", "run_deadline")]
    job: Any = await stack.job(late)
    assert (job["status"], job["failure_reason"]) == ("failed", "run_deadline")
    assert len(job["artifacts"]) < 16
    next_one = await stack.submit(model_id="tiny", steps=2)
    assert await attempts(stack, next_one) == [("succeeded", None)]
    assert worker_pid(stack) == before, "it was stopped between two steps, not killed"
