"""Every family of models, whole and tiny: painting by the same code as the large ones."""

from pathlib import Path
from typing import Any

import pytest

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.task import RenderTask

pytestmark = pytest.mark.torch
FAMILIES = ("stable-diffusion", "stable-diffusion-2", "sdxl", "sd3", "flux")
STEPS = 2


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny models are built, once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer on the CPU that may keep two models. Any: its module imports torch."""
    from dreamforge.gpu_runner.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1, resident_models=2)


def a_task(cache: Path, family: str, **changes: Any) -> RenderTask:
    """A task for a family's tiny model."""
    from dreamforge.gpu_runner.tiny_families import ensure_family

    folder = ensure_family(cache, family)
    values: dict[str, Any] = {
        "task_id": "t",
        "model_id": folder.name,
        "model_path": str(folder),
        "model_digest": "0" * 64,
        "prompt": "a red circle over the sea",
        "width_px": 64,
        "height_px": 64,
        "steps": STEPS,
        "guidance_scale": 3.0,
        "seeds": (1,),
    }
    return RenderTask(**values | changes)


def paint(renderer: Any, task: RenderTask) -> tuple[list[bytes], list[tuple[int, int]]]:
    """The rows of each image of a task, and every step that was told."""
    from dreamforge.gpu_runner.renderer import ModelKey

    key = ModelKey(task.model_id, Path(task.model_path), task.model_digest)
    if not renderer.is_resident(key):
        renderer.load(key)
    steps: list[tuple[int, int]] = []
    painted = [renderer.paint(task, seed, lambda step, of: steps.append((step, of))) for seed in task.seeds]
    return [image.scanlines for image in painted], steps


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_becomes_a_picture_in_as_many_steps_as_asked(renderer: Any, cache: Path, family: str) -> None:
    (rows,), steps = paint(renderer, a_task(cache, family))
    assert len(rows) == 64 * (1 + 3 * 64)
    assert steps == [(step, STEPS) for step in range(1, STEPS + 1)]
    (other,), _ = paint(renderer, a_task(cache, family, prompt="a dog"))
    assert rows != other


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_is_the_same_alone_and_in_a_job_of_several(renderer: Any, cache: Path, family: str) -> None:
    batch, _ = paint(renderer, a_task(cache, family, seeds=(1, 2, 3)))
    alone = [paint(renderer, a_task(cache, family, seeds=(seed,)))[0][0] for seed in (3, 2, 1)]
    assert batch == alone[::-1]
    assert len(set(batch)) == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_side_that_a_latent_does_not_fill_is_refused(renderer: Any, cache: Path, family: str) -> None:
    from dreamforge.gpu_runner.renderer import RenderFailed

    with pytest.raises(RenderFailed, match="not a multiple") as refused:
        paint(renderer, a_task(cache, family, width_px=72 if family in ("sd3", "flux") else 68))
    assert refused.value.reason is FailureReason.INVALID_REQUEST
