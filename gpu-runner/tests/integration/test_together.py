"""Images in one run: each as it is alone, but for the last bits, and the same bytes whatever is beside it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runner_testkit.tasks import render_task

from dreamforge.contracts.request.values import Geometry
from dreamforge.gpu_runner.protocol.render_task import RenderTask, TaskImage
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderedImage, RenderFailed

pytestmark = pytest.mark.torch
FAMILIES = ("stable-diffusion", "stable-diffusion-2", "sdxl", "sd3", "flux")
PROMPTS = ("a red circle over the sea", "two birds", "a", "mountains at sunset")
#: Of 255. A batch differs in the last bits of floats, and tiny random models do not spread that.
LEVELS_MAX = 1


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny models are built, once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


def tasks(cache: Path, family: str, prompts: tuple[str, ...] = PROMPTS, **changes: Any) -> list[RenderTask]:
    """A task for each prompt, with a seed of its own."""
    from runner_testkit.families import ensure_family

    folder = ensure_family(cache, family)
    shared = {"model_id": folder.name, "model_path": str(folder), "steps": 2} | changes
    return [
        render_task(**{"task_id": f"t{number}", "prompt": prompt, "seed": 10 + number} | shared)
        for number, prompt in enumerate(prompts)
    ]


def together(renderer: Any, made: list[RenderTask]) -> list[RenderedImage]:
    key = ModelKey.of_task(made[0])
    if not renderer.is_resident(key):
        renderer.load(key)
    assert renderer.renders_together(made[0])
    rendered = renderer.render_together([TaskImage(task, 0) for task in made], lambda *_: None)
    assert None not in rendered
    return list(rendered)


def alone(renderer: Any, task: RenderTask) -> RenderedImage:
    image: RenderedImage = renderer.render(task, task.seeds[0], lambda *_: None)
    return image


def pixels(image: RenderedImage) -> Any:
    """The pixels of filtered rows. Any: an array."""
    rows = np.frombuffer(image.scanlines, np.uint8).reshape(image.recipe.height_px, -1)[:, 1:]
    return np.cumsum(rows.reshape(len(rows), -1, 3).astype(np.int64), axis=1) % 256


def levels_apart(one: RenderedImage, other: RenderedImage) -> int:
    return int(np.abs(pixels(one) - pixels(other)).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_is_its_own_whatever_is_rendered_with_it(renderer: Any, cache: Path, family: str) -> None:
    made = tasks(cache, family)
    first = together(renderer, made)
    for task, image in zip(made, first, strict=True):
        assert levels_apart(alone(renderer, task), image) <= LEVELS_MAX
    assert len({image.scanlines for image in first}) == len(made)
    others = tasks(cache, family, ("something else", *PROMPTS[1:2], "a very long story " * 3, ""))
    assert together(renderer, others)[1].scanlines == first[1].scanlines
    copies = together(renderer, [made[2]] * 4)
    assert copies[2].scanlines == first[2].scanlines, "as a geometry is rendered again"
    assert first[2].recipe.geometry == Geometry(size=4, place=2)


@pytest.mark.parametrize("sampler", ["ddpm", "dpmpp_2m_sde", "dpmpp_sde", "euler_a", "heun", "lcm", "pndm", "unipc"])
def test_the_noise_of_every_sampler_is_of_the_images_own_seed(renderer: Any, cache: Path, sampler: str) -> None:
    made = tasks(cache, "stable-diffusion", sampler=sampler, steps=4)
    for task, image in zip(made, together(renderer, made), strict=True):
        assert levels_apart(alone(renderer, task), image) <= LEVELS_MAX


def test_prompts_with_weights_and_negative_prompts_go_together(renderer: Any, cache: Path) -> None:
    prompts = ("a (red:1.3) circle", "a [blue] circle", "(((a)))")
    made = tasks(cache, "sdxl", prompts, prompt_syntax="weighted", negative_prompt="a (bad:1.2) one")
    for task, image in zip(made, together(renderer, made), strict=True):
        assert levels_apart(alone(renderer, task), image) <= LEVELS_MAX


def test_prompts_of_another_length_are_refused_and_what_follows_is_as_before(renderer: Any, cache: Path) -> None:
    made = tasks(cache, "stable-diffusion", ("a fox", "a red fox under a paper moon, " * 12))
    before = alone(renderer, made[0]) if renderer.is_resident(ModelKey.of_task(made[0])) else None
    with pytest.raises(RenderFailed, match="not in one run"):
        together(renderer, made)
    assert before is None or alone(renderer, made[0]).scanlines == before.scanlines
