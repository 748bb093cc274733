"""Prompts are rendered in one run where none is padded for another: told before a run is begun, checked in it."""

from pathlib import Path
from typing import Any

import pytest
from runner_testkit.tasks import changed
from runner_testkit.worker import Worker

from dreamforge.gpu_runner.protocol.messages import Done
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

from .test_together import LEVELS_MAX, alone, levels_apart, tasks, together, ways

pytestmark = pytest.mark.torch
#: Pad to the longest prompt of a run. Prompts of as many tokens for the first, of as many blocks for the second.
ALIKE = {"qwen-image": ("a red fox", "a red owl", "two birds"), "z-image": ("a", "a red owl", "two")}
LONGER = "a red fox under a paper moon, far over the hills"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, torch_installed: None) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


def values_of(way: str, cache: Path, folder: Path, family: str) -> dict[str, Any]:
    given = ways(cache, folder, family)
    plain = given["masked"] | {"mask_fill": "original"}  # what Z-Image encodes has no latents to fill
    return {"text": {}, "negative": {"negative_prompt": "water"}, "masked": plain}.get(way, given.get(way, {}))


@pytest.mark.parametrize(
    ("family", "way"),
    [
        *(("qwen-image", way) for way in ("text", "negative", "masked", "upscale")),
        *(("z-image", way) for way in ("text", "over", "lora")),
    ],
)
def test_an_image_is_its_own_beside_prompts_of_its_length(
    renderer: Any, cache: Path, tmp_path: Path, family: str, way: str
) -> None:
    made = tasks(cache, family, ALIKE[family], **values_of(way, cache, tmp_path, family))
    first = together(renderer, made)
    for task, image in zip(made, first, strict=True):
        assert levels_apart(alone(renderer, task), image) <= LEVELS_MAX
    assert len({image.scanlines for image in first}) == len(made)
    assert len({renderer.prompt_form(task) for task in made}) == 1
    copies = together(renderer, [made[1]] * 3)
    assert copies[1].scanlines == first[1].scanlines, "as a geometry is rendered again"


@pytest.mark.parametrize("family", ALIKE)
def test_prompts_of_another_length_have_another_form_and_are_refused_in_one_run(
    renderer: Any, cache: Path, family: str
) -> None:
    made = tasks(cache, family, (ALIKE[family][0], LONGER))
    with pytest.raises(RenderFailed, match="not in one run: prompts of another length"):
        together(renderer, made)
    assert renderer.prompt_form(made[0]) != renderer.prompt_form(made[1])
    against = changed(made[0], negative_prompt=LONGER)
    assert renderer.prompt_form(against) != renderer.prompt_form(made[0])
    before = alone(renderer, made[0])
    assert together(renderer, [made[0]] * 2)[0].recipe.geometry is not None
    assert alone(renderer, made[0]).scanlines == before.scanlines


@pytest.mark.parametrize(
    ("family", "prompts", "values"),
    [
        ("qwen-image", (*ALIKE["qwen-image"][:2], LONGER, LONGER), {}),
        ("stable-diffusion", ("a fox", "(a) fox", "a [red] fox", "a red owl"), {"prompt_syntax": "weighted"}),
        ("stable-diffusion", ("a fox", f"{LONGER}, " * 9, "a red owl", f"{LONGER}; " * 9), {}),
    ],
)
def test_no_run_is_begun_of_prompts_that_do_not_go_together(
    renderer: Any,
    cache: Path,
    family: str,
    prompts: tuple[str, ...],
    values: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bounds = {"together_max": 4, "batch_seconds": {2: 0.5, 4: 0.25}}
    made = tasks(cache, family, prompts, **values, **bounds)
    begun: list[int] = []
    run = renderer.render_together
    monkeypatch.setattr(
        renderer, "render_together", lambda images, on_step: begun.append(len(images)) or run(images, on_step)
    )
    worker = Worker(renderer)
    worker.run(*made)
    assert {each.task_id for each in worker.said(Done)} == {task.task_id for task in made}
    assert begun == [2, 2]
