"""Textures whose edges meet, with real tiny pipelines."""

from pathlib import Path
from typing import Any

import pytest
from runner_testkit.tasks import render_task

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.values import Upscale
from dreamforge.gpu_runner.protocol.render_task import ModelFiles, RenderTask
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

    from dreamforge.gpu_runner.rendering.features.seamless import joined

    vae: Any = AutoencoderKL.from_pretrained(str(folders["stable-diffusion"]), subfolder="vae")  # Any: no types
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    image = torch.rand(1, 3, 8 * factor, 8 * factor, generator=torch.Generator().manual_seed(2))
    with torch.no_grad(), joined([vae], axes):
        seen = vae.encode(image).latent_dist.mean
        whole = vae.decode(latents).sample
        for dimension, meets in ((3, along_x), (2, along_y)):
            moved = vae.decode(latents.roll(3, dimension)).sample
            assert torch.allclose(moved, whole.roll(3 * factor, dimension), atol=1e-4) is meets
            moved = vae.encode(image.roll(3 * factor, dimension)).latent_dist.mean
            assert torch.allclose(moved, seen.roll(3, dimension), atol=1e-4) is meets, "as an image to start from"
    with torch.no_grad():
        assert not torch.allclose(vae.decode(latents).sample, whole, atol=1e-4)


@pytest.mark.parametrize("how", [{}, {"method": "latent_bicubic"}, {"model_id": "x4"}], ids=str)
def test_an_image_whose_edges_meet_is_enlarged_as_one(
    folders: dict[str, Path], tmp_path: Path, how: dict[str, Any]
) -> None:
    """What a second pass starts from, moved around, is what it starts from of the moved image."""
    import numpy as np
    import torch
    from PIL import Image
    from runner_testkit.assets import ensure_upscaler

    from dreamforge.gpu_runner.rendering.features.upscale import UpscalePass
    from dreamforge.gpu_runner.rendering.passes import PassContext

    net = ModelFiles(path=str(ensure_upscaler(tmp_path, 4)), digest="4" * 64)
    upscale = Upscale(width_px=96, height_px=96, **how)
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    feature, scaled = UpscalePass(torch.device("cpu")), _Scaled()

    def start(axes: str | None, moved: int) -> Any:  # Any: an image, or latents
        task = task_of(folders, seamless=axes, upscale=upscale).model_copy(update={"assets": {"x4": net}})
        (second,) = feature.plan(task, ())
        previous = Image.fromarray(np.roll(pixels, 8 * moved, axis=1))
        context = PassContext(scaled, task, second, previous, latents.roll(moved, 3))  # type: ignore[arg-type]  # a part of one
        found = feature.arguments(context, scaled)["image"]  # type: ignore[arg-type]  # as above
        return found[0].movedim(0, 2).numpy() if "method" in how else np.array(found, dtype=np.float32)

    two_latents, tolerance = (3, 1e-5) if "method" in how else (24, 1.01)  # enlarged, in latents or in pixels
    for axes, meets in (("x", True), (None, False)):
        whole = np.roll(start(axes, 0), two_latents, axis=1)
        assert np.allclose(start(axes, 2), whole, atol=tolerance) is meets


class _Scaled:
    """What enlarging latents asks of a pipeline."""

    vae_scale_factor = 8


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
