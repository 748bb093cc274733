"""What stays in memory, and where its parts wait."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from runner_testkit.tasks import LocalControl, render_task

from dreamforge.contracts.request.values import ControlUse
from dreamforge.gpu_runner.protocol.render_task import InputImage, ModelFiles
from dreamforge.gpu_runner.rendering.renderer import ModelKey, ModelPlacement, RenderCancelled
from dreamforge.runtime.storage.model_inspection import inspect_model

pytestmark = pytest.mark.torch
FAMILIES = ("stable-diffusion", "sdxl", "sd3", "flux")


def key(cache: Path, family: str, placement: ModelPlacement | None = None) -> ModelKey:
    """A family's tiny model."""
    from runner_testkit.families import ensure_family

    return ModelKey(family, ensure_family(cache, family), "0" * 64, placement or ModelPlacement())


def residents(budget_bytes: int) -> Any:
    """A pipeline cache on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.features.memory_placement import MemoryPlacement
    from dreamforge.gpu_runner.rendering.pipeline_cache import PipelineCache
    from dreamforge.gpu_runner.rendering.torch_device import TorchDevice

    device = TorchDevice.settle("cpu", "float32", 1)
    return PipelineCache(device, budget_bytes=budget_bytes, place=MemoryPlacement(device.device).place)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_headers_tell_the_bytes_before_anything_is_loaded(cache: Path, family: str) -> None:
    size_bytes, _ = residents(10**9).load(key(cache, family))
    # Buffers that are not saved come on top: position numbers and the like.
    assert inspect_model(key(cache, family).path).size.loaded_bytes(4) == pytest.approx(size_bytes, rel=0.05)
    half_bytes, _ = residents(10**9).load(key(cache, family, ModelPlacement("float16")))
    assert inspect_model(key(cache, family).path).size.loaded_bytes(2) == pytest.approx(half_bytes, rel=0.05)


def test_models_stay_until_their_bytes_do_not_fit_and_the_least_recently_used_leaves(cache: Path) -> None:
    sizes = {family: residents(10**9).load(key(cache, family))[0] for family in FAMILIES}
    held = residents(sum(sizes.values()) - sizes[FAMILIES[1]] // 2)
    assert [held.load(key(cache, family))[1] for family in FAMILIES[:3]] == [(), (), ()]
    held.get(key(cache, FAMILIES[0]))
    assert held.load(key(cache, FAMILIES[3]))[1] == (FAMILIES[1],)
    assert [key(cache, family) in held for family in FAMILIES] == [True, False, True, True]


def test_a_model_larger_than_the_budget_is_loaded_alone(cache: Path) -> None:
    held = residents(1)
    held.load(key(cache, "sd3"))
    assert held.load(key(cache, "flux"))[1] == ("sd3",)
    assert key(cache, "flux") in held


def test_a_model_is_never_held_in_two_ways_at_once(cache: Path) -> None:
    held = residents(10**9)
    held.load(key(cache, "flux"))
    assert key(cache, "flux", ModelPlacement("float32", "model")) in held
    assert held.load(key(cache, "flux", ModelPlacement("bfloat16")))[1] == ("flux",)
    assert key(cache, "flux") not in held


def a_render(
    cache: Path, base: Any, family: str, on_step: Any, tmp_path: Path | None = None, device: str = "cpu"
) -> bytes:
    """The rows that a renderer makes with a pipeline that was placed by the test."""
    from runner_testkit.assets import ensure_controlnet

    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    renderer: Any = DiffusersRenderer(device=device, dtype="float32", threads=1)
    renderer._pipelines = type("One", (), {"get": lambda self, key: base})()
    changes: dict[str, Any] = {}
    if tmp_path is not None:
        Image.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / "p.png")
        picture = InputImage(path=str(tmp_path / "p.png"), sha256="1" * 64)
        changes = {"init_image": picture, "strength": 0.5, "steps": 4}
        if family in ("stable-diffusion", "sdxl"):
            net = ensure_controlnet(cache, family)
            use = ControlUse(model_id="c", image=picture.sha256)
            changes["control"] = LocalControl(use, ModelFiles(path=str(net), digest="2" * 64), picture)
    task = render_task(**{"model_id": family, "prompt": "a fox", "steps": 2} | changes)
    rows: bytes = renderer.render(task, 1, on_step).scanlines
    return rows


def quiet(step: int, steps: int, preview: Any) -> None:
    """No one watches."""


def cancelling(step: int, steps: int, preview: Any) -> None:
    """Cancels at the first step."""
    raise RenderCancelled


def check_parts_that_wait(cache: Path, tmp_path: Path, family: str, apart: ModelPlacement, device: str) -> None:
    """A model that is held whole and one whose parts wait render the same, also after a render was cut short."""
    import torch

    from dreamforge.gpu_runner.rendering.features.memory_placement import MemoryPlacement
    from dreamforge.gpu_runner.rendering.pipeline import read_pipeline

    def placed(how: ModelPlacement) -> Any:
        pipeline = read_pipeline(key(cache, family).path, dtype=torch.float32).pipeline
        pipeline.set_progress_bar_config(disable=True)
        MemoryPlacement(torch.device(device)).place(pipeline, how)
        return pipeline

    def rendered(base: Any) -> list[bytes]:
        return [a_render(cache, base, family, quiet, place, device) for place in (None, tmp_path)]

    waiting, images = placed(apart), rendered(placed(ModelPlacement()))
    assert rendered(waiting) == images
    for place in (None, tmp_path):
        with pytest.raises(RenderCancelled):
            a_render(cache, waiting, family, cancelling, place, device)
        assert rendered(waiting) == images


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("offload", ["model", "group"])
def test_parts_that_wait_elsewhere_render_the_same_image_in_every_mode(
    cache: Path, tmp_path: Path, family: str, offload: Any
) -> None:
    """The hooks are the ones of a GPU; that both memories are the CPU's is all that differs."""
    check_parts_that_wait(cache, tmp_path, family, ModelPlacement(offload=offload), "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("offload", ["model", "group", "sequential"])
def test_parts_that_wait_in_the_hosts_memory_render_the_same_image(
    cache: Path, tmp_path: Path, torch_gpu: None, family: str, offload: Any
) -> None:
    check_parts_that_wait(cache, tmp_path, family, ModelPlacement(offload=offload), "cuda")


@pytest.mark.gpu
def test_a_runner_that_shares_a_card_allocates_its_part_only(torch_gpu: None) -> None:
    import torch

    from dreamforge.gpu_runner.rendering.torch_device import TorchDevice

    device = TorchDevice.settle("cuda", "auto", 1)
    device.limit_to_part(2)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(int(0.6 * device.report().total_bytes), dtype=torch.uint8, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
