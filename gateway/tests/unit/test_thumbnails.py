"""What is kept of thumbnails has a bound, also where none could be made."""

import io
from typing import Any, cast

from PIL import Image

from dreamforge.contracts.pictures.mp4 import metadata_boxes
from dreamforge.gateway.read import thumbnails
from dreamforge.gateway.read.thumbnails import Thumbnails, thumbnail


class NoImages:
    """A store whose objects are no images."""

    async def get(self, key: str) -> bytes:
        return b"no image"


async def test_images_without_a_thumbnail_are_forgotten_too(monkeypatch: Any) -> None:
    monkeypatch.setattr(thumbnails, "KEPT_BYTES", 10 * thumbnails.ENTRY_BYTES)
    kept = Thumbnails(cast(Any, NoImages()), pixels_max=10)
    for number in range(30):
        assert await kept.of(f"{number:064x}", "k") == b""
    assert len(kept._kept) == 10


def test_a_video_is_shown_by_its_poster() -> None:
    poster = io.BytesIO()
    Image.new("RGB", (40, 20), (200, 30, 30)).save(poster, "JPEG")
    start = b"\0\0\0\x10ftypisom\0\0\0\0"
    boxes = metadata_boxes({}, comment="a fox", xmp=b"", poster=poster.getvalue())
    with Image.open(io.BytesIO(thumbnail(start + boxes, pixels_max=10_000))) as shown:
        assert (shown.size, shown.format) == ((40, 20), "WEBP")
    assert thumbnail(start, pixels_max=10_000) == b""
