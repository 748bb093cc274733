"""Uploaded images: checked by content, stored under their hash, named by it in requests."""

import asyncio
import io
from collections.abc import Iterator

from PIL import Image

from dreamforge.contracts.errors import ArtifactNotFound, OutOfBounds
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.values import SIDE_PX_MIN
from dreamforge.gateway.http.errors import BadPicture, UnknownUpload, UnsupportedMedia
from dreamforge.gateway.read.replies import UploadReply
from dreamforge.gateway.submit.image_headers import Header, read_header
from dreamforge.runtime.storage.objects import ObjectStore, object_key, sha256_of, upload_key

FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
# Each decode may hold four bytes a pixel: two of the default largest are 128 MiB.
DECODES_AT_ONCE = 2
# Our own bound on pixels is checked before Pillow sees a byte.
Image.MAX_IMAGE_PIXELS = None


def media_type(header: str | None) -> str:
    """The media type in a Content-Type header. Errors: UnsupportedMedia."""
    given = (header or "").partition(";")[0].strip().lower()
    if given not in FORMATS:
        raise UnsupportedMedia(given=given[:80], allowed=tuple(FORMATS))
    return given


def inspect(data: bytes, content_type: str, limits: Limits) -> Header:
    """The header of an image, once every pixel of it was decoded. Takes up to a second: run it in a thread.

    Errors: BadPicture(reason), OutOfBounds(pixels, width_px or height_px).
    """
    header = read_header(data)
    if header.content_type != content_type:
        raise BadPicture(f"Content-Type is {content_type}, and its content is {header.content_type}")
    for field, side in (("width_px", header.width_px), ("height_px", header.height_px)):
        if side < SIDE_PX_MIN:
            raise OutOfBounds(field=field, value=side, minimum=SIDE_PX_MIN, maximum=limits.upload_pixels)
    pixels = header.width_px * header.height_px
    if pixels > limits.upload_pixels:
        raise OutOfBounds(field="pixels", value=pixels, minimum=1, maximum=limits.upload_pixels)
    _decode(data, header)
    return header


def _decode(data: bytes, header: Header) -> None:
    try:
        with Image.open(io.BytesIO(data), formats=[FORMATS[header.content_type]]) as image:
            frames = getattr(image, "n_frames", 1)
            if frames == 1:
                image.load()
            size = image.size
    except Exception as error:  # untrusted bytes: any exception of a decoder is a refusal
        raise BadPicture(f"it cannot be decoded: {error}"[:200]) from error
    if frames != 1:
        raise BadPicture(f"it has {frames} frames, and must have one")
    if size != (header.width_px, header.height_px):
        raise BadPicture("its parts disagree about its size")


class Uploads:
    """Stores checked images in the object store."""

    def __init__(self, objects: ObjectStore, limits: Limits) -> None:
        self._objects = objects
        self._limits = limits
        self._decoding = asyncio.Semaphore(DECODES_AT_ONCE)

    async def keep(self, data: bytes, content_type: str) -> UploadReply:
        """Check and store; the same bytes are the same upload. Errors: those of `inspect`, DependencyAway."""
        async with self._decoding:
            header = await asyncio.to_thread(inspect, data, content_type, self._limits)
        sha256 = sha256_of(data)
        if not await self._objects.exists(upload_key(sha256)):
            size = {"width-px": str(header.width_px), "height-px": str(header.height_px)}
            await self._objects.put(upload_key(sha256), data, content_type, size)
        return UploadReply(
            sha256=sha256,
            width_px=header.width_px,
            height_px=header.height_px,
            size_bytes=len(data),
            content_type=content_type,
            url=f"/v1/uploads/{sha256}",
        )

    async def address(self, sha256: str) -> str | None:
        """A URL of the bytes, valid for some minutes; None if there is no such upload. Errors: DependencyAway."""
        key = upload_key(sha256)
        return self._objects.presigned_url(key) if await self._objects.exists(key) else None

    async def require(self, request: RenderRequest) -> None:
        """Check that each named image is stored. Errors: UnknownUpload(field, value), DependencyAway."""
        for field, sha256 in _named(request):
            if not (await self._objects.exists(upload_key(sha256)) or await self._adopt(sha256)):
                raise UnknownUpload(field=field, value=sha256)

    async def _adopt(self, sha256: str) -> bool:
        """Copy an image that was rendered here to the uploads, because artifacts that no job shows are deleted.

        False if there is none. Errors: DependencyAway.
        """
        try:
            await self._objects.copy(object_key(sha256), upload_key(sha256))
        except ArtifactNotFound:
            return False
        return True


def _named(request: RenderRequest) -> Iterator[tuple[str, str]]:
    control = request.control.image if request.control is not None else None
    named = (("init_image", request.init_image), ("mask_image", request.mask_image), ("control/image", control))
    return ((field, sha256) for field, sha256 in named if sha256 is not None)
