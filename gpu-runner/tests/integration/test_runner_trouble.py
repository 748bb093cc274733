"""What goes wrong around a runner costs an attempt at most, and never the runner or what it has painted."""

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

import pytest

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.events import ArtifactStored, AttemptFailed, FailureReason
from dreamforge.contracts.jobs import decisions
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.retry_policy import RetryPolicy
from dreamforge.runtime import clock
from dreamforge.runtime.embedded import NatsServer, S3Server
from dreamforge.runtime.log.job_steps import steps_after
from dreamforge.runtime.storage.objects import ObjectStore
from dreamforge.runtime.storage.settings import ObjectStoreSettings
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.disks import small_disk
from dreamforge.runtime.testing.small_memory import small_memory

from .stage import DECISION, Stage, child_of


def oom_score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


async def test_a_dead_child_costs_one_attempt_and_not_the_runner(stage: Stage) -> None:
    process = await stage.start_process(renderer="synthetic", step_delay_seconds=0.05)
    job_id = await stage.submit(steps=150)
    await stage.reaches(job_id, Status.RUNNING)
    os.kill(child_of(process.pid), signal.SIGKILL)
    state = await stage.reaches(job_id, Status.QUEUED)
    assert state.failure is FailureReason.CHILD_CRASHED
    await eventually(lambda: (beat := stage.beat()) is not None and not beat.draining)
    another = await stage.submit()
    await stage.reaches(another, Status.SUCCEEDED)
    assert process.returncode is None


async def test_a_child_that_the_kernel_ends_for_want_of_memory_says_so_in_its_attempt(stage: Stage) -> None:
    process = await stage.start_process(renderer="synthetic", step_delay_seconds=0.05)
    child = child_of(process.pid)
    assert oom_score(child) >= max(500, oom_score(process.pid)), "it has to leave before NATS and Postgres"
    job_id = await stage.submit(width_px=4096, height_px=4096, steps=20)
    await stage.reaches(job_id, Status.RUNNING)
    async with small_memory(child, limit_bytes=8 * 2**20):
        state = await stage.reaches(job_id, Status.QUEUED)
    assert state.failure is FailureReason.CHILD_CRASHED
    (failed,) = (event for event in await stage.events(job_id) if isinstance(event, AttemptFailed))
    assert "because memory was full" in failed.message
    await eventually(lambda: (beat := stage.beat()) is not None and not beat.draining)
    await stage.reaches(await stage.submit(), Status.SUCCEEDED)


async def test_the_attempt_after_a_dead_child_renders_only_what_is_missing(stage: Stage) -> None:
    process = await stage.start_process(renderer="synthetic", step_delay_seconds=0.05)
    job_id = await stage.submit(images=3, steps=15, seed=5)
    await eventually(lambda: stage.state(job_id), until=lambda state: state.artifacts != ())
    os.kill(child_of(process.pid), signal.SIGKILL)
    before = (await stage.reaches(job_id, Status.QUEUED)).artifacts
    assert before
    await eventually(lambda: (beat := stage.beat()) is not None and not beat.draining)
    await stage.assign(job_id)
    state = await stage.reaches(job_id, Status.SUCCEEDED)
    assert state.artifacts[: len(before)] == before
    assert [(each.index, each.attempt) for each in state.artifacts[len(before) :]] == [
        (index, 2) for index in range(len(before), 3)
    ]
    seeds = [event.seed for event in await stage.events(job_id) if isinstance(event, ArtifactStored)]
    assert seeds == [5, 6, 7]
    steps = await steps_after(stage.bus, job_id, 0)
    again = [json.loads(each.data) for each in steps]
    assert {each["image_index"] for each in again if each["attempt"] == 2} == set(range(len(before), 3))


