"""A PNG of ours shows the pixels it was given, carries its recipe, and says when it is damaged."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pil
from runner_testkit.png import read_recipe

from dreamforge.contracts.pictures.metadata import RECIPE_KEY
from dreamforge.gpu_runner.protocol.recipe import Recipe
from dreamforge.gpu_runner.rendering.png import FILTER_NONE, encode_png
from dreamforge.gpu_runner.rendering.scanlines import sub_filtered

RECIPE = Recipe(
    renderer="diffusers",
    prompt="füchse 🦊",
    negative_prompt="",
    seed=2**53 - 1,
    width_px=3,
    height_px=2,
    steps=1,
    guidance_scale=7.5,
    sampler="DDIMScheduler",
    model_id="m",
    model_digest="0" * 64,
    pipeline="P",
    device="cpu",
    device_name="AVX2",
    dtype="float32",
    threads=1,
    versions={"torch": "2"},
)
TEXTS = {RECIPE_KEY: RECIPE.model_dump_json()}


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_another_decoder_sees_the_same_pixels(width_px: int, height_px: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    png = encode_png(
        sub_filtered(pixels),
        width_px=width_px,
        height_px=height_px,
        international=TEXTS,
    )
    with Pil.open(io.BytesIO(png)) as image:
        assert np.array_equal(np.asarray(image), pixels)


def test_the_recipe_comes_back_through_another_reader() -> None:
    png = encode_png(bytes(2 * (1 + 9)), width_px=3, height_px=2, international=TEXTS)
    assert read_recipe(png) == RECIPE


def test_rows_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        encode_png(bytes((FILTER_NONE,)), width_px=3, height_px=2, international=TEXTS)


def test_a_damaged_or_foreign_file_has_no_recipe() -> None:
    png = encode_png(bytes(2 * (1 + 9)), width_px=3, height_px=2, international=TEXTS)
    foreign = io.BytesIO()
    Pil.new("RGB", (1, 1)).save(foreign, "PNG")
    flipped = bytearray(png)
    flipped[60] ^= 1
    for bad in (b"", b"GIF89a", png[:50], bytes(flipped), foreign.getvalue()):
        with pytest.raises((KeyError, OSError, SyntaxError)):
            read_recipe(bad)
