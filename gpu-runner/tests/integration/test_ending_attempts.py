"""A slot is free as soon as the device is: uploads, appends and the next assignment go on beside a render."""

import asyncio
import os
import signal

import pytest

from dreamforge.contracts.events import AttemptFailed, FailureReason
from dreamforge.contracts.jobs import decisions
from dreamforge.contracts.jobs.course import Status
from dreamforge.gpu_runner.supervisor import ending_attempts
from dreamforge.gpu_runner.supervisor.artifact_uploader import ArtifactUploader
from dreamforge.runtime import clock
from dreamforge.runtime.testing import eventually

from .stage import Stage, workers_of


def ending(stage: Stage) -> set[str]:
    beat = stage.beat()
    return {attempt.job_id for attempt in beat.ending} if beat else set()


def active(stage: Stage) -> set[str]:
    beat = stage.beat()
    return {attempt.job_id for attempt in beat.active} if beat else set()


async def test_the_next_job_renders_while_the_images_of_the_last_are_uploaded(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_upload, store = asyncio.Event(), ArtifactUploader.store

    async def slow(self: ArtifactUploader, *arguments: object) -> None:
        await may_upload.wait()
        await store(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ArtifactUploader, "store", slow)
    await stage.start_runner(renderer="synthetic", step_delay_seconds=0.01)
    first, second = await stage.submit(seed=1), await stage.submit(seed=2)
    await eventually(lambda: stage.steps(second), until=lambda steps: len(steps) == 4)
    await eventually(lambda: ending(stage), until=lambda jobs: jobs == {first, second})
    assert active(stage) == {first, second}, "their leases are held until the log has their ends"
    assert (await stage.state(first)).status is Status.RUNNING
    may_upload.set()
    for job_id in (first, second):
        await stage.reaches(job_id, Status.SUCCEEDED)
    await eventually(lambda: ending(stage), until=lambda jobs: jobs == set())


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> float:
    """A job may start so long before the end of another: time for what a test does in between, on any machine."""
    monkeypatch.setattr(ending_attempts, "AHEAD_SECONDS", seconds := 3.0)
    return seconds


async def running_and_ahead(stage: Stage) -> tuple[str, str]:
    """A job of four seconds in its last steps, and one that has started and waits in the child."""
    await stage.start_runner(renderer="synthetic", step_delay_seconds=0.05)
    first = await stage.submit(steps=80)
    second = await stage.submit(steps=400)
    await stage.reaches(second, Status.RUNNING)
    assert await stage.steps(second) == []
    return first, second


@pytest.mark.usefixtures("ahead")
async def test_one_that_is_ahead_can_be_cancelled_before_its_first_step(stage: Stage) -> None:
    first, second = await running_and_ahead(stage)
    await stage.store.execute(second, decisions.RequestCancel(clock.now()))
    await stage.reaches(second, Status.CANCELLED)
    assert (await stage.reaches(first, Status.SUCCEEDED)).attempt == 1
    assert await stage.steps(second) == []


@pytest.mark.usefixtures("ahead")
async def test_a_child_that_dies_takes_the_one_ahead_along_and_both_are_tried_again(stage: Stage) -> None:
    of_others = workers_of(os.getpid())
    first, second = await running_and_ahead(stage)
    (child,) = workers_of(os.getpid()) - of_others
    os.kill(child, signal.SIGKILL)
    for job_id in (first, second):
        await stage.reaches(job_id, Status.QUEUED)
        (failed,) = [event for event in await stage.events(job_id) if isinstance(event, AttemptFailed)]
        assert (failed.reason, failed.retryable) == (FailureReason.CHILD_CRASHED, True)


async def test_one_job_ahead_waits_in_the_child_when_the_running_one_is_nearly_over(stage: Stage, ahead: float) -> None:
    await stage.start_runner(renderer="synthetic", step_delay_seconds=0.05)
    first = await stage.submit(steps=100)  # five seconds
    await stage.reaches(first, Status.RUNNING)
    second = await stage.submit(steps=4)
    assert first not in ending(stage)
    await stage.reaches(second, Status.RUNNING)
    now = (await stage.steps(first))[-1]
    assert (now.steps - now.step) * 0.05 <= ahead, "not long before its end"
    assert await stage.steps(second) == []
    for job_id in (first, second):
        await stage.reaches(job_id, Status.SUCCEEDED)
    last, begun = (await stage.steps(first))[-1], (await stage.steps(second))[0]
    assert last.at < begun.at
