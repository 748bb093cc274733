"""Small copies of rendered images, made once and kept in memory up to a bound: a page of jobs needs no originals."""

import asyncio
import io
from collections import OrderedDict

from loguru import logger

from dreamforge.contracts.pictures.formats import content_type_of
from dreamforge.contracts.pictures.mp4 import poster_of
from dreamforge.runtime.storage.objects import ObjectStore

# Twice the width at which the studio shows an image beside others, for screens with two pixels a CSS pixel.
SIDE_PX = 512
CONTENT_TYPE = "image/webp"
# About 25 KiB each: more than a thousand of them.
KEPT_BYTES = 32 * 2**20
# What an entry costs beside its bytes, so that those of images without a thumbnail are evicted, too.
ENTRY_BYTES = 512
# Each may hold an original and its pixels: 16 MiB and four bytes a pixel.
MADE_AT_ONCE = 2
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")
_QUALITY = 80


class Thumbnails:
    """Makes and keeps thumbnails by the content hash of the original."""

    def __init__(self, objects: ObjectStore, pixels_max: int) -> None:
        """Of an original with more than `pixels_max` pixels none is made."""
        self._objects = objects
        self._pixels_max = pixels_max
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._making = asyncio.Semaphore(MADE_AT_ONCE)

    async def of(self, sha256: str, key: str) -> bytes:
        """WebP of at most SIDE_PX a side; empty where none can be made. Errors: ArtifactNotFound, DependencyAway."""
        if (kept := self._find(sha256)) is not None:
            return kept
        async with self._making:
            if (kept := self._find(sha256)) is not None:  # made while this one waited
                return kept
            original = await self._objects.get(key)
            made = await asyncio.to_thread(thumbnail, original, self._pixels_max)
        self._keep(sha256, made)
        return made

    def _find(self, sha256: str) -> bytes | None:
        kept = self._kept.get(sha256)
        if kept is not None:
            self._kept.move_to_end(sha256)
        return kept

    def _keep(self, sha256: str, made: bytes) -> None:
        if (before := self._kept.pop(sha256, None)) is not None:
            self._kept_bytes -= len(before) + ENTRY_BYTES
        self._kept[sha256] = made
        self._kept_bytes += len(made) + ENTRY_BYTES
        while self._kept_bytes > KEPT_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped) + ENTRY_BYTES


def thumbnail(original: bytes, pixels_max: int) -> bytes:
    """WebP with sides of at most SIDE_PX; empty for bytes that are no image of up to `pixels_max` pixels. Of a video it
    is that of its poster.

    Takes up to a second: run it in a thread.
    """
    from PIL import Image  # 20 ms of a start

    Image.MAX_IMAGE_PIXELS = None  # our own bound is checked before Pillow decodes a pixel
    try:
        if content_type_of(original) == "video/mp4":
            original = poster_of(original) or b""
        with Image.open(io.BytesIO(original), formats=_FORMATS) as image:
            if image.width * image.height > pixels_max:
                return b""
            image.thumbnail((SIDE_PX, SIDE_PX), reducing_gap=2.0)
            small = image if image.mode in ("RGB", "RGBA") else image.convert("RGB")
            out = io.BytesIO()
            small.save(out, "WEBP", quality=_QUALITY, method=2)
    except Exception as error:  # bytes of a store: whatever a decoder says, the original can be shown instead
        logger.warning("no thumbnail can be made: {}", error)
        return b""
    return out.getvalue()
