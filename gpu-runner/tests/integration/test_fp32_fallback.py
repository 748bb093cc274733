"""A picture that is none in half precision is painted in float32; models that overflow are made of the tiny one."""

import math
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from runner_testkit.child import Talk, talking

from dreamforge.contracts.events import FailureReason, WarningCode
from dreamforge.gpu_runner.protocol.child_options import ChildOptions
from dreamforge.gpu_runner.protocol.messages import Failed, Warned
from dreamforge.gpu_runner.protocol.render_task import RenderTask

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = [
    pytest.mark.torch,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("child"),
]
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


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def half(torch_installed: None) -> AsyncIterator[Talk]:
    async with talking(ChildOptions(device="cpu", dtype="float16", resident_models=8)) as talk:
        yield talk


def task_for(make: MakeTask, folder: Path) -> RenderTask:
    return make(model_path=str(folder), model_id=folder.name, prompt="a fox")


async def test_numbers_that_overflow_in_half_precision_are_painted_in_float32(
    half: Talk, tiny_task: MakeTask, tiny_folder: Path, tmp_path: Path
) -> None:
    before = await half.images(tiny_task())
    wide = changed(
        tiny_folder,
        tmp_path / "wide",
        post_quant_conv__weight=lambda weight: weight * HUGE,
        decoder__conv_in__weight=lambda weight: weight / HUGE,
    )
    task = task_for(tiny_task, wide)
    first, again = await half.images(task), await half.images(task.model_copy(update={"task_id": "again"}))
    (warned,) = half.said(Warned, task.task_id)
    assert (warned.code, warned.image_index) == (WarningCode.PRECISION_RAISED, 0)
    assert "float16" in warned.message
    assert (first[0].recipe.dtype, before[0].recipe.dtype) == ("float32", "float16")
    assert first[0].body == again[0].body
    assert (await half.images(tiny_task()))[0].body == before[0].body


async def test_a_picture_that_stays_black_is_kept_and_its_owner_told(
    half: Talk, tiny_task: MakeTask, tiny_folder: Path, tmp_path: Path
) -> None:
    black = changed(tiny_folder, tmp_path / "black", decoder__conv_out__bias=lambda bias: bias - 99)
    task = task_for(tiny_task, black)
    (image,) = await half.images(task)
    (warned,) = half.said(Warned, task.task_id)
    assert (warned.code, warned.image_index, image.recipe.dtype) == (WarningCode.IMAGE_BLACK, 0, "float16")


async def test_a_model_that_gives_no_numbers_in_float32_is_broken(
    half: Talk, talk: Talk, tiny_task: MakeTask, tiny_folder: Path, tmp_path: Path
) -> None:
    broken = changed(tiny_folder, tmp_path / "broken", decoder__conv_out__weight=lambda weight: weight * math.nan)
    for child in (half, talk):
        failed = await child.end_of(task_for(tiny_task, broken))
        assert isinstance(failed, Failed)
        assert failed.reason is FailureReason.MODEL_BROKEN
        assert len(await child.images(tiny_task())) == 1
