"""Masks that are grown."""

import io

import pytest
from PIL import Image

from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.submit.image_tasks import MaskChange
from dreamforge.gateway.submit.inspect_image import changed_mask, grown


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("side_px", "before_px", "after_px"), [(0, 0, 0), (1, 0, 0), (2, 1, 0), (5, 2, 2), (6, 3, 2), (33, 16, 16)]
)
def test_a_white_pixel_becomes_a_square(side_px: int, before_px: int, after_px: int) -> None:
    mask = Image.new("L", (64, 48))
    mask.putpixel((30, 20), 255)
    found = grown(mask, side_px)
    assert found.size == mask.size
    # A window that reaches `before` back sees a pixel from so much after it on.
    assert found.getbbox() == (30 - after_px, 20 - after_px, 31 + before_px, 21 + before_px)
    assert sorted(set(found.tobytes())) == [0, 255]


def test_white_at_an_edge_grows_inwards() -> None:
    mask = Image.new("L", (16, 16))
    mask.putpixel((0, 15), 255)
    assert grown(mask, 5).getbbox() == (0, 13, 3, 16)


def test_a_mask_is_rounded_before_it_grows() -> None:
    grey = Image.new("L", (32, 32), 90)
    grey.paste(250, (8, 8, 16, 16))
    data = changed_mask(png(grey), MaskChange(rounded=True, grown_px=2), Limits())
    assert Image.open(io.BytesIO(data)).getbbox() == (8, 8, 17, 17)
