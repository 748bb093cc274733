"""Textures whose edges meet, with real tiny pipelines."""

from pathlib import Path
from typing import Any

import pytest
from runner_testkit.tasks import render_task

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderedImage, RenderFailed

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, torch_installed: None) -> dict[str, Path]:
    from runner_testkit.families import build_family

    found = {}
    for family in ("stable-diffusion", "flux"):
        found[family] = tmp_path_factory.mktemp(family)
        build_family(family).save_pretrained(str(found[family]), safe_serialization=True)
    return found


@pytest.fixture(scope="module")
def renderer(torch_installed: None) -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


def task_of(folders: dict[str, Path], family: str = "stable-diffusion", **changes: Any) -> RenderTask:
    values = {"model_id": family, "model_path": str(folders[family]), "prompt": "bricks", "steps": 2}
    return render_task(**values | changes)


def render(renderer: Any, task: RenderTask) -> RenderedImage:
    key = ModelKey.of_task(task)
    if not renderer.is_resident(key):
        renderer.load(key)
    image: RenderedImage = renderer.render(task, 1, lambda *_: None)
    return image


def test_each_axis_gives_an_image_of_its_own_is_in_the_recipe_and_leaves_nothing_behind(
    renderer: Any, folders: dict[str, Path]
) -> None:
    plain = render(renderer, task_of(folders))
    images = {axes: render(renderer, task_of(folders, seamless=axes)) for axes in ("x", "y", "both")}
    assert len({plain.scanlines, *(image.scanlines for image in images.values())}) == 4
    assert images["x"].recipe.model_dump()["seamless"] == "x"
    assert "seamless" not in plain.recipe.model_dump()
    assert render(renderer, task_of(folders, seamless="both")).scanlines == images["both"].scanlines
    assert render(renderer, task_of(folders)).scanlines == plain.scanlines


@pytest.mark.parametrize(("axes", "along_x", "along_y"), [("both", True, True), ("x", True, False), ("y", False, True)])
def test_what_is_moved_around_comes_out_moved_around(
    folders: dict[str, Path], axes: str, along_x: bool, along_y: bool
) -> None:
    """Where edges meet, no place is special: moving what goes in moves what comes out, across the edge too."""
    import torch
    from diffusers import AutoencoderKL

    from dreamforge.gpu_runner.rendering.features.seamless import _joined

    vae: Any = AutoencoderKL.from_pretrained(str(folders["stable-diffusion"]), subfolder="vae")  # Any: no types
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    convolutions = [module for module in vae.modules() if isinstance(module, torch.nn.Conv2d)]
    with torch.no_grad(), _joined(convolutions, axes):
        whole = vae.decode(latents).sample
        for dimension, meets in ((3, along_x), (2, along_y)):
            moved = vae.decode(latents.roll(3, dimension)).sample
            assert torch.allclose(moved, whole.roll(3 * factor, dimension), atol=1e-4) is meets
    with torch.no_grad():
        assert not torch.allclose(vae.decode(latents).sample, whole, atol=1e-4)


def test_a_model_without_such_convolutions_refuses(renderer: Any, folders: dict[str, Path]) -> None:
    with pytest.raises(RenderFailed, match="no convolutions that could join the edges") as failure:
        render(renderer, task_of(folders, "flux", seamless="x"))
    assert failure.value.reason is FailureReason.INVALID_REQUEST


def test_after_an_error_nothing_is_left_behind(renderer: Any, folders: dict[str, Path]) -> None:
    plain = render(renderer, task_of(folders))

    def stop(*_: object) -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        renderer.render(task_of(folders, seamless="both"), 1, stop)
    assert render(renderer, task_of(folders)).scanlines == plain.scanlines
