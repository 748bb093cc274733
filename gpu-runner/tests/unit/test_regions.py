"""The area around a mask: inside the image, in the shape of the render, and put back to where it was."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dreamforge.gpu_runner.rendering.regions import (
    Box,
    Size,
    fitted_box,
    marked,
    padded,
    region_around,
    size_of,
)

SIDES = st.integers(1, 300)
SIZES = st.tuples(SIDES, SIDES)
RENDERS = st.sampled_from([(64, 64), (512, 512), (768, 512), (512, 1024), (64, 72)])


@st.composite
def boxes(draw: st.DrawFn) -> tuple[Box, Size]:
    """A box in an image, and the image's size."""
    width, height = draw(SIZES)
    left, upper = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return (left, upper, draw(st.integers(left + 1, width)), draw(st.integers(upper + 1, height))), (width, height)


def mask_of(box: Box, size: Size) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    mask = np.zeros(size[::-1], dtype=np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 1
    return mask


def contains(outer: Box, inner: Box) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


@given(boxes())
def test_what_a_mask_marks_is_found_exactly(drawn: tuple[Box, Size]) -> None:
    assert marked(mask_of(*drawn)) == drawn[0]


@given(boxes(), st.integers(0, 400), RENDERS)
def test_a_region_holds_the_padded_box_within_the_image_in_the_shape_of_the_render(
    drawn: tuple[Box, Size], padding: int, shape: Size
) -> None:
    box, size = drawn
    wanted, region = padded(box, padding, size), region_around(mask_of(box, size), padding, shape)
    assert contains(region, wanted)
    assert contains((0, 0, *size), region)
    width, height = size_of(region)
    has_shape = abs(width * shape[1] - height * shape[0]) < max(shape)
    too_wide, too_high = width * shape[1] > height * shape[0], width * shape[1] < height * shape[0]
    assert has_shape or (too_wide and height == size[1]) or (too_high and width == size[0])


@given(boxes(), st.integers(0, 400))
def test_padding_never_takes_away_and_stops_at_the_edges(drawn: tuple[Box, Size], padding: int) -> None:
    box, size = drawn
    found = padded(box, padding, size)
    assert contains(found, box)
    for side in range(4):
        edge = 0 if side < 2 else size[side - 2]
        assert found[side] == edge or abs(found[side] - box[side]) == padding


@given(SIZES, RENDERS)
def test_all_of_an_image_lies_in_the_middle_of_where_it_is_fitted(size: Size, target: Size) -> None:
    left, upper, right, lower = box = fitted_box(size, target)
    assert contains((0, 0, *target), box)
    assert abs(left - (target[0] - right)) <= 1
    assert abs(upper - (target[1] - lower)) <= 1
    assert (right - left, lower - upper)[0] == target[0] or (right - left, lower - upper)[1] == target[1]


def test_an_empty_mask_marks_everything() -> None:
    assert marked(np.zeros((3, 5), dtype=np.uint8)) == (0, 0, 5, 3)


@pytest.mark.torch
@given(boxes(), RENDERS)
def test_what_is_put_back_changes_nothing_that_the_mask_leaves(drawn: tuple[Box, Size], shape: Size) -> None:
    import torch

    from dreamforge.gpu_runner.rendering.images import put_back

    box, size = drawn
    mask = mask_of(box, size) * 255
    image = Image.new("RGB", size, (10, 20, 30))
    region = region_around(mask, 3, shape)
    rendered = torch.full((shape[1], shape[0], 3), 200, dtype=torch.uint8)
    found = put_back(rendered, image, Image.fromarray(mask), region).numpy()
    assert (found[mask == 0] == (10, 20, 30)).all()
    assert (found[mask == 255] == 200).all()


@pytest.mark.torch
def test_the_colours_around_a_hole_are_spread_into_it() -> None:
    from dreamforge.gpu_runner.rendering.spreading import spread_into

    image = Image.new("RGB", (33, 17), (200, 40, 0))
    image.paste((0, 0, 255), (10, 5, 20, 12))
    mask = Image.new("L", image.size, 0)
    mask.paste(255, (10, 5, 20, 12))
    found = np.asarray(spread_into(image, mask)).astype(int)
    assert abs(found - (200, 40, 0)).max() <= 1, "of one colour around, all is that colour"
    nothing_known = np.asarray(spread_into(image, Image.new("L", image.size, 255)))
    assert (nothing_known == 128).all()
    assert (np.asarray(spread_into(image, Image.new("L", image.size, 0))) == np.asarray(image)).all()
