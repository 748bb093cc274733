"""An image comes to the size of a render in its own shape, or a note says what became of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from dreamforge.contracts.request.values import ResizeMode
from dreamforge.gpu_runner.rendering.resizing import Target, crop_box, resized

SIDES = st.integers(8, 400)
SIZES = st.tuples(SIDES, SIDES)


def circle() -> Image.Image:
    """A circle that fills the middle third of a wide image."""
    image = Image.new("RGB", (192, 64), (20, 20, 120))
    ImageDraw.Draw(image).ellipse((64, 0, 127, 63), fill=(240, 30, 30))
    return image


def sides_of_the_circle(image: Image.Image) -> tuple[int, int]:
    pixels = np.asarray(image).astype(np.int16)
    rows, columns = np.where(pixels[..., 0] - pixels[..., 2] > 0)
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


@pytest.mark.parametrize(
    ("mode", "sides", "note"),
    [("crop", (64, 64), "cropped"), ("fit", (21, 21), "fitted with margins"), ("stretch", (21, 64), "stretched")],
)
def test_a_circle_stays_one_unless_it_is_stretched(mode: ResizeMode, sides: tuple[int, int], note: str) -> None:
    image, said = resized(circle(), Target((64, 64), mode, margin=0))
    assert image.size == (64, 64)
    assert all(abs(found - expected) <= 2 for found, expected in zip(sides_of_the_circle(image), sides, strict=True))
    assert said == f"{note} from 192x64 to 64x64, another shape"


@pytest.mark.parametrize("mode", ["crop", "fit", "stretch"])
def test_an_image_of_the_same_shape_is_only_scaled(mode: ResizeMode) -> None:
    for size in ((192, 64), (96, 32), (384, 128)):
        image, said = resized(circle(), Target(size, mode))
        assert (image.size, said) == (size, "")
    assert resized(circle(), Target((192, 64), mode))[0].tobytes() == circle().tobytes()


def test_margins_are_the_edge_of_the_image_or_a_value() -> None:
    image = Image.new("L", (64, 16), 50)
    assert np.unique(np.asarray(resized(image, Target((64, 64), "fit"))[0])).tolist() == [50]
    margin, _ = resized(image, Target((64, 64), "fit", margin=255))
    rows = np.asarray(margin)
    assert (rows[:24] == 255).all()
    assert (rows[24:40] == 50).all()
    assert (rows[40:] == 255).all()


@given(SIZES, SIZES)
def test_a_crop_has_the_shape_of_its_target_and_lies_inside_the_image(
    size: tuple[int, int], target: tuple[int, int]
) -> None:
    left, upper, right, lower = crop_box(size, target)
    assert 0 <= left < right <= size[0]
    assert 0 <= upper < lower <= size[1]
    assert (right - left) * target[1] == pytest.approx((lower - upper) * target[0])


@given(SIZES, SIZES, st.sampled_from(["crop", "fit", "stretch"]))
def test_every_image_comes_to_every_size(size: tuple[int, int], target: tuple[int, int], mode: ResizeMode) -> None:
    for kind in ("RGB", "L"):
        assert resized(Image.new(kind, size), Target(target, mode))[0].size == target
