"""The whole runner as a process, on a real log and a real object store; the test speaks as the scheduler does."""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dreamforge.contracts import commands, subjects
from dreamforge.contracts.envelope import unseal
from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.events import (
    AttemptFailed,
    Decision,
    FailureReason,
    JobCancelled,
    JobStarted,
    JobSucceeded,
    ModelRegistered,
    RenderRequest,
    RunnerRegistered,
    RunnerStopped,
    StepProgressed,
)
from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.job import JobState, Status
from dreamforge.gpu_runner.png import read_recipe
from dreamforge.runtime import clock, directget, ids
from dreamforge.runtime.bus import Bus
from dreamforge.runtime.embedded import NatsServer, S3Server
from dreamforge.runtime.eventstore import EventStore
from dreamforge.runtime.model_folder import DESCRIPTOR_NAME
from dreamforge.runtime.objects import ObjectStore, object_key
from dreamforge.runtime.settings import CommonSettings
from dreamforge.runtime.streams import open_log
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.buckets import S3Settings
from dreamforge.runtime.testing.disks import small_disk
from dreamforge.runtime.views import FleetView

DECISION = Decision(waited_seconds=0, effective_priority=5, queue_length=0, required_bytes=0, candidates=())
#: A diffusers child imports torch before it is ready.
READY_SECONDS = 90.0


@dataclass
class Stage:
    """The rest of the system, as far as a runner can tell."""

    bus: Bus
    objects: ObjectStore
    fleet: FleetView
    environment: dict[str, str]
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    store: EventStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = EventStore(self.bus, "/dreamforge/test")

    async def start_runner(self, **settings: object) -> asyncio.subprocess.Process:
        """A runner process; returns when it takes assignments."""
        environment = self.environment | {
            f"FORGE_RUNNER_{name.upper()}": str(value) for name, value in settings.items()
        }
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "dreamforge.gpu_runner", env=environment)
        self.processes.append(process)
        beat = self.fleet.runners.get("r1")
        before = beat.instance_id if beat is not None else ""

        def accepts() -> bool:
            if process.returncode is not None:
                raise ChildProcessError(f"the runner ended with status {process.returncode}")
            beat = self.beat()
            return beat is not None and beat.instance_id != before and not beat.draining

        await eventually(accepts, READY_SECONDS)
        return process

    def beat(self) -> Heartbeat | None:
        return self.fleet.runners.get("r1")

    async def request(self, **changes: object) -> str:
        """A job in the log."""
        values: dict[str, object] = {
            "model_id": "synthetic",
            "preset": "standard",
            "prompt": "a red fox",
            "width_px": 64,
            "height_px": 64,
            "steps": 4,
            "guidance_scale": 1.0,
            "seed": 1,
        }
        job_id = ids.new_id()
        request = RenderRequest.model_validate(values | changes)
        await self.store.execute(job_id, commands.RequestJob(job_id, clock.now(), "default", 5, request))
        return job_id

    async def assign(self, job_id: str, *, instance_id: str | None = None) -> int:
        """Give its next attempt to the runner; the attempt's number."""
        beat = self.beat()
        assert beat is not None
        attempt = (await self.state(job_id)).attempt + 1
        command = commands.AssignJob(clock.now(), attempt, "r1", instance_id or beat.instance_id, 0, DECISION)
        await self.store.execute(job_id, command)
        return attempt

    async def submit(self, **changes: object) -> str:
        job_id = await self.request(**changes)
        await self.assign(job_id)
        return job_id

    async def state(self, job_id: str) -> JobState:
        return (await self.store.load(job_id)).state

    async def reaches(self, job_id: str, *statuses: Status, seconds: float = 30.0) -> JobState:
        return await eventually(lambda: self.state(job_id), seconds, until=lambda state: state.status in statuses)

    async def events(self, job_id: str) -> list[object]:
        return [recorded.event for recorded in (await self.store.load(job_id)).history]

    async def unacknowledged(self) -> int:
        info = await self.bus.request("$JS.API.CONSUMER.INFO.JOBS.runner-r1", None)
        return int(info["num_ack_pending"]) + int(info["num_pending"])


def child_of(pid: int) -> int:
    """The one process that another has started (Linux; macOS has pgrep)."""
    (child,) = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True).stdout.split()
    return int(child)


