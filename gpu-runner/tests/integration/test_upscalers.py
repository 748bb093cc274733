"""Upscalers, with random weights: a job of one, a second pass with one, and latents that are enlarged."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image
from runner_testkit.tasks import render_task

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.models.descriptor import UpscaleMethod
from dreamforge.contracts.request.values import Upscale
from dreamforge.gpu_runner.protocol.render_task import InputImage, ModelFiles, RenderTask
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderedImage, RenderFailed
from dreamforge.runtime.storage.objects import sha256_of

pytestmark = pytest.mark.torch
SIZE = (40, 24)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny models are built, once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer of all models on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer
    from dreamforge.gpu_runner.rendering.renderer_by_model import RendererByModel

    return RendererByModel(DiffusersRenderer(device="cpu", dtype="auto", threads=1))


def upscaler(cache: Path, scale: int = 4) -> ModelFiles:
    from runner_testkit.assets import ensure_upscaler

    return ModelFiles(path=str(ensure_upscaler(cache, scale)), digest=f"{scale}" * 64)


def rendered(renderer: Any, task: RenderTask) -> RenderedImage:
    key = ModelKey.of_task(task)
    if not renderer.is_resident(key):
        renderer.load(key)
    image: RenderedImage = renderer.render(task, 1, lambda step, of, preview: None)
    return image


def start(folder: Path) -> InputImage:
    values = np.random.default_rng(1).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(folder / "start.png")
    return InputImage(path=str(folder / "start.png"), sha256=sha256_of((folder / "start.png").read_bytes()))


def enlarging(folder: Path, files: ModelFiles, width_px: int, height_px: int) -> RenderTask:
    values = {"model_path": files.path, "model_digest": files.digest, "init_image": start(folder), "steps": 1}
    size = {"width_px": width_px, "height_px": height_px}
    return render_task(**values, **size, prompt="", guidance_scale=0.0, resize_mode="crop")


@pytest.mark.parametrize("scale", [2, 4])
def test_an_image_is_enlarged_by_a_job_of_an_upscaler(renderer: Any, cache: Path, tmp_path: Path, scale: int) -> None:
    task = enlarging(tmp_path, upscaler(cache, scale), SIZE[0] * scale, SIZE[1] * scale)
    image = rendered(renderer, task)
    assert len(image.scanlines) == SIZE[1] * scale * (1 + 3 * SIZE[0] * scale)
    assert len(set(image.scanlines)) > 10, "an image, if a dull one: the weights are random"
    assert rendered(renderer, task).scanlines == image.scanlines
    assert renderer.warnings(task) == ()
    recipe = image.recipe
    assert recipe.strength is None
    assert (recipe.pipeline, recipe.model_digest, recipe.dtype, recipe.steps) == (
        "RrdbNet",
        str(scale) * 64,
        "float32",
        1,
    )
    cropped = rendered(renderer, enlarging(tmp_path, upscaler(cache, scale), 50, 50))
    assert len(cropped.scanlines) == 50 * (1 + 3 * 50)


def test_a_side_that_a_network_cannot_fold_is_enlarged_all_the_same(cache: Path) -> None:
    import torch

    from dreamforge.gpu_runner.rendering.upscalers import UpscalerCache

    net = UpscalerCache(torch.device("cpu")).get("x2", upscaler(cache, 2))
    assert net.enlarged(Image.new("RGB", (13, 7), (9, 9, 9))).size == (26, 14)


def with_second_pass(renderer: Any, cache: Path, family: str = "stable-diffusion", **how: Any) -> bytes:
    from runner_testkit.families import ensure_family

    folder = ensure_family(cache, family)
    upscale = Upscale(width_px=128, height_px=96, strength=0.5, **how)
    size = {"width_px": 64, "height_px": 48, "steps": 4}
    task = render_task(model_id=folder.name, model_path=str(folder), upscale=upscale, **size)
    if upscale.model_id is not None:
        task = task.model_copy(update={"assets": {upscale.model_id: upscaler(cache)}})
    image = rendered(renderer, task)
    assert image.recipe.upscale is not None
    assert (image.recipe.upscale.method, image.recipe.upscale.digest) == (
        upscale.method,
        "4" * 64 if upscale.model_id else None,
    )
    return image.scanlines


def test_each_way_to_enlarge_gives_another_second_pass(renderer: Any, cache: Path) -> None:
    found = {method: with_second_pass(renderer, cache, method=method) for method in get_args(UpscaleMethod)}
    assert with_second_pass(renderer, cache) == found["lanczos"]
    by_network = with_second_pass(renderer, cache, model_id="x4")
    assert by_network == with_second_pass(renderer, cache, model_id="x4")
    assert found["latent_nearest"] == found["latent_nearest_exact"], "at twice the size both take the same latents"
    assert len({*found.values(), by_network}) == len(found)


def test_latents_that_a_model_packs_are_not_enlarged(renderer: Any, cache: Path) -> None:
    with pytest.raises(RenderFailed, match="take upscale/method lanczos") as refused:
        with_second_pass(renderer, cache, family="flux", method="latent")
    assert refused.value.reason is FailureReason.INVALID_REQUEST


def test_a_file_that_is_no_upscaler_fails_with_its_reason(renderer: Any, cache: Path, tmp_path: Path) -> None:
    from runner_testkit.assets import ensure_lora

    other = ModelFiles(path=str(ensure_lora(cache, "stable-diffusion")), digest="9" * 64)
    with pytest.raises(RenderFailed, match="is no upscaler") as refused:
        rendered(renderer, enlarging(tmp_path, other, 80, 48))
    assert refused.value.reason is FailureReason.MODEL_BROKEN


def in_tiles(renderer: Any, cache: Path, **changes: Any) -> tuple[RenderedImage, list[tuple[int, int]]]:
    """A picture of 64 x 48 at twice its size in six tiles of 64 pixels, and the steps that were reported."""
    from runner_testkit.families import ensure_family

    folder, steps = ensure_family(cache, "stable-diffusion"), list[tuple[int, int]]()
    upscale = Upscale(width_px=128, height_px=96, strength=0.5, tile_px=64, tile_overlap_px=16, tiled_px=6 * 64 * 64)
    values = {"model_id": folder.name, "model_path": str(folder), "width_px": 64, "height_px": 48, "steps": 2}
    task = render_task(**values | {"upscale": upscale} | changes)
    key = ModelKey.of_task(task)
    if not renderer.is_resident(key):
        renderer.load(key)
    image = renderer.render(task, 1, lambda step, of, preview: steps.append((step, of)))
    return image, steps


def pixels_of(image: RenderedImage, width: int) -> Any:
    """(height, width, 3) of scanlines whose bytes are differences to the pixel before."""
    rows = np.frombuffer(image.scanlines, dtype=np.uint8).reshape(-1, 1 + 3 * width)[:, 1:]
    return rows.reshape(-1, width, 3).cumsum(axis=1, dtype=np.uint8)


def test_a_second_pass_in_tiles_renders_each_of_them(renderer: Any, cache: Path) -> None:
    image, steps = in_tiles(renderer, cache)
    assert steps == [(made, 2 + 6) for made in range(1, 9)]
    assert image.recipe.model_dump()["upscale"].items() >= {"tile_px": 64, "tile_overlap_px": 16}.items()
    again, _ = in_tiles(renderer, cache)
    assert again.scanlines == image.scanlines
    whole, _ = in_tiles(renderer, cache, upscale=Upscale(width_px=128, height_px=96, strength=0.5))
    first, _ = in_tiles(renderer, cache, upscale=None)
    enlarged = np.array(Image.fromarray(pixels_of(first, 64)).resize((128, 96), Image.Resampling.LANCZOS))
    tiled = pixels_of(image, 128)
    assert (tiled != pixels_of(whole, 128)).any()
    for left, upper in ((0, 0), (64, 0), (0, 48), (64, 48)):
        quarter = (slice(upper, upper + 48), slice(left, left + 64))
        assert (tiled[quarter] != enlarged[quarter]).mean() > 0.5, "no quarter is as it was enlarged"


def test_what_a_mask_protects_is_kept_over_all_tiles(renderer: Any, cache: Path, tmp_path: Path) -> None:
    mask = Image.new("L", SIZE)
    mask.paste(255, (0, 0, SIZE[0] // 2, SIZE[1]))
    mask.save(tmp_path / "mask.png")
    hole = InputImage(path=str(tmp_path / "mask.png"), sha256="e" * 64)
    image, _ = in_tiles(renderer, cache, init_image=start(tmp_path), mask_image=hole, resize_mode="stretch")
    kept = Image.open(tmp_path / "start.png").resize((128, 96), Image.Resampling.LANCZOS)
    tiled = pixels_of(image, 128)
    assert (tiled[:, 72:] == np.array(kept)[:, 72:]).all()
    assert (tiled[:, :56] != np.array(kept)[:, :56]).mean() > 0.5


def test_tiles_of_one_image_lie_on_each_other_without_a_seam() -> None:
    import torch

    from dreamforge.contracts.request.tiles import boxes
    from dreamforge.gpu_runner.rendering.features.upscale import laid
    from dreamforge.gpu_runner.rendering.passes import Tile

    image = np.random.default_rng(2).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    found = Image.new("RGB", (56, 40))
    for number, box in enumerate(boxes(56, 40, 24, 8)):
        left, upper, right, lower = box
        part = torch.from_numpy(image[upper:lower, left:right].copy())
        found = Image.fromarray(laid(part, found, Tile(number, box, (56, 40), 8)).numpy())
    assert (np.array(found) == image).all()
    white, grey = Image.new("RGB", (40, 16), "white"), torch.zeros(16, 24, 3, dtype=torch.uint8)
    row = laid(grey, white, Tile(1, (16, 0, 40, 16), (40, 16), 8))[0, :, 0].tolist()
    assert row[:16] == [255] * 16
    assert row[24:] == [0] * 16
    assert row[16:24] == sorted(row[16:24], reverse=True), "the overlap is a slope"
