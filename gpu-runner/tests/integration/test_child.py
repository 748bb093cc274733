"""The real child, the tiny pipeline, real torch: what a render promises."""

import hashlib
import io
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as Pil
from runner_testkit.child import Talk
from runner_testkit.png import read_recipe

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.fleet import batch_shape
from dreamforge.gpu_runner.protocol.messages import (
    Cancel,
    Cancelled,
    Done,
    Failed,
    Load,
    LoadFailed,
    MemoryObserved,
    ModelLoaded,
    Ready,
    Render,
    StepDone,
)
from dreamforge.gpu_runner.protocol.render_task import RenderTask

pytestmark = [
    pytest.mark.torch,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("child"),
]
MakeTask = Callable[..., RenderTask]


async def test_a_model_is_loaded_before_its_first_job(
    talk: Talk, tiny_task: MakeTask, tiny_folder: Path, tmp_path: Path
) -> None:
    task = tiny_task(model_id="new", model_path=str(shutil.copytree(tiny_folder, tmp_path / "new")))
    talk.child.send(Load(model_id="new", path=task.model.path, digest=task.model.digest))
    await talk.images(task)
    (loaded,) = (said for said in talk.said(ModelLoaded) if said.model_id == "new")
    assert loaded.bytes > 1_000_000
    assert talk.heard.index(loaded) < talk.heard.index(talk.steps(task)[0])


async def test_a_run_on_the_processor_tells_its_peak_once_the_weights_were_read(
    talk: Talk, tiny_task: MakeTask, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "measured")
    tasks = [tiny_task(model_id="measured", model_path=str(folder)) for _ in range(2)]
    await talk.images(tasks[0])  # its weights are mapped, and read meanwhile: nothing is told of this run
    shape = batch_shape("measured", tasks[0].request.width_px, tasks[0].request.height_px)
    assert not [each for each in talk.said(MemoryObserved) if each.shape == shape]
    await talk.images(tasks[1])
    (observed,) = [each for each in talk.said(MemoryObserved) if each.shape == shape]
    (loaded,) = [each for each in talk.said(ModelLoaded) if each.model_id == "measured"]
    assert loaded.bytes <= (observed.peak_bytes or 0) < loaded.bytes + 2**30
    assert observed.images == 1


async def test_an_image_is_the_same_alone_and_in_a_job_of_many(talk: Talk, tiny_task: MakeTask) -> None:
    many = await talk.images(tiny_task(seeds=(1, 2, 3)))
    alone = await talk.images(tiny_task(seeds=(2,)))
    assert [image.image_index for image in many] == [0, 1, 2]
    assert len({image.sha256 for image in many}) == 3
    assert alone[0].body == many[1].body


async def test_a_picture_is_what_was_asked_for_and_says_how_it_was_made(talk: Talk, tiny_task: MakeTask) -> None:
    task = tiny_task(width_px=96, height_px=32, negative_prompt="text", seeds=(5,))
    (image,) = await talk.images(task)
    ready = await talk.until(Ready)
    recipe = read_recipe(image.body)
    assert hashlib.sha256(image.body).hexdigest() == image.sha256
    with Pil.open(io.BytesIO(image.body)) as decoded:
        assert decoded.size == (96, 32)
        assert len(decoded.getcolors(96 * 32) or ()) > 100
    assert recipe == image.recipe
    assert (recipe.prompt, recipe.negative_prompt, recipe.seed) == (task.request.prompt, "text", 5)
    assert (recipe.model_id, recipe.model_digest) == ("tiny", task.model.digest)
    made_by = (recipe.renderer, recipe.pipeline, recipe.sampler)
    assert made_by == ("diffusers", "StableDiffusionPipeline", "DDIMScheduler")
    assert recipe.versions == ready.engine.versions
    assert ready.quantisations.keys() == {"int8", "float8"}
    assert recipe.versions.keys() >= {"torch", "diffusers", "transformers", "python", "dreamforge"}
    assert task.task_id not in recipe.model_dump_json()


