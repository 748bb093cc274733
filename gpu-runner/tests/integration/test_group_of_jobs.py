"""Jobs that were assigned together are rendered in one run by a real runner, each with a course of its own."""

from dreamforge.contracts.jobs import decisions
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.request.values import Geometry
from dreamforge.runtime import clock
from dreamforge.runtime.testing import eventually

from .stage import Stage


async def test_jobs_of_one_group_share_a_run_and_a_slot(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic", batch_max=8, step_delay_seconds=0.01)
    jobs = [await stage.request(prompt=f"a fox {number}", seed=number) for number in range(2)]
    alone = await stage.request(prompt="alone")
    await stage.assign_together(*jobs)
    await stage.assign(alone)
    for job_id in (*jobs, alone):
        await stage.reaches(job_id, Status.SUCCEEDED)
    recipes = [await stage.recipe_of(job_id) for job_id in jobs]
    assert {recipe.geometry for recipe in recipes} == {Geometry(size=2, place=0), Geometry(size=2, place=1)}
    assert [recipe.prompt for recipe in recipes] == ["a fox 0", "a fox 1"]
    assert (await stage.recipe_of(alone)).geometry is None
    beat = await eventually(stage.beat, until=lambda beat: beat is not None and beat.batch_bounds != {})
    assert beat is not None
    assert (beat.batch_max, beat.batch_bounds.keys()) == (8, {"synthetic 64x64"})
    assert await eventually(stage.unacknowledged, until=lambda number: number == 0) == 0


async def test_a_cancel_of_one_leaves_the_others_as_they_are(stage: Stage) -> None:
    await stage.start_runner(renderer="synthetic", batch_max=8, step_delay_seconds=0.05)
    stays, stopped = [await stage.request(prompt=name, steps=60) for name in ("stays", "stopped")]
    await stage.assign_together(stays, stopped)
    await stage.renders(stays, stopped)
    await stage.store.execute(stopped, decisions.RequestCancel(clock.now()))
    await stage.reaches(stopped, Status.CANCELLED)
    state = await stage.reaches(stays, Status.SUCCEEDED)
    geometry = (await stage.recipe_of(stays)).geometry
    assert geometry is not None
    assert geometry.size == 2, "its place was rendered all the same"
    assert state.attempt == 1
