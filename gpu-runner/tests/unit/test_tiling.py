"""An image in tiles is the image: all of it is covered, and what a network gives shows no seam."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamforge.contracts.request.tiles import spans

SIDES = st.integers(1, 90)


@given(st.integers(1, 5_000), st.integers(4, 300), st.integers(0, 3))
def test_tiles_cover_a_side_and_overlap(length: int, tile: int, overlap: int) -> None:
    found = spans(length, tile, overlap)
    assert found[0][0] == 0
    assert found[-1][1] == length
    for (start, end), (following, _) in itertools.pairwise(found):
        assert start < following <= end - overlap
    assert {end - start for start, end in found} == {min(length, tile)}


@pytest.mark.torch
@settings(max_examples=25, deadline=None)  # torch's first call takes longer than any other
@given(SIDES, SIDES, st.integers(8, 40), st.integers(0, 7), st.integers(1, 3))
def test_what_needs_no_surroundings_is_the_same_in_tiles(
    width: int, height: int, tile: int, overlap: int, scale: int
) -> None:
    import torch
    from torch.nn.functional import interpolate

    from dreamforge.gpu_runner.rendering.tiling import enlarged_in_tiles

    def nearest(image: torch.Tensor) -> torch.Tensor:
        return interpolate(image, scale_factor=scale)

    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(width * 100 + height))
    whole = (nearest(image)[0] * 255).round().to(torch.uint8).permute(1, 2, 0)
    tiled = enlarged_in_tiles(image, nearest, scale, tile_px=tile, overlap_px=overlap)
    assert tiled.shape == (height * scale, width * scale, 3)
    assert int((whole.int() - tiled.int()).abs().max()) <= 1, "a blend of equal values rounds once more"
