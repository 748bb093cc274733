"""Jobs that were assigned together are rendered in one run by a real runner, each with a course of its own."""

import asyncio
import hashlib
from pathlib import Path

import pytest
from runner_testkit.png import read_recipe

from dreamforge.contracts.events import RenderGroup
from dreamforge.contracts.jobs import decisions
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.request.values import Geometry
from dreamforge.gpu_runner.protocol.recipe import Recipe
from dreamforge.runtime import clock
from dreamforge.runtime.storage.objects import object_key
from dreamforge.runtime.testing import eventually

from .stage import Stage


async def assign_together(stage: Stage, *job_ids: str) -> None:
    group = RenderGroup(group_id=job_ids[0], jobs=len(job_ids))
    await asyncio.gather(*(stage.assign(job_id, group=group) for job_id in job_ids))


async def recipe_of(stage: Stage, job_id: str) -> Recipe:
    (artifact,) = (await stage.state(job_id)).artifacts
    png = await stage.objects.get(object_key(artifact.sha256))
    assert hashlib.sha256(png).hexdigest() == artifact.sha256
    return read_recipe(png)


async def test_jobs_of_one_group_share_a_run_and_a_slot(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic", batch_max=8, step_delay_seconds=0.01)
    jobs = [await stage.request(prompt=f"a fox {number}", seed=number) for number in range(2)]
    alone = await stage.request(prompt="alone")
    await assign_together(stage, *jobs)
    await stage.assign(alone)
    for job_id in (*jobs, alone):
        await stage.reaches(job_id, Status.SUCCEEDED)
    recipes = [await recipe_of(stage, job_id) for job_id in jobs]
    assert {recipe.geometry for recipe in recipes} == {Geometry(size=2, place=0), Geometry(size=2, place=1)}
    assert [recipe.prompt for recipe in recipes] == ["a fox 0", "a fox 1"]
    assert (await recipe_of(stage, alone)).geometry is None
    beat = await eventually(stage.beat, until=lambda beat: beat is not None and beat.batch_bounds != {})
    assert beat is not None
    assert (beat.batch_max, beat.batch_bounds.keys()) == (8, {"synthetic 64x64"})
    assert await eventually(stage.unacknowledged, until=lambda number: number == 0) == 0


async def test_a_cancel_of_one_leaves_the_others_as_they_are(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic", batch_max=8, step_delay_seconds=0.05)
    stays, stopped = [await stage.request(prompt=name, steps=60) for name in ("stays", "stopped")]
    await assign_together(stage, stays, stopped)
    await stage.renders(stays, stopped)
    await stage.store.execute(stopped, decisions.RequestCancel(clock.now()))
    await stage.reaches(stopped, Status.CANCELLED)
    state = await stage.reaches(stays, Status.SUCCEEDED)
    geometry = (await recipe_of(stage, stays)).geometry
    assert geometry is not None
    assert geometry.size == 2, "its place was rendered all the same"
    assert state.attempt == 1


@pytest.mark.torch
@pytest.mark.timeout(240)
async def test_a_geometry_gives_the_bytes_of_a_group_again(stage: Stage, models_dir: Path) -> None:
    await stage.start_runner(renderer="diffusers", models_dir=models_dir)
    shared: dict[str, object] = {"model_id": "tiny", "steps": 4, "guidance_scale": 5.0}
    jobs = [await stage.request(prompt=prompt, seed=7, **shared) for prompt in ("a red fox", "a blue cat")]
    await assign_together(stage, *jobs)
    states = [await stage.reaches(job_id, Status.SUCCEEDED, seconds=60) for job_id in jobs]
    recipe = await recipe_of(stage, jobs[1])
    assert recipe.geometry is not None
    again = await stage.submit(prompt="a blue cat", seed=7, geometry=recipe.geometry, **shared)
    state = await stage.reaches(again, Status.SUCCEEDED, seconds=60)
    assert state.artifacts[0].sha256 == states[1].artifacts[0].sha256
