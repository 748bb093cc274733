"""Whether an upload is the image that it says it is, found by decoding it whole. Runs in a process of its own.

What a client sends is judged by its content; nothing here touches a file, the network or a setting.
"""

import io

from PIL import Image

from dreamforge.contracts.errors import OutOfBounds
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.values import SIDE_PX_MIN
from dreamforge.gateway.http.errors import BadPicture, UnsupportedMedia
from dreamforge.gateway.submit.image_headers import Header, read_header

FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
# Our own bound on pixels is checked before Pillow sees a byte.
Image.MAX_IMAGE_PIXELS = None


def media_type(header: str | None) -> str:
    """The media type in a Content-Type header. Errors: UnsupportedMedia."""
    given = (header or "").partition(";")[0].strip().lower()
    if given not in FORMATS:
        raise UnsupportedMedia(given=given[:80], allowed=tuple(FORMATS))
    return given


def inspect(data: bytes, content_type: str, limits: Limits) -> Header:
    """The header of an image, once every pixel of it was decoded. Takes up to a second: see `image_process`.

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
