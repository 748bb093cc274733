"""Maps of images for ControlNets: what each method shows, and that no image takes long."""

import time
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dreamforge.contracts.request.preprocessing import Preprocessing, preprocessors
from dreamforge.gpu_runner.rendering.canny import edges
from dreamforge.gpu_runner.rendering.preprocessors import preprocessed
from dreamforge.gpu_runner.rendering.resizing import Target, resized

#: No step of a render is so short; measured: 0.1 to 0.5 s.
SECONDS_MAX = 3.0
SIDE_PX = 1024


def rectangle(*, outside: int = 20, inside: int = 200) -> Image.Image:
    """A light rectangle, from (10, 8) to (40, 30)."""
    image = Image.new("RGB", (64, 48), (outside,) * 3)
    ImageDraw.Draw(image).rectangle((10, 8, 40, 30), fill=(inside,) * 3)
    return image


def spiral() -> Image.Image:
    """One line through the whole image: the longest path from its strong end."""
    image = Image.new("L", (SIDE_PX, SIDE_PX))
    corners, left, right = [(0, 0)], 0, SIDE_PX - 1
    while right - left > 12:
        corners += [(right, left), (right, right), (left, right), (left, left + 6), (left + 6, left + 6)]
        left, right = left + 6, right - 6
    ImageDraw.Draw(image).line(corners, fill=80)
    image.paste(255, (0, 0, 4, 4))
    return image.convert("RGB")


def plane(image: Image.Image) -> NDArray[np.uint8]:
    """The one plane of a map of grey."""
    pixels = np.asarray(image)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def enclosed(lines: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """What a flood from the upper left corner does not reach, and is no line."""
    flooded = Image.fromarray(lines)
    ImageDraw.floodfill(flooded, (0, 0), 128)
    found: NDArray[np.bool_] = np.asarray(flooded) == 0
    return found


@pytest.mark.parametrize("sigma_px", [0.0, 1.0, 2.0])
@pytest.mark.parametrize(("outside", "inside"), [(20, 200), (200, 20)])
def test_the_edge_of_a_rectangle_is_closed_thin_and_where_it_is(sigma_px: float, outside: int, inside: int) -> None:
    how = Preprocessing(name="canny", sigma_px=sigma_px)
    lines = plane(preprocessed(rectangle(outside=outside, inside=inside), how))
    assert set(np.unique(lines)) == {0, 255}
    blocks = lines[:-1, :-1] & lines[1:, :-1] & lines[:-1, 1:] & lines[1:, 1:]
    assert not blocks.any()
    within = enclosed(lines)
    assert within[9 + 2 : 30 - 2, 11 + 2 : 40 - 2].all()
    rows, columns = np.nonzero(lines)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((8, 30, 10, 40), abs=1)


def test_an_edge_is_weak_strong_or_none_by_its_gradient() -> None:
    grey = np.zeros((8, 24), np.float32)
    grey[:, 12:] = 30  # Sobel: 120
    assert edges(grey, 100, 120).any()
    assert not edges(grey, 100, 121).any()
    assert not edges(grey, 121, 121).any()
    grey[:4, 12:] = 60  # the upper half is strong, and the lower half hangs on to it
    assert edges(grey, 100, 200)[5:, 11:13].any()
    assert not edges(grey, 130, 200)[6:].any()


@given(arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.integers(0, 600), st.integers(0, 600))
def test_edges_are_those_of_a_plain_search(pixels: NDArray[np.uint8], one: int, other: int) -> None:
    grey, low, high = pixels.astype(np.float32), min(one, other), max(one, other)
    candidates, found = edges(grey, low, low), edges(grey, low, high)
    waiting = [(int(row), int(column)) for row, column in np.argwhere(edges(grey, high, high) & candidates)]
    reached = set(waiting)
    while waiting:
        row, column = waiting.pop()
        for near in ((row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)):
            inside = 0 <= near[0] < grey.shape[0] and 0 <= near[1] < grey.shape[1]
            if inside and candidates[near] and near not in reached:
                reached.add(near)
                waiting.append(near)
    assert {(int(row), int(column)) for row, column in np.argwhere(found)} == reached


def test_a_photo_has_lines_of_its_dark_strokes() -> None:
    paper = Image.new("RGB", (96, 96), (230, 220, 200))
    ImageDraw.Draw(paper).rectangle((16, 47, 80, 48), fill=(20, 20, 20))
    lines = plane(preprocessed(paper, Preprocessing(name="lineart")))
    assert lines[47:49, 20:76].min() == 255
    assert lines[:30].max() == 0


def test_tones_are_inverted_or_freed_of_colour() -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8))
    inverted = preprocessed(image, Preprocessing(name="invert"))
    assert (np.asarray(inverted) == 255 - np.asarray(image)).all()
    grey = plane(preprocessed(image, Preprocessing(name="grayscale")))
    assert (grey == np.asarray(image.convert("L"))).all()


def test_what_is_coarse_stays_and_what_is_fine_goes() -> None:
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = 200
    fine = halves.copy()
    fine[::2, ::2] += 50
    for how in (Preprocessing(name="tile"), Preprocessing(name="blur", sigma_px=4)):
        found = np.asarray(preprocessed(Image.fromarray(fine), how)).astype(int)
        # Away from the edge between the halves, and from the border, whose pixels a blur repeats.
        assert np.abs(found[16:48, 12:18] - 12).max() <= 4
        assert np.abs(found[16:48, 46:52] - 212).max() <= 4
    same = Preprocessing(name="tile", factor=1)
    assert (np.asarray(preprocessed(Image.fromarray(fine), same)) == fine).all()


def test_margins_are_no_part_of_a_map() -> None:
    wide = Image.new("RGB", (64, 32), (200, 200, 200))
    for name, inside in (("canny", 0), ("invert", 55)):
        how = Preprocessing.model_validate({"name": name})
        target = Target((64, 64), "fit", margin=0, change=partial(preprocessed, how=how))
        found, _ = resized(wide, target)
        assert np.asarray(found)[:16].max() == 0
        assert set(np.unique(np.asarray(found)[16:48])) == {inside}


@pytest.mark.parametrize("name", preprocessors())
def test_every_method_gives_a_map_of_the_same_size_soon_whatever_the_image(name: str) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
    how = Preprocessing.model_validate({"name": name} | ({"low": 1, "high": 1000} if name == "canny" else {}))
    for image in (Image.fromarray(noise), spiral(), Image.new("RGB", (1, 1))):
        began = time.process_time()
        found = preprocessed(image, how)
        assert time.process_time() - began < SECONDS_MAX
        assert (found.size, found.mode) == (image.size, "RGB")
        assert preprocessed(image, how).tobytes() == found.tobytes()
