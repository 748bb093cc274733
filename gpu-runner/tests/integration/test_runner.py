"""The whole runner as a process, on a real log and a real object store; the test speaks as the scheduler does."""

import asyncio
import hashlib
import json
import shutil
import signal
from pathlib import Path

import pytest
from runner_testkit.png import read_recipe

from dreamforge.contracts.events import JobCancelled
from dreamforge.contracts.installation_events import ModelRegistered, RunnerRegistered, RunnerStopped
from dreamforge.contracts.jobs import decisions
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.log.envelope import unseal
from dreamforge.gpu_runner.machine.device import probe
from dreamforge.gpu_runner.protocol.memory_rungs import Rung
from dreamforge.gpu_runner.protocol.messages import MemoryObserved, RungsLearnt
from dreamforge.gpu_runner.supervisor.learnt_memory import LearntMemory
from dreamforge.runtime import clock
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.job_steps import steps_after
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME
from dreamforge.runtime.storage.objects import object_key
from dreamforge.runtime.testing import eventually

from .stage import Stage


@pytest.mark.parametrize("nats_prefix", ["", "acme"])
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


async def test_an_image_is_recorded_when_it_is_finished_and_stays_after_a_cancel(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic", step_delay_seconds=0.05)
    job_id = await stage.submit(images=6, steps=20)
    state = await eventually(lambda: stage.state(job_id), until=lambda state: state.artifacts != ())
    assert (state.status, len(state.artifacts)) == (Status.RUNNING, 1)
    await stage.store.execute(job_id, decisions.RequestCancel(clock.now()))
    state = await stage.reaches(job_id, Status.CANCELLED)
    assert state.artifacts[0].index == 0
    assert len(state.artifacts) < 6
    for artifact in state.artifacts:
        assert hashlib.sha256(await stage.objects.get(object_key(artifact.sha256))).hexdigest() == artifact.sha256


async def test_progress_is_told_on_the_jobs_own_subject(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic", step_delay_seconds=0.01)
    job_id = await stage.submit(images=2, steps=3)
    await stage.reaches(job_id, Status.SUCCEEDED)
    steps = await stage.steps(job_id)
    told = [(step.image_index, step.step, step.steps) for step in steps]
    assert told == [(image, step, 3) for image in (0, 1) for step in (1, 2, 3)]
    assert steps[-1].eta_seconds == 0


async def test_a_runner_that_starts_again_knows_what_was_learnt_of_its_memory(stage: Stage) -> None:
    device, shape = probe("cpu"), "synthetic 64x64"
    kept = LearntMemory(Path(stage.environment["FORGE_STATE_DIR"]) / "learnt-memory" / "r1.json", now=clock.now)
    kept.open(f"{device.name}, {device.total_bytes} bytes")
    kept.learn(RungsLearnt(shape=shape, rungs=(Rung.TILED_DECODE,), peak_bytes=9))
    kept.learn(MemoryObserved(shape=shape, peak_bytes=5))
    kept.learn(MemoryObserved(shape="synthetic 128x64", exhausted=True))
    await stage.start_runner(renderer="synthetic")
    beat = stage.beat()
    assert beat is not None
    assert beat.memory == kept.observed
    assert (beat.memory.peak_bytes(shape, None), beat.memory.rungs[shape]) == (5, ("tiled_decode",))
    assert beat.memory.exhausted == ("synthetic 128x64",)
    state = await stage.reaches(await stage.submit(images=1), Status.SUCCEEDED)
    recipe = read_recipe(await stage.objects.get(object_key(state.artifacts[0].sha256)))
    assert recipe.tier is not None
    assert recipe.tier.vae_tiling


async def test_a_runner_says_what_it_is_and_leaves_at_once_when_asked(stage: Stage) -> None:
    process = await stage.start_process(renderer="synthetic", slots=3)
    beat = stage.beat()
    assert beat is not None
    assert (beat.slots, beat.model_ids, beat.device.kind, beat.renderer) == (3, ("synthetic",), "cpu", "synthetic")
    assert 0 < beat.free_bytes <= beat.budget_bytes <= beat.device.total_bytes
    leases = await stage.bus.nc.subscribe("$KV.runners.r1")
    await stage.bus.nc.flush()
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 30) == 0
    async with asyncio.timeout(10):  # it said so itself: no lease had to run out
        while (await leases.next_msg(10)).headers.get("KV-Operation") != "PURGE":
            pass
    facts = [
        *await direct_get.last_of_each(stage.bus, "FLEET", "forge.runners.r1.>"),
        *await direct_get.last_of_each(stage.bus, "MODELS", "forge.models.>"),
    ]
    kinds = [type(unseal(m.subject, m.headers, m.data, sequence=m.sequence).event) for m in facts]
    assert kinds == [RunnerRegistered, RunnerStopped, ModelRegistered]


async def test_a_running_job_is_cancelled_within_a_step(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic", step_delay_seconds=0.2)
    job_id = await stage.submit(steps=150)
    await stage.reaches(job_id, Status.RUNNING)
    await stage.store.execute(job_id, decisions.RequestCancel(clock.now()))
    await stage.reaches(job_id, Status.CANCELLED, seconds=10)  # its 150 steps would take 30 s
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
        messages = await steps_after(stage.bus, job_id, 0)
        times = [unseal(m.subject, m.headers, m.data, sequence=m.sequence).event.at for m in messages]
        spans.append((min(times), max(times)))
    overlaps = [sum(start <= at <= end for start, end in spans) for at, _ in spans]
    assert max(overlaps) == 2


@pytest.mark.torch
@pytest.mark.timeout(240)
async def test_a_prompt_becomes_a_real_picture_and_a_model_that_has_to_be_read_first_is_told_as_progress(
    stage: Stage, tiny_folder: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        shutil.copytree(tiny_folder, tmp_path / "models" / name)
        described = tmp_path / "models" / name / DESCRIPTOR_NAME
        described.write_text(json.dumps(json.loads(described.read_text()) | {"model_id": name}))
    await stage.start_runner(renderer="diffusers", models_dir=tmp_path / "models", resident_models=1)
    beat = stage.beat()
    assert beat is not None
    assert beat.resident_model_ids == ("a",)
    told = {}
    for model_id in ("a", "b"):
        job_id = await stage.submit(model_id=model_id, steps=3, guidance_scale=5.0, prompt="a red fox")
        state = await stage.reaches(job_id, Status.SUCCEEDED, seconds=60)
        recipe = read_recipe(await stage.objects.get(object_key(state.artifacts[0].sha256)))
        assert (recipe.renderer, recipe.model_id, recipe.prompt) == ("diffusers", model_id, "a red fox")
        steps = await steps_after(stage.bus, job_id, 0)
        told[model_id] = [(json.loads(each.data)["step"], json.loads(each.data).get("loading")) for each in steps]
    assert told["a"][0][1] is None, "it was loaded before its first job"
    assert told["b"][:2] == [(0, "b"), (1, None)]
    beat = await eventually(stage.beat, until=lambda beat: beat is not None and len(beat.times.beside) == 2)
    assert beat is not None
    assert beat.times.steps.keys() == beat.times.beside.keys()
    assert all(steps[1] > 0 for steps in beat.times.steps.values())
    assert beat.times.loads.keys() == {"a", "b"}
    assert beat.times.load_bytes_per_second is not None
    await a_geometry_gives_the_bytes_of_a_group_again(stage)


async def a_geometry_gives_the_bytes_of_a_group_again(stage: Stage) -> None:
    """In the runner of the test before: another one would start torch once more."""
    shared: dict[str, object] = {"model_id": "b", "steps": 4, "guidance_scale": 5.0}
    jobs = [await stage.request(prompt=prompt, seed=7, **shared) for prompt in ("a red fox", "a blue cat")]
    await stage.assign_together(*jobs)
    states = [await stage.reaches(job_id, Status.SUCCEEDED, seconds=60) for job_id in jobs]
    recipe = await stage.recipe_of(jobs[1])
    assert recipe.geometry is not None
    again = await stage.submit(prompt="a blue cat", seed=7, geometry=recipe.geometry, **shared)
    state = await stage.reaches(again, Status.SUCCEEDED, seconds=60)
    assert state.artifacts[0].sha256 == states[1].artifacts[0].sha256
