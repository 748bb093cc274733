"""A slot is free as soon as the device is: uploads, appends and the next assignment go on beside a render."""

import asyncio
import os
import signal

import pytest

from dreamforge.contracts.events import AttemptFailed, FailureReason, StepProgressed
from dreamforge.contracts.jobs import decisions
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.log.envelope import unseal
from dreamforge.gpu_runner.supervisor.artifact_uploader import ArtifactUploader
from dreamforge.runtime import clock
from dreamforge.runtime.log.job_steps import steps_after
from dreamforge.runtime.testing import eventually

from .stage import Stage, child_of


async def steps_of(stage: Stage, job_id: str) -> list[StepProgressed]:
    messages = await steps_after(stage.bus, job_id, 0)
    events = [unseal(m.subject, m.headers, m.data, sequence=m.sequence).event for m in messages]
    return [event for event in events if isinstance(event, StepProgressed)]


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
    await eventually(lambda: steps_of(stage, second), until=lambda steps: len(steps) == 4)
    await eventually(lambda: ending(stage), until=lambda jobs: jobs == {first, second})
    assert active(stage) == {first, second}, "their leases are held until the log has their ends"
    assert (await stage.state(first)).status is Status.RUNNING
    may_upload.set()
    for job_id in (first, second):
        await stage.reaches(job_id, Status.SUCCEEDED)
    await eventually(lambda: ending(stage), until=lambda jobs: jobs == set())


async def running_and_ahead(stage: Stage) -> tuple[str, str]:
    """A job in its last steps, and one that has started and waits in the child."""
    first = await stage.submit(steps=16)
    second = await stage.submit(steps=400)
    await stage.reaches(second, Status.RUNNING)
    assert await steps_of(stage, second) == []
    return first, second


async def test_one_that_is_ahead_can_be_cancelled_before_its_first_step(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic", step_delay_seconds=0.05)
    first, second = await running_and_ahead(stage)
    await stage.store.execute(second, decisions.RequestCancel(clock.now()))
    await stage.reaches(second, Status.CANCELLED)
    assert (await stage.reaches(first, Status.SUCCEEDED)).attempt == 1
    assert await steps_of(stage, second) == []


async def test_a_child_that_dies_takes_the_one_ahead_along_and_both_are_tried_again(stage: Stage) -> None:
    process = await stage.start_process(renderer="synthetic", step_delay_seconds=0.05)
    first, second = await running_and_ahead(stage)
    os.kill(child_of(process.pid), signal.SIGKILL)
    for job_id in (first, second):
        await stage.reaches(job_id, Status.QUEUED)
        (failed,) = [event for event in await stage.events(job_id) if isinstance(event, AttemptFailed)]
        assert (failed.reason, failed.retryable) == (FailureReason.CHILD_CRASHED, True)


async def test_one_job_ahead_waits_in_the_child_when_the_running_one_is_nearly_over(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic", step_delay_seconds=0.05)
    first = await stage.submit(steps=20)  # a second
    await stage.reaches(first, Status.RUNNING)
    second = await stage.submit(steps=4)
    assert first not in ending(stage)
    await stage.reaches(second, Status.RUNNING)
    now = (await steps_of(stage, first))[-1]
    assert now.step > 10, "not long before its end"
    assert await steps_of(stage, second) == []
    for job_id in (first, second):
        await stage.reaches(job_id, Status.SUCCEEDED)
    last, begun = (await steps_of(stage, first))[-1], (await steps_of(stage, second))[0]
    assert last.at < begun.at
