"""LoRAs and ControlNets over tiny models of each family: laid, lifted, and refused where they do not fit."""

from pathlib import Path
from typing import Any

import pytest

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.renderer import ModelKey, RenderFailed
from dreamforge.gpu_runner.task import LoraTask, RenderTask

pytestmark = pytest.mark.torch
FAMILIES = ("stable-diffusion", "sdxl", "sd3", "flux")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny models are built, once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1, resident_models=2)


def a_lora(cache: Path, family: str, weight: float = 1.0) -> LoraTask:
    """A LoRA made for a family's tiny model."""
    from dreamforge.gpu_runner.tiny_assets import ensure_lora

    folder = ensure_lora(cache, family)
    return LoraTask(model_id=folder.name, path=str(folder), digest="1" * 64, weight=weight)


def paint(renderer: Any, cache: Path, family: str, **changes: Any) -> bytes:
    """The rows of one picture."""
    from dreamforge.gpu_runner.tiny_families import ensure_family

    folder = ensure_family(cache, family)
    values: dict[str, Any] = {
        "task_id": "t",
        "model_id": folder.name,
        "model_path": str(folder),
        "model_digest": "0" * 64,
        "prompt": "a red circle",
        "width_px": 64,
        "height_px": 64,
        "steps": 2,
        "guidance_scale": 3.0,
        "seeds": (1,),
    }
    task = RenderTask(**values | changes)
    key = ModelKey(task.model_id, folder, task.model_digest)
    if not renderer.is_resident(key):
        renderer.load(key)
    rows: bytes = renderer.paint(task, 1, lambda step, of: None).scanlines
    return rows


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_changes_a_picture_and_leaves_no_trace_in_the_next(renderer: Any, cache: Path, family: str) -> None:
    before = paint(renderer, cache, family)
    whole = paint(renderer, cache, family, loras=(a_lora(cache, family),))
    weak = paint(renderer, cache, family, loras=(a_lora(cache, family, 0.5),))
    assert len({before, whole, weak}) == 3
    assert paint(renderer, cache, family, loras=(a_lora(cache, family),)) == whole
    assert paint(renderer, cache, family) == before


def test_several_loras_add_up(renderer: Any, cache: Path) -> None:
    lora = a_lora(cache, "sdxl")
    half = lora.model_copy(update={"weight": 0.5})
    assert paint(renderer, cache, "sdxl", loras=(half, half)) != paint(renderer, cache, "sdxl", loras=(half,))


@pytest.mark.parametrize(
    ("family", "other"), [("sdxl", "stable-diffusion"), ("stable-diffusion", "flux"), ("sd3", "sdxl")]
)
def test_a_lora_of_another_base_is_refused_by_name_and_leaves_no_trace(
    renderer: Any, cache: Path, family: str, other: str
) -> None:
    before = paint(renderer, cache, family)
    with pytest.raises(RenderFailed, match=f"tiny-lora-{other}-v1 does not fit tiny-") as refused:
        paint(renderer, cache, family, loras=(a_lora(cache, family), a_lora(cache, other)))
    assert refused.value.reason is FailureReason.INVALID_REQUEST
    assert paint(renderer, cache, family) == before


def test_a_lora_without_a_file_is_missing(renderer: Any, cache: Path, tmp_path: Path) -> None:
    nothing = LoraTask(model_id="nothing", path=str(tmp_path), digest="1" * 64, weight=1.0)
    with pytest.raises(RenderFailed, match="nothing: 0 safetensors") as missing:
        paint(renderer, cache, "sdxl", loras=(nothing,))
    assert missing.value.reason is FailureReason.MODEL_MISSING