async def test_an_attempt_with_nothing_left_to_render_only_finishes(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic")
    job_id = await stage.request(images=1)
    stored = ArtifactStored(
        at=clock.now(),
        attempt=1,
        index=0,
        sha256="a" * 64,
        size_bytes=1,
        content_type="image/png",
        width_px=64,
        height_px=64,
        seed=1,
        recipe={},
    )
    for command in (  # what another runner did before it was lost
        decisions.AssignJob(clock.now(), 1, "r2", "i", 0, DECISION),
        decisions.StartAttempt(clock.now(), 1, "r2", "i"),
        decisions.StoreImages(clock.now(), 1, (stored,)),
        decisions.FailAttempt(clock.now(), 1, FailureReason.RUNNER_LOST, True, "silent", RetryPolicy()),
    ):
        await stage.store.execute(job_id, command)
    await stage.assign(job_id)
    state = await stage.reaches(job_id, Status.SUCCEEDED)
    assert [(each.index, each.attempt) for each in state.artifacts] == [(0, 1)]


async def test_a_past_lifes_assignment_is_handed_back(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic")
    job_id = await stage.request()
    await stage.assign(job_id, instance_id="a-past-life")
    state = await stage.reaches(job_id, Status.QUEUED)
    assert state.failure is FailureReason.RUNNER_RESTARTED
    await eventually(stage.unacknowledged, until=lambda number: number == 0)


async def test_a_stale_attempt_is_given_up(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic", step_delay_seconds=0.2)
    job_id = await stage.submit(steps=150)
    await stage.reaches(job_id, Status.RUNNING)
    lost = decisions.FailAttempt(clock.now(), 1, FailureReason.RUNNER_LOST, True, "silent", RetryPolicy())
    await stage.store.execute(job_id, lost)
    await eventually(stage.unacknowledged, until=lambda number: number == 0)  # its 150 steps would take 30 s
    assert (await stage.state(job_id)).failure is FailureReason.RUNNER_LOST


async def test_an_unknown_model_is_refused_with_its_name(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic")
    job_id = await stage.submit(model_id="unheard-of")
    state = await stage.reaches(job_id, Status.QUEUED, Status.FAILED)
    assert state.failure is FailureReason.MODEL_MISSING
    failed = [event for event in await stage.events(job_id) if isinstance(event, AttemptFailed)]
    assert "unheard-of" in failed[0].message


async def test_term_lets_a_running_job_finish(stage: Stage) -> None:
    process = await stage.start_process(renderer="synthetic", step_delay_seconds=0.05)
    job_id = await stage.submit(steps=20)
    await stage.reaches(job_id, Status.RUNNING)
    process.send_signal(signal.SIGTERM)
    await eventually(lambda: (beat := stage.beat()) is None or beat.draining)
    assert await asyncio.wait_for(process.wait(), 20) == 0
    assert (await stage.state(job_id)).status is Status.SUCCEEDED


async def test_term_hands_back_what_takes_longer_than_its_patience(stage: Stage) -> None:
    process = await stage.start_process(renderer="synthetic", step_delay_seconds=0.05, drain_seconds=0.2)
    job_id = await stage.submit(steps=150)
    await stage.reaches(job_id, Status.RUNNING)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 20) == 0
    state = await stage.state(job_id)
    assert (state.status, state.failure) == (Status.QUEUED, FailureReason.RUNNER_DRAINED)


async def test_a_stuck_render_is_ended_and_retried(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic", step_delay_seconds=30, stall_seconds=0.5)
    job_id = await stage.submit()
    state = await stage.reaches(job_id, Status.QUEUED)
    assert state.failure is FailureReason.STALLED


async def test_a_killed_runners_job_is_handed_back_by_its_next_life(stage: Stage) -> None:
    process = await stage.start_process(renderer="synthetic", step_delay_seconds=0.05)
    job_id = await stage.submit(steps=150)
    await stage.reaches(job_id, Status.RUNNING)
    process.kill()
    await process.wait()
    await stage.start_runner(renderer="synthetic")
    # Delivered again once the server has waited for an ack: see assignment_consumer.ACK_WAIT_SECONDS.
    state = await stage.reaches(job_id, Status.QUEUED, seconds=20)
    assert state.failure is FailureReason.RUNNER_RESTARTED


async def test_a_malformed_assignment_stops_nothing(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic")
    for headers in (None, {"ce-type": "dreamforge.job.assigned.v1"}, {"ce-type": "dreamforge.job.assigned.v9"}):
        await stage.bus.publish("forge.jobs.nobody.1.assigned.r1", b"{\xff", headers)
    job_id = await stage.submit()
    await stage.reaches(job_id, Status.SUCCEEDED)
    assert await eventually(stage.unacknowledged, until=lambda number: number == 0) == 0


async def test_it_leaves_in_time_when_the_log_is_away(stage: Stage, nats_server: NatsServer) -> None:
    process = await stage.start_process(renderer="synthetic", step_delay_seconds=0.05, drain_seconds=0.1)
    job_id = await stage.submit(steps=150)
    await stage.reaches(job_id, Status.RUNNING)
    await nats_server.stop()
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_a_log_that_went_away_is_waited_for(stage: Stage, nats_server: NatsServer) -> None:
    await stage.start_runner(renderer="synthetic", step_delay_seconds=0.02)
    job_id = await stage.submit(steps=50)
    await stage.reaches(job_id, Status.RUNNING)
    await nats_server.kill()
    await nats_server.restart()
    await stage.reaches(job_id, Status.SUCCEEDED)
    another = await stage.submit()
    await stage.reaches(another, Status.SUCCEEDED)


async def test_a_rendered_picture_waits_for_the_object_store(stage: Stage, tmp_path: Path) -> None:
    async with S3Server(tmp_path / "s3") as own_s3:
        stage.environment |= own_s3.settings_env()
        await stage.start_runner(renderer="synthetic", step_delay_seconds=0.05)
        job_id = await stage.submit(steps=10)
        await stage.reaches(job_id, Status.RUNNING)
        await own_s3.kill()
        messages = await eventually(
            lambda: steps_after(stage.bus, job_id, 0),
            until=lambda steps: len(steps) == 10,
        )
        assert (await stage.state(job_id)).status is Status.RUNNING
        await own_s3.restart()
        await stage.reaches(job_id, Status.SUCCEEDED)
        after = await steps_after(stage.bus, job_id, 0)
        assert len(after) == len(messages), "nothing was rendered twice"


def own_store(server: S3Server) -> ObjectStore:
    """A client of a server that a test started."""
    names = {name.removeprefix("FORGE_").lower(): value for name, value in server.settings_env().items()}
    return ObjectStore(ObjectStoreSettings.model_validate(names))


async def test_a_rendered_picture_waits_for_room_on_the_object_stores_disk(stage: Stage, tmp_path: Path) -> None:
    with small_disk(tmp_path / "s3" / "objects", 64 * 1024) as disk:
        async with S3Server(tmp_path / "s3") as own_s3:
            stage.environment |= own_s3.settings_env()
            await stage.start_runner(renderer="synthetic", step_delay_seconds=0.05)
            with contextlib.suppress(OSError):
                (disk / "ballast").write_bytes(bytes(64 * 1024))
            job_id = await stage.submit(steps=10)
            await eventually(
                lambda: steps_after(stage.bus, job_id, 0),
                until=lambda steps: len(steps) == 10,
            )
            with pytest.raises(DependencyAway, match="500"):
                await own_store(own_s3).put("images/another", b"?" * 4096, "image/png")
            assert (await stage.state(job_id)).status is Status.RUNNING
            (disk / "ballast").unlink()
            state = await stage.reaches(job_id, Status.SUCCEEDED)
            assert state.attempt == 1, "nothing was rendered twice"


@pytest.mark.parametrize("cause", [FailureReason.MODEL_MISSING, FailureReason.CHILD_CRASHED])
async def test_with_one_attempt_allowed_the_first_failure_ends_the_job_whatever_caused_it(
    stage: Stage, cause: FailureReason
) -> None:
    stage.environment["FORGE_RETRY_MAX_ATTEMPTS"] = "1"
    process = await stage.start_process(renderer="synthetic", step_delay_seconds=0.05)
    model_id = "unknown" if cause is FailureReason.MODEL_MISSING else "synthetic"
    job_id = await stage.submit(model_id=model_id, steps=10, images=16)
    if cause is FailureReason.CHILD_CRASHED:
        await eventually(lambda: stage.state(job_id), until=lambda state: state.artifacts != ())
        os.kill(child_of(process.pid), signal.SIGKILL)
    state = await stage.reaches(job_id, Status.FAILED)
    assert (state.attempt, state.failure) == (1, cause)
    assert bool(state.artifacts) == (cause is FailureReason.CHILD_CRASHED), "what was finished before stays"
