"""A second render is compared pixel by pixel, and differences between two recipes are named."""

import math
from io import BytesIO

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dreamforge.cli.failure import CommandError
from dreamforge.cli.jobs.rerun import PixelDifference, RecipeChange, compare, submission
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.values import LoraUse, Upscale

ROWS = [bytes([10, 20, 30, 200, 100, 50]), bytes([0, 0, 0, 255, 255, 255])]
RECIPE = {"seed": 1, "versions": {"torch": "2.13.0"}}


def png(rows: list[bytes], *, compress_level: int = 1, note: str = "") -> bytes:
    text, file = PngInfo(), BytesIO()
    text.add_itxt("recipe", note)
    size = len(rows[0]) // 3, len(rows)
    Image.frombytes("RGB", size, b"".join(rows)).save(file, "PNG", pnginfo=text, compress_level=compress_level)
    return file.getvalue()


def test_the_same_bytes_are_the_same_pixels() -> None:
    found = compare(png(ROWS), png(ROWS), RECIPE, RECIPE)
    assert (found.same_bytes, found.same_pixels, found.pixels, found.changes) == (True, True, 4, ())


def test_another_recipe_or_compression_of_the_same_pixels_is_recognised() -> None:
    newer = {"seed": 1, "versions": {"torch": "2.14.0", "triton": "3"}}
    found = compare(png(ROWS), png(ROWS, compress_level=9, note="newer"), RECIPE, newer)
    assert not found.same_bytes
    assert found.same_pixels
    assert found.changes == (
        RecipeChange("versions.torch", "2.13.0", "2.14.0"),
        RecipeChange("versions.triton", "nothing", "3"),
    )
    assert found.causes == ("library",)


def test_it_says_how_many_pixels_differ_and_how_far() -> None:
    other = [ROWS[0], bytes([0, 0, 1, 255, 250, 255])]
    found = compare(png(ROWS), png(other), RECIPE, RECIPE).difference
    assert found is not None
    assert (found.pixels, found.levels) == (2, 5)
    assert found.psnr_db == pytest.approx(10 * math.log10(255**2 / ((1 + 25) / 12)))
    black = compare(png(ROWS), png([bytes(6), bytes(6)]), RECIPE, RECIPE).difference
    assert black is not None
    assert (black.pixels, black.levels) == (3, 255)
    assert compare(png(ROWS), png(ROWS[:1]), RECIPE, RECIPE).difference is None
    assert compare(png(ROWS), png(ROWS), RECIPE, RECIPE).difference == PixelDifference(0, 0, None)


def test_each_kind_of_change_is_named() -> None:
    before = {
        "prompt": "a", "device_name": "A", "dtype": "fp32", "threads": 1, "tier": {"vae_tiling": False},
        "model_digest": "0", "versions": {"torch": "1", "mkl_cbwr": "AUTO"}, "geometry": {"size": 1},
        "optimisations": "channels_last",
    }  # fmt: skip
    after = {
        "prompt": "b", "device_name": "B", "dtype": "bf16", "threads": 2, "tier": {"vae_tiling": True},
        "model_digest": "1", "versions": {"torch": "2", "mkl_cbwr": "AVX2"}, "geometry": {"size": 8},
    }  # fmt: skip
    assert compare(png(ROWS), png(ROWS), before, after).causes == (
        "hardware", "determinism setting", "library", "precision", "memory placement", "batch geometry", "optimisation",
        "weights", "request",
    )  # fmt: skip


@pytest.mark.parametrize("data", [b"JFIF", b"", png(ROWS)[:60]])
def test_another_kind_of_file_is_refused(data: bytes) -> None:
    with pytest.raises(CommandError, match="not a picture that a runner wrote"):
        compare(png(ROWS), data, RECIPE, RECIPE)


def test_a_rerun_states_all_values_that_a_preset_could_change() -> None:
    request = RenderRequest(
        model_id="m", preset="p", prompt="x", width_px=64, height_px=32, steps=4, guidance_scale=0, seed=9, images=3,
        sampler="euler", loras=(LoraUse(model_id="l", weight=0.5),),
        upscale=Upscale(width_px=128, height_px=64, strength=0.4),
    )  # fmt: skip
    body = submission(request, 11, RECIPE)
    assert (body["seed"], body["images"], body["guidance_scale"]) == (11, 1, 0)
    assert body["upscale"] == {"factor": 2.0, "strength": 0.4}
    assert body["loras"] == [{"model_id": "l", "weight": 0.5}]
    assert "init_image" not in body
    assert body["determinism"] == "strict", "its recipe has no geometry: it was rendered alone"


def test_a_rerun_renders_in_the_geometry_of_the_recipe() -> None:
    request = RenderRequest(
        model_id="m", preset="p", prompt="x", width_px=64, height_px=32, steps=4, guidance_scale=0, seed=9, images=3
    )
    body = submission(request, 11, RECIPE | {"geometry": {"size": 4, "place": 2}})
    assert body["geometry"] == {"size": 4, "place": 2}
    assert "determinism" not in body


@pytest.mark.parametrize("used", [{}, {"optimisations": "channels_last"}])
def test_a_rerun_has_the_optimisations_that_were_in_use_and_not_those_asked_for(used: dict[str, str]) -> None:
    request = RenderRequest(
        model_id="m", preset="p", prompt="x", width_px=64, height_px=32, steps=4, guidance_scale=0, seed=9,
        optimisations="channels_last,fused_projections",
    )  # fmt: skip
    body = submission(request, 9, RECIPE | used)
    assert (body.get("optimisations"), body["determinism"]) == (used.get("optimisations"), "strict")
