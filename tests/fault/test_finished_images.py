"""An image that is finished is shown at once and stays, whatever becomes of the rest of its job."""

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from system_testkit.live_stack import LiveStack, live_stack

from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.choice import chosen_servers

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]
# Half a second an image: long enough that the first one is seen before the last ends, on a busy machine too.
OWN = {"FORGE_RUNNER_STEP_DELAY_SECONDS": "0.05", "FORGE_RETRY_BASE_SECONDS": "0.1", "FORGE_RUNNER_SLOTS": "4"}
IMAGE = {"steps": 10, "seed": 40}
Job = dict[str, Any]  # Any: JSON


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveStack]:
    if chosen_servers() != "embedded":
        pytest.skip("starts servers of its own: needs FORGE_TEST_SERVERS=embedded")
    async with live_stack(tmp_path_factory.mktemp("finished"), **OWN) as running:
        yield running


async def with_an_image(stack: LiveStack, job_id: str) -> Job:
    """A job once it shows its first image."""
    return await eventually(lambda: stack.job(job_id), 30, until=lambda job: bool(job["artifacts"]))


def shown(job: Job) -> list[tuple[int, int]]:
    """The images of a job: (index, seed)."""
    return [(each["index"], each["seed"]) for each in job["artifacts"]]


async def fetch_all(stack: LiveStack, job: Job) -> None:
    """Every image that the job lists can be fetched, and is what the log says."""
    async with httpx.AsyncClient(base_url=stack.client.base_url, follow_redirects=True) as client:
        for each in job["artifacts"]:
            data = (await client.get(each["url"])).raise_for_status().content
            assert hashlib.sha256(data).hexdigest() == each["sha256"]


async def test_an_image_is_shown_before_the_next_ones_are_rendered(stack: LiveStack) -> None:
    job_id = await stack.submit(**IMAGE, images=4)
    early = await with_an_image(stack, job_id)
    assert early["status"] == "running"
    assert len(early["artifacts"]) < 4
    await fetch_all(stack, early)
    job = await stack.finished(job_id)
    assert (job["status"], shown(job)) == ("succeeded", [(0, 40), (1, 41), (2, 42), (3, 43)])
    await fetch_all(stack, job)
    names = [(event.event, event.data) for event in await stack.read_events(job_id)]
    first = next(place for place, (name, _) in enumerate(names) if name == "artifact")
    assert any(name == "step" and data["image_index"] == 3 for name, data in names[first:])


async def test_a_cancel_keeps_what_is_finished(stack: LiveStack) -> None:
    job_id = await stack.submit(**IMAGE, images=16)
    await with_an_image(stack, job_id)
    await stack.request("POST", f"/v1/jobs/{job_id}/cancel")
    job = await stack.finished(job_id)
    assert job["status"] == "cancelled"
    assert shown(job)[0] == (0, 40)
    assert len(job["artifacts"]) < 16
    await fetch_all(stack, job)


async def test_a_failure_keeps_what_is_finished(stack: LiveStack) -> None:
    job_id = await stack.submit(**IMAGE, images=16, deadlines={"run_within_seconds": 2.0})
    job = await stack.finished(job_id)
    assert (job["status"], job["failure_reason"]) == ("failed", "run_deadline")
    assert shown(job)[0] == (0, 40)
    await fetch_all(stack, job)


async def test_after_a_killed_runner_only_the_missing_images_are_rendered(stack: LiveStack) -> None:
    job_id = await stack.submit(**IMAGE, images=5)
    early = await with_an_image(stack, job_id)
    await stack.kill_and_start_again("gpu-runner")
    job = await stack.finished(job_id, 60)
    assert (job["status"], shown(job)) == ("succeeded", [(index, 40 + index) for index in range(5)])
    assert job["artifacts"][: len(early["artifacts"])] == early["artifacts"]
    assert job["artifacts"][-1]["artifact_id"] == f"{job_id}-2-4"
    await fetch_all(stack, job)
    await eventually(stack.ready, 60)


async def command(stack: LiveStack, folder: Path, *arguments: str) -> tuple[int, str, str]:
    """One `dreamforge` command: its exit code, output and errors."""
    own = {"FORGE_GATEWAY_URL": str(stack.client.base_url), "NO_COLOR": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dreamforge.cli", *arguments, cwd=folder, env=os.environ | own,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def test_a_cancelled_job_is_downloaded_as_far_as_it_came_and_can_be_retried(
    stack: LiveStack, tmp_path: Path
) -> None:
    job_id = await stack.submit(**IMAGE, images=16, priority=7, deadlines={"start_within_seconds": 600.0})
    watching = asyncio.create_task(command(stack, tmp_path, "jobs", "watch", job_id))
    await with_an_image(stack, job_id)
    await stack.request("POST", f"/v1/jobs/{job_id}/cancel")
    job = await stack.finished(job_id)
    code, output, errors = await watching
    assert code == 4
    finished = len(job["artifacts"])
    assert [(tmp_path / name).read_bytes()[:4] for name in output.split()] == [b"\x89PNG"] * finished
    assert f"{finished} of 16" in errors

    code, output, errors = await command(stack, tmp_path, "jobs", "retry", job_id, "--json")
    assert code == 0, errors
    again = await stack.job(json.loads(output)["job_id"])
    assert (again["request"], again["priority"]) == (job["request"], 7)
    await stack.request("POST", f"/v1/jobs/{again['job_id']}/cancel")
    recorded = (await stack.read_events(again["job_id"]))[0].data
    assert recorded["deadlines"] == {"start_within_seconds": 600.0, "run_within_seconds": None}


async def test_a_job_that_waits_or_has_succeeded_is_not_retried(stack: LiveStack, tmp_path: Path) -> None:
    job_id = await stack.submit(deadlines={"start_within_seconds": 600.0})
    first = (await stack.finished(job_id))["artifacts"][0]["artifact_id"]
    code, _, errors = await command(stack, tmp_path, "jobs", "retry", job_id)
    assert code == 2
    assert f"dreamforge rerun {first}" in errors
    running = await stack.submit(**IMAGE, images=16)
    code, _, errors = await command(stack, tmp_path, "jobs", "retry", running)
    await stack.request("POST", f"/v1/jobs/{running}/cancel")
    assert code == 2
    assert "a job can be retried when it has failed or was cancelled" in errors
