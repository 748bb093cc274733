"""A step cache changes a render that asks for it, the same way each time, and no other."""

from pathlib import Path
from typing import Any

import pytest
from runner_testkit.tasks import changed, render_task, rendered

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.models.descriptor import FAMILY_PARAMETERS
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

pytestmark = [pytest.mark.torch, pytest.mark.timeout(240)]
VIDEO = {"frames": 5, "frames_per_second": 8, "output_format": "mp4", "output_quality": 65}
#: Higher than anyone would choose: the tiny models' layers do little.
THRESHOLD = 0.9


@pytest.fixture(scope="module")
def renderer() -> Any:  # Any: see below
    # Not imported before a test needs it: it brings torch.
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


def task_of(cache: Path, family: str) -> RenderTask:
    """Six steps of a tiny model."""
    from runner_testkit.families import ensure_family

    known = FAMILY_PARAMETERS.get(family)
    more = VIDEO if known is not None and known.is_video else {}
    if family == "ltx":
        more = more | {"frames": 9}
    return render_task(model_id=family, model_path=str(ensure_family(cache, family)), steps=6, **more)


@pytest.mark.parametrize("family", ["flux", "qwen-image", "wan", "wan-ti2v", "ltx"])
def test_a_cache_changes_the_render_that_names_it_and_leaves_nothing_behind(
    renderer: Any, cache: Path, family: str
) -> None:
    assert FAMILY_PARAMETERS[family].step_cache
    exact = task_of(cache, family)
    cached = changed(exact, step_cache=THRESHOLD)
    before, first, second, after = (rendered(renderer, task) for task in (exact, cached, cached, exact))
    assert before.scanlines == after.scanlines
    assert first.scanlines == second.scanlines != before.scanlines
    assert first.recipe.model_dump()["step_cache"] == THRESHOLD
    assert "step_cache" not in before.recipe.model_dump()


def test_a_render_that_is_cut_short_leaves_no_cache(renderer: Any, cache: Path) -> None:
    exact = task_of(cache, "flux")
    before = rendered(renderer, exact)

    def stop(step: int, of: int, preview: str | None) -> None:
        raise KeyError("stop")

    with pytest.raises(KeyError):
        renderer.render(changed(exact, step_cache=THRESHOLD), 1, stop)
    assert rendered(renderer, exact).scanlines == before.scanlines


def test_a_pipeline_without_one_refuses_it(renderer: Any, cache: Path) -> None:
    assert not FAMILY_PARAMETERS["stable-diffusion-xl"].step_cache
    with pytest.raises(RenderFailed, match="StableDiffusionXLPipeline has no step cache") as refused:
        rendered(renderer, changed(task_of(cache, "sdxl"), step_cache=0.1))
    assert refused.value.reason is FailureReason.INVALID_REQUEST
