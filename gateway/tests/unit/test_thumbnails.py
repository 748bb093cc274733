"""What is kept of thumbnails has a bound, also where none could be made."""

from typing import Any, cast

from dreamforge.gateway.read import thumbnails
from dreamforge.gateway.read.thumbnails import Thumbnails


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
