"""A guidance scale that changes from step to step, with real tiny pipelines."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from runner_testkit.tasks import changed, render_task

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.guidance_schedule import GuidanceSchedule
from dreamforge.contracts.request.values import Upscale
from dreamforge.gpu_runner.protocol.render_task import InputImage, RenderTask, TaskImage
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderedImage, RenderFailed

pytestmark = pytest.mark.torch
FAMILIES = ("stable-diffusion", "stable-diffusion-2", "sdxl", "sd3")
GUIDANCE = 7.0
#: Of 255. The sum of both predictions is rounded otherwise than the one for the prompt.
LEVELS_MAX = 1
FADING = GuidanceSchedule(shape="linear", to=1.0)
SAME = GuidanceSchedule(shape="linear", to=GUIDANCE)


@pytest.fixture(scope="module")
def scales() -> list[float]:
    """The scale of each step but the first of each pass, as its pipeline has it."""
    return []


@pytest.fixture(scope="module")
def renderer(scales: list[float]) -> Any:
    """A renderer on the CPU with one more feature, which writes down scales. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer
    from dreamforge.gpu_runner.rendering.feature_list import standard_features
    from dreamforge.gpu_runner.rendering.hooks import RenderFeature, StepChange

    class Scales(RenderFeature):
        def before_step(self, context: Any, pipeline: Any) -> StepChange:
            return lambda *_: scales.append(pipeline.guidance_scale)

    return DiffusersRenderer(
        device="cpu", dtype="auto", threads=1, features=lambda device: (*standard_features(device), Scales())
    )


@pytest.fixture
def image(tmp_path: Path) -> InputImage:
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(tmp_path / "a.png")
    return InputImage(path=str(tmp_path / "a.png"), sha256="a" * 64)


def task_of(cache: Path, family: str, **values: Any) -> RenderTask:
    from runner_testkit.families import ensure_family

    folder = str(ensure_family(cache, family))
    return render_task(**{"model_id": family, "model_path": folder, "guidance_scale": GUIDANCE} | values)


def loaded(renderer: Any, task: RenderTask) -> Any:
    key = ModelKey.of_task(task)
    if not renderer.is_resident(key):
        renderer.load(key)
    return renderer


def rendered(renderer: Any, task: RenderTask) -> RenderedImage:
    image: RenderedImage = loaded(renderer, task).render(task, 1, lambda *_: None)
    return image


def levels_apart(one: RenderedImage, other: RenderedImage) -> int:
    """The largest difference of a sample; rows are filtered."""
    found = [
        np.cumsum(np.frombuffer(each.scanlines, np.uint8).reshape(64, -1)[:, 1:].reshape(64, 64, 3), 1, np.int64) % 256
        for each in (one, other)
    ]
    return int(np.abs(found[0] - found[1]).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_schedule_changes_the_render_that_names_it_and_leaves_nothing_behind(
    renderer: Any, cache: Path, family: str
) -> None:
    plain = task_of(cache, family)
    fading = changed(plain, guidance_schedule=FADING)
    before, first, second, after = (rendered(renderer, task) for task in (plain, fading, fading, plain))
    assert before.scanlines == after.scanlines
    assert first.scanlines == second.scanlines != before.scanlines
    assert first.recipe.model_dump()["guidance_schedule"] == FADING.model_dump()
    assert "guidance_schedule" not in before.recipe.model_dump()
    same = changed(plain, guidance_schedule=SAME)
    assert rendered(renderer, same).scanlines == before.scanlines, "each step set to the scale that it had"


@pytest.mark.parametrize("family", FAMILIES)
def test_at_a_scale_of_one_the_negative_prompt_has_no_weight(renderer: Any, cache: Path, family: str) -> None:
    unguided = task_of(cache, family, guidance_scale=1.0)
    scheduled = changed(unguided, guidance_schedule=GuidanceSchedule(shape="linear", to=0.0), negative_prompt="blue")
    assert levels_apart(rendered(renderer, unguided), rendered(renderer, scheduled)) <= LEVELS_MAX


def test_guidance_can_begin_after_the_first_step(renderer: Any, cache: Path, scales: list[float]) -> None:
    late = task_of(cache, "sdxl", guidance_schedule=GuidanceSchedule(shape="constant", start=0.5))
    whole, never = changed(late, guidance_schedule=None), changed(late, guidance_scale=1.0, guidance_schedule=None)
    scales.clear()
    found = rendered(renderer, late)
    assert scales == pytest.approx([1.0, GUIDANCE, GUIDANCE])
    assert len({found.scanlines, rendered(renderer, whole).scanlines, rendered(renderer, never).scanlines}) == 3
    in_two = {"steps": 2, "guidance_scale": 1.0, "guidance_schedule": SAME}
    rising, late_of_two = changed(late, **in_two), changed(late, steps=2)
    assert rendered(renderer, rising).scanlines == rendered(renderer, late_of_two).scanlines, "1, then the scale"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("with_mask", [False, True])
def test_from_an_image_it_is_over_the_steps_that_are_made(
    renderer: Any, cache: Path, scales: list[float], image: InputImage, family: str, with_mask: bool
) -> None:
    start = {"init_image": image, "strength": 0.5} | ({"mask_image": image} if with_mask else {})
    task = task_of(cache, family, steps=6, guidance_schedule=FADING, **start)
    scales.clear()
    found = rendered(renderer, task)
    assert scales == pytest.approx([4.0, 1.0])
    assert found.scanlines != rendered(renderer, changed(task, guidance_schedule=None)).scanlines


def test_a_second_pass_has_it_again_over_its_own_steps(renderer: Any, cache: Path, scales: list[float]) -> None:
    upscale = Upscale(width_px=96, height_px=96, strength=0.5, steps=6, guidance_scale=3.0)
    scales.clear()
    rendered(renderer, task_of(cache, "stable-diffusion", guidance_schedule=FADING, upscale=upscale))
    assert scales == pytest.approx([5.0, 3.0, 1.0, 2.0, 1.0])


def test_a_sampler_of_second_order_counts_each_evaluation(renderer: Any, cache: Path, scales: list[float]) -> None:
    scales.clear()
    rendered(renderer, task_of(cache, "stable-diffusion", guidance_schedule=FADING, sampler="heun"))
    assert scales == pytest.approx([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])


def test_images_with_one_schedule_are_rendered_together(renderer: Any, cache: Path) -> None:
    tasks = [
        task_of(cache, "stable-diffusion", task_id=prompt, prompt=prompt, guidance_schedule=FADING)
        for prompt in ("a red circle", "two birds over the sea")
    ]
    together = loaded(renderer, tasks[0]).render_together([TaskImage(task, 0) for task in tasks], lambda *_: None)
    for task, found in zip(tasks, together, strict=True):
        assert levels_apart(rendered(renderer, task), found) <= LEVELS_MAX


def test_after_an_error_nothing_is_left_behind(renderer: Any, cache: Path) -> None:
    task = task_of(cache, "stable-diffusion")
    plain = rendered(renderer, task)

    def stop(*_: object) -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        renderer.render(changed(task, guidance_schedule=FADING), 1, stop)
    assert rendered(renderer, task).scanlines == plain.scanlines


def test_a_pipeline_that_reads_the_scale_once_refuses(renderer: Any, cache: Path) -> None:
    with pytest.raises(RenderFailed, match="FluxPipeline reads its scale once") as failure:
        rendered(renderer, task_of(cache, "flux", guidance_schedule=FADING))
    assert failure.value.reason is FailureReason.INVALID_REQUEST