@pytest.fixture
async def stage(nats_url: str, s3_settings: S3Settings, tmp_path: Path) -> AsyncIterator[Stage]:
    servers = s3_settings.settings_env() | {
        "FORGE_NATS_URL": nats_url,
        # Whatever server the tests were given: that it fsyncs is shown elsewhere.
        "FORGE_NATS_ALLOW_UNSYNCED": "true",
    }
    environment = os.environ | servers | {"FORGE_RUNNER_ID": "r1", "FORGE_STATE_DIR": str(tmp_path)}
    settings = CommonSettings.model_validate(
        {name.removeprefix("FORGE_").lower(): value for name, value in servers.items()}
    )
    bus = await open_log(settings, "test")
    fleet = FleetView(bus)
    following = asyncio.create_task(fleet.run())
    stage = Stage(bus, ObjectStore(settings), fleet, environment)
    yield stage
    for process in stage.processes:
        if process.returncode is None:
            process.kill()
            await process.wait()
    following.cancel()
    await stage.store.close()
    await bus.close()


async def test_a_job_runs_from_its_assignment_to_its_picture(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic")
    job_id = await stage.submit(images=2, seed=41)
    state = await stage.reaches(job_id, Status.SUCCEEDED)
    events = await stage.events(job_id)
    assert [type(event).__name__ for event in events] == [
        "JobRequested",
        "JobAssigned",
        "JobStarted",
        "ArtifactStored",
        "ArtifactStored",
        "JobSucceeded",
    ]
    for index, artifact in enumerate(state.artifacts):
        png = await stage.objects.get(object_key(artifact.sha256))
        recipe = read_recipe(png)
        assert hashlib.sha256(png).hexdigest() == artifact.sha256
        assert (recipe.seed, recipe.renderer) == (41 + index, "synthetic")
    assert await eventually(stage.unacknowledged, until=lambda number: number == 0) == 0


async def test_progress_is_told_on_the_jobs_own_subject(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic", step_delay_seconds=0.01)
    job_id = await stage.submit(images=2, steps=3)
    await stage.reaches(job_id, Status.SUCCEEDED)
    messages = await directget.after(stage.bus, "STEPS", subjects.steps_of(job_id), 0)
    steps = [unseal(m.subject, m.headers, m.data, sequence=m.sequence).event for m in messages]
    assert all(isinstance(step, StepProgressed) for step in steps)
    told = [(step.image_index, step.step, step.steps) for step in steps if isinstance(step, StepProgressed)]
    assert told == [(image, step, 3) for image in (0, 1) for step in (1, 2, 3)]
    assert isinstance(steps[-1], StepProgressed)
    assert steps[-1].eta_seconds == 0


async def test_a_runner_says_what_it_is_and_leaves_at_once_when_asked(stage: Stage) -> None:
    process = await stage.start_runner(renderer="synthetic", slots=3)
    beat = stage.beat()
    assert beat is not None
    assert (beat.slots, beat.model_ids, beat.device.kind, beat.renderer) == (3, ("synthetic",), "cpu", "synthetic")
    assert 0 < beat.free_bytes <= beat.budget_bytes <= beat.device.total_bytes
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 10) == 0
    await eventually(lambda: stage.beat() is None, 1.0)
    facts = [
        *await directget.last_of_each(stage.bus, "FLEET", "forge.runners.r1.>"),
        *await directget.last_of_each(stage.bus, "MODELS", "forge.models.>"),
    ]
    kinds = [type(unseal(m.subject, m.headers, m.data, sequence=m.sequence).event) for m in facts]
    assert kinds == [RunnerRegistered, RunnerStopped, ModelRegistered]


async def test_a_running_job_is_cancelled_within_a_step(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic", step_delay_seconds=0.02)
    job_id = await stage.submit(steps=150)
    await stage.reaches(job_id, Status.RUNNING)
    await stage.store.execute(job_id, commands.RequestCancel(clock.now()))
    await stage.reaches(job_id, Status.CANCELLED, seconds=1.5)
    events = await stage.events(job_id)
    assert isinstance(events[-1], JobCancelled)
    assert events[-1].stage == "running"
    another = await stage.submit()
    await stage.reaches(another, Status.SUCCEEDED)


async def test_slots_are_filled_and_never_exceeded(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic", slots=2, step_delay_seconds=0.05)
    jobs = [await stage.submit(steps=6, seed=seed) for seed in range(5)]
    for job_id in jobs:
        await stage.reaches(job_id, Status.SUCCEEDED)
    spans = []
    for job_id in jobs:
        history = {type(event): event for event in await stage.events(job_id)}
        started, succeeded = history[JobStarted], history[JobSucceeded]
        assert isinstance(started, JobStarted)
        assert isinstance(succeeded, JobSucceeded)
        spans.append((started.at, succeeded.at))
    overlaps = [sum(start <= at < end for start, end in spans) for at, _ in spans]
    assert max(overlaps) == 2


async def test_a_dead_child_costs_one_attempt_and_not_the_runner(stage: Stage) -> None:
    process = await stage.start_runner(renderer="synthetic", step_delay_seconds=0.05)
    job_id = await stage.submit(steps=150)
    await stage.reaches(job_id, Status.RUNNING)
    os.kill(child_of(process.pid), signal.SIGKILL)
    state = await stage.reaches(job_id, Status.QUEUED)
    assert state.failure is FailureReason.CHILD_CRASHED
    await eventually(lambda: (beat := stage.beat()) is not None and not beat.draining)
    another = await stage.submit()
    await stage.reaches(another, Status.SUCCEEDED)
    assert process.returncode is None


async def test_a_past_lifes_assignment_is_handed_back(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic")
    job_id = await stage.request()
    await stage.assign(job_id, instance_id="a-past-life")
    state = await stage.reaches(job_id, Status.QUEUED)
    assert state.failure is FailureReason.RUNNER_RESTARTED
    await eventually(stage.unacknowledged, until=lambda number: number == 0)


async def test_a_stale_attempt_is_given_up(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic", step_delay_seconds=0.02)
    job_id = await stage.submit(steps=150)
    await stage.reaches(job_id, Status.RUNNING)
    lost = commands.FailAttempt(clock.now(), 1, FailureReason.RUNNER_LOST, True, "silent")
    await stage.store.execute(job_id, lost)
    await eventually(stage.unacknowledged, 1.5, until=lambda number: number == 0)
    assert (await stage.state(job_id)).failure is FailureReason.RUNNER_LOST


async def test_an_unknown_model_is_refused_with_its_name(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic")
    job_id = await stage.submit(model_id="unheard-of")
    state = await stage.reaches(job_id, Status.QUEUED, Status.FAILED)
    assert state.failure is FailureReason.MODEL_MISSING
    failed = [event for event in await stage.events(job_id) if isinstance(event, AttemptFailed)]
    assert "unheard-of" in failed[0].message


async def test_term_lets_a_running_job_finish(stage: Stage) -> None:
    process = await stage.start_runner(renderer="synthetic", step_delay_seconds=0.05)
    job_id = await stage.submit(steps=20)
    await stage.reaches(job_id, Status.RUNNING)
    process.send_signal(signal.SIGTERM)
    await eventually(lambda: (beat := stage.beat()) is None or beat.draining)
    assert await asyncio.wait_for(process.wait(), 20) == 0
    assert (await stage.state(job_id)).status is Status.SUCCEEDED


async def test_term_hands_back_what_takes_longer_than_its_patience(stage: Stage) -> None:
    process = await stage.start_runner(renderer="synthetic", step_delay_seconds=0.05, drain_seconds=0.2)
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
    process = await stage.start_runner(renderer="synthetic", step_delay_seconds=0.05)
    job_id = await stage.submit(steps=150)
    await stage.reaches(job_id, Status.RUNNING)
    process.kill()
    await process.wait()
    await stage.start_runner(renderer="synthetic")
    # Delivered again once the server has waited for an ack: see assignments.ACK_WAIT_SECONDS.
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
    process = await stage.start_runner(renderer="synthetic", step_delay_seconds=0.05, drain_seconds=0.1)
    job_id = await stage.submit(steps=150)
    await stage.reaches(job_id, Status.RUNNING)
    await nats_server.stop()
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_a_log_that_went_away_is_waited_for(stage: Stage, nats_server: NatsServer) -> None:
    process = await stage.start_runner(renderer="synthetic", step_delay_seconds=0.02)
    job_id = await stage.submit(steps=50)
    await stage.reaches(job_id, Status.RUNNING)
    await nats_server.kill()
    await nats_server.restart()
    await stage.reaches(job_id, Status.SUCCEEDED)
    another = await stage.submit()
    await stage.reaches(another, Status.SUCCEEDED)
    assert process.returncode is None


async def test_a_rendered_picture_waits_for_the_object_store(stage: Stage, tmp_path: Path) -> None:
    async with S3Server(tmp_path / "s3") as own_s3:
        stage.environment |= own_s3.settings_env()
        await stage.start_runner(renderer="synthetic", step_delay_seconds=0.05)
        job_id = await stage.submit(steps=10)
        await stage.reaches(job_id, Status.RUNNING)
        await own_s3.kill()
        messages = await eventually(
            lambda: directget.after(stage.bus, "STEPS", subjects.steps_of(job_id), 0),
            until=lambda steps: len(steps) == 10,
        )
        assert (await stage.state(job_id)).status is Status.RUNNING
        await own_s3.restart()
        await stage.reaches(job_id, Status.SUCCEEDED)
        after = await directget.after(stage.bus, "STEPS", subjects.steps_of(job_id), 0)
        assert len(after) == len(messages), "nothing was rendered twice"


def own_store(server: S3Server) -> ObjectStore:
    """A client of a server that a test started."""
    names = {name.removeprefix("FORGE_").lower(): value for name, value in server.settings_env().items()}
    return ObjectStore(CommonSettings.model_validate(names))


async def test_a_rendered_picture_waits_for_room_on_the_object_stores_disk(stage: Stage, tmp_path: Path) -> None:
    with small_disk(tmp_path / "s3" / "objects", 64 * 1024) as disk:
        async with S3Server(tmp_path / "s3") as own_s3:
            stage.environment |= own_s3.settings_env()
            await stage.start_runner(renderer="synthetic", step_delay_seconds=0.05)
            with contextlib.suppress(OSError):
                (disk / "ballast").write_bytes(bytes(64 * 1024))
            job_id = await stage.submit(steps=10)
            await eventually(
                lambda: directget.after(stage.bus, "STEPS", subjects.steps_of(job_id), 0),
                until=lambda steps: len(steps) == 10,
            )
            with pytest.raises(DependencyAway, match="500"):
                await own_store(own_s3).put("images/another", b"?" * 4096, "image/png")
            assert (await stage.state(job_id)).status is Status.RUNNING
            (disk / "ballast").unlink()
            state = await stage.reaches(job_id, Status.SUCCEEDED)
            assert state.attempt == 1, "nothing was rendered twice"


@pytest.mark.torch
@pytest.mark.timeout(240)
async def test_a_model_that_has_to_be_read_first_is_told_as_progress(
    stage: Stage, tiny_folder: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        shutil.copytree(tiny_folder, tmp_path / "models" / name)
        described = tmp_path / "models" / name / DESCRIPTOR_NAME
        described.write_text(json.dumps(json.loads(described.read_text()) | {"model_id": name}))
    await stage.start_runner(renderer="diffusers", models_dir=tmp_path / "models", resident_models=1)
    told = {}
    for model_id in ("a", "b"):
        job_id = await stage.submit(model_id=model_id, steps=3, guidance_scale=5.0)
        await stage.reaches(job_id, Status.SUCCEEDED, seconds=60)
        steps = await directget.after(stage.bus, "STEPS", subjects.steps_of(job_id), 0)
        told[model_id] = [(json.loads(each.data)["step"], json.loads(each.data).get("loading")) for each in steps]
    assert told["a"][0][1] is None, "it was loaded before its first job"
    assert told["b"][:2] == [(0, "b"), (1, None)]


@pytest.mark.torch
@pytest.mark.timeout(240)
async def test_a_prompt_becomes_a_real_picture(stage: Stage, models_dir: Path) -> None:
    await stage.start_runner(renderer="diffusers", models_dir=models_dir)
    job_id = await stage.submit(model_id="tiny", steps=6, guidance_scale=5.0, prompt="a red fox")
    state = await stage.reaches(job_id, Status.SUCCEEDED, seconds=60)
    recipe = read_recipe(await stage.objects.get(state.artifacts[0].object_key))
    assert (recipe.renderer, recipe.model_id, recipe.prompt) == ("diffusers", "tiny", "a red fox")
    beat = await eventually(stage.beat, until=lambda beat: beat is not None and beat.step_seconds != {})
    assert beat is not None
    assert beat.resident_model_ids == ("tiny",)
    assert beat.step_seconds.keys() == {"standard"}
