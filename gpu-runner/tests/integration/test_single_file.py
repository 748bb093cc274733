"""A checkpoint of one file paints what the same weights paint as a folder of parts."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from runner_testkit.tasks import render_task

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed
from dreamforge.runtime.storage.model_inspection import inspect_model

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, torch_installed: None) -> Path:
    """The tiny Stable Diffusion as diffusers saves it."""
    from runner_testkit.families import ensure_family

    return ensure_family(tmp_path_factory.mktemp("models"), "stable-diffusion")


@pytest.fixture
def one_file(parts: Path, tmp_path: Path) -> Path:
    """The same weights in one file, beside the configurations of its parts."""
    import torch

    from dreamforge.gpu_runner.rendering.pipeline import read_pipeline

    from .original_layout import save_as_one_file

    folder = tmp_path / "one"
    shutil.copytree(parts, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    save_as_one_file(read_pipeline(parts, dtype=torch.float32).pipeline, folder / "model.safetensors")
    return folder


def render(renderer: Any, folder: Path) -> bytes:
    """The rows of one picture."""
    task = render_task(model_id=folder.name, model_path=str(folder), steps=3)
    renderer.load(ModelKey.of_task(task))
    rows: bytes = renderer.render(task, 1, lambda step, of, preview: None).scanlines
    return rows


def test_a_single_file_paints_the_pixels_of_its_parts(renderer: Any, parts: Path, one_file: Path) -> None:
    assert render(renderer, one_file) == render(renderer, parts)


def test_the_header_of_a_single_file_tells_its_bytes(parts: Path, one_file: Path) -> None:
    assert inspect_model(one_file).size.loaded_bytes(4) == inspect_model(parts).size.loaded_bytes(4)


def test_a_file_that_holds_other_weights_is_broken_and_says_so(renderer: Any, one_file: Path) -> None:
    (one_file / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(RenderFailed, match="one does not load") as refused:
        render(renderer, one_file)
    assert refused.value.reason is FailureReason.MODEL_BROKEN


def test_a_pipeline_that_cannot_be_read_from_one_file_says_what_can(renderer: Any, one_file: Path) -> None:
    index = json.loads((one_file / "model_index.json").read_text())
    (one_file / "model_index.json").write_text(json.dumps(index | {"_class_name": "DDPMPipeline"}))
    with pytest.raises(RenderFailed, match="cannot be read from one file") as refused:
        render(renderer, one_file)
    assert refused.value.reason is FailureReason.MODEL_BROKEN
