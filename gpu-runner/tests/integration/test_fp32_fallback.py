"""A picture that is none in half precision is painted in float32; models that overflow are made of the tiny one."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runner_testkit.worker import Worker

from dreamforge.contracts.events import FailureReason, WarningCode
from dreamforge.gpu_runner.protocol.messages import Done, Failed, Image, Warned
from dreamforge.gpu_runner.protocol.render_task import RenderTask

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = pytest.mark.torch
MakeTask = Callable[..., RenderTask]
WEIGHTS = Path("vae") / "diffusion_pytorch_model.safetensors"
#: Below float16's largest number, 65,504, and far above it once a latent is multiplied with it.
HUGE = 30_000.0


def changed(folder: Path, to: Path, **changes: "Callable[[Tensor], Tensor]") -> Path:
    """A copy of a model with some tensors of its autoencoder changed."""
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(folder, to)
    tensors = load_file(copy / WEIGHTS)
    for name, change in changes.items():
        key = name.replace("__", ".")
        tensors[key] = change(tensors[key])
    save_file(tensors, copy / WEIGHTS, metadata={"format": "pt"})
    return copy


@pytest.fixture(scope="module")
def half(torch_installed: None) -> Worker:
    return worker("float16")


def worker(dtype: str) -> Worker:
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer
    from dreamforge.gpu_runner.rendering.feature_list import standard_features

    return Worker(DiffusersRenderer(device="cpu", dtype=dtype, threads=1, features=standard_features))


def task_for(make: MakeTask, folder: Path) -> RenderTask:
    return make(model_path=str(folder), model_id=folder.name, prompt="a fox")


def images_of(worker: Worker, task: RenderTask) -> list[Image]:
    """Of a task that succeeds."""
    end = worker.end_of(task)
    assert isinstance(end, Done), end
    return worker.said(Image)


def test_numbers_that_overflow_in_half_precision_are_painted_in_float32(
    half: Worker, tiny_task: MakeTask, tiny_folder: Path, tmp_path: Path
) -> None:
    before = images_of(half, tiny_task())
    wide = changed(
        tiny_folder,
        tmp_path / "wide",
        post_quant_conv__weight=lambda weight: weight * HUGE,
        decoder__conv_in__weight=lambda weight: weight / HUGE,
    )
    first = images_of(half, task_for(tiny_task, wide))
    (warned,) = half.said(Warned)
    assert (warned.code, warned.image_index) == (WarningCode.PRECISION_RAISED, 0)
    assert "float16" in warned.message
    assert (first[0].recipe.dtype, before[0].recipe.dtype) == ("float32", "float16")
    assert first[0].body == images_of(half, task_for(tiny_task, wide))[0].body
    assert images_of(half, tiny_task())[0].body == before[0].body


def test_a_picture_that_stays_black_is_kept_and_its_owner_told(
    half: Worker, tiny_task: MakeTask, tiny_folder: Path, tmp_path: Path
) -> None:
    black = changed(tiny_folder, tmp_path / "black", decoder__conv_out__bias=lambda bias: bias - 99)
    (image,) = images_of(half, task_for(tiny_task, black))
    (warned,) = half.said(Warned)
    assert (warned.code, warned.image_index, image.recipe.dtype) == (WarningCode.IMAGE_BLACK, 0, "float16")


def test_a_model_that_gives_no_numbers_in_float32_is_broken(
    half: Worker, tiny_task: MakeTask, tiny_folder: Path, tmp_path: Path
) -> None:
    broken = changed(tiny_folder, tmp_path / "broken", decoder__conv_out__weight=lambda weight: weight * math.nan)
    for each in (half, worker("float32")):
        failed = each.end_of(task_for(tiny_task, broken))
        assert isinstance(failed, Failed)
        assert failed.reason is FailureReason.MODEL_BROKEN
        assert len(images_of(each, tiny_task())) == 1