async def test_the_prompt_and_the_guidance_change_the_picture(talk: Talk, tiny_task: MakeTask) -> None:
    changes: tuple[dict[str, object], ...] = ({}, {"prompt": "a blue cat"}, {"guidance_scale": 9.0}, {"steps": 5})
    rows = set()
    for change in changes:
        (image,) = await talk.images(tiny_task(**change))
        with Pil.open(io.BytesIO(image.body)) as decoded:
            rows.add(decoded.tobytes())
    assert len(rows) == len(changes)


async def test_every_step_is_told_in_order(talk: Talk, tiny_task: MakeTask) -> None:
    task = tiny_task(steps=5, seeds=(1, 2))
    await talk.images(task)
    told = [(step.image_index, step.step, step.steps) for step in talk.steps(task)]
    assert told == [(image, step, 5) for image in (0, 1) for step in range(1, 6)]


async def test_cancel_takes_effect_within_one_step(talk: Talk, tiny_task: MakeTask) -> None:
    task = tiny_task(steps=900)
    talk.child.send(Render(tasks=(task,)))
    await talk.until(StepDone, task.task_id)
    seen_before = len(talk.steps(task))
    talk.child.send(Cancel(task_id=task.task_id))
    await talk.until(Cancelled, task.task_id)
    # Steps that were on the wire when we wrote, and the one that was being made: far from the 900 asked for.
    assert len(talk.steps(task)) - seen_before < 20
    assert len(await talk.images(tiny_task())) == 1


async def test_a_task_cancelled_while_it_waits_is_never_begun(talk: Talk, tiny_task: MakeTask) -> None:
    first, second = tiny_task(steps=60), tiny_task()
    talk.child.send(Render(tasks=(first,)))
    talk.child.send(Render(tasks=(second,)))
    talk.child.send(Cancel(task_id=second.task_id))
    await talk.until(Cancelled, second.task_id)
    await talk.until(Done, first.task_id)
    assert talk.steps(second) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"width_px": 60}, FailureReason.INVALID_REQUEST),
        ({"steps": 1000}, FailureReason.INVALID_REQUEST),
        ({"model_path": "/nowhere", "model_id": "other"}, FailureReason.MODEL_MISSING),
    ],
)
async def test_a_task_that_cannot_be_done_fails_alone(
    talk: Talk, tiny_task: MakeTask, changes: dict[str, object], reason: FailureReason
) -> None:
    failed = await talk.end_of(tiny_task(**changes))
    assert isinstance(failed, Failed)
    assert failed.reason is reason
    assert len(await talk.images(tiny_task())) == 1


async def test_pickled_weights_are_never_read(
    talk: Talk, tiny_task: MakeTask, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "pickled")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "diffusion_pytorch_model.bin")
    talk.child.send(Load(model_id="pickled", path=str(folder), digest="0" * 64))
    assert (await talk.until(LoadFailed)).reason is FailureReason.MODEL_BROKEN
    assert len(await talk.images(tiny_task())) == 1


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "euler", "euler_a", "unipc"])
async def test_every_sampler_is_deterministic_and_leaves_no_trace(
    talk: Talk, tiny_task: MakeTask, sampler: str
) -> None:
    (plain,) = await talk.images(tiny_task())
    first, second = [(await talk.images(tiny_task(sampler=sampler)))[0] for _ in (1, 2)]
    (after,) = await talk.images(tiny_task())
    assert first.body == second.body
    assert plain.body == after.body
    assert (first.sha256 == plain.sha256) is (first.recipe.sampler == plain.recipe.sampler)


async def test_the_signals_of_a_terminal_do_not_end_it(talk: Talk, tiny_task: MakeTask) -> None:
    os.kill(talk.child.pid, signal.SIGINT)
    os.kill(talk.child.pid, signal.SIGTERM)
    assert len(await talk.images(tiny_task())) == 1
