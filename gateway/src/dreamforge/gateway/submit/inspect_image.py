"""Whether an upload is an image, found by decoding its first frame whole. Runs in a process of its own.

What a client sends is judged by its content; nothing here touches a file, the network or a setting.
"""

import io
from dataclasses import replace

from PIL import ExifTags, Image, ImageChops

from dreamforge.contracts.errors import OutOfBounds
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.values import SIDE_PX_MIN
from dreamforge.gateway.http.errors import BadPicture, UnsupportedMedia
from dreamforge.gateway.submit.image_headers import Header, read_header

FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/avif": "AVIF"}
# What clients send that do not look into a file.
ANY_BYTES = "application/octet-stream"
# EXIF orientations (EXIF 2.32, tag 274) that exchange the sides.
_LYING = range(5, 9)
# Our own bound on pixels is checked before Pillow sees a byte.
Image.MAX_IMAGE_PIXELS = None


def require_image_type(header: str | None) -> None:
    """Check that a body may be an image by its Content-Type; which image it is, its content says.

    Errors: UnsupportedMedia for forms, text and whatever else a client cannot mean as the bytes of an image.
    """
    given = (header or "").partition(";")[0].strip().lower()
    if given and given != ANY_BYTES and not given.startswith("image/"):
        raise UnsupportedMedia(given=given[:80], allowed=(*FORMATS, ANY_BYTES))


def inspect(data: bytes, limits: Limits) -> Header:
    """The header of an image, once every pixel of it was decoded, with its size as a viewer shows it.

    Of an animation, and of a JPEG with further images in it, the first image counts. Takes up to a second: see
    `image_process`. Errors: BadPicture(reason), OutOfBounds(pixels, width_px or height_px).
    """
    header = read_header(data)
    for field, side in (("width_px", header.width_px), ("height_px", header.height_px)):
        if side < SIDE_PX_MIN:
            raise OutOfBounds(field=field, value=side, minimum=SIDE_PX_MIN, maximum=limits.upload_pixels)
    pixels = header.width_px * header.height_px
    if pixels > limits.upload_pixels:
        raise OutOfBounds(field="pixels", value=pixels, minimum=1, maximum=limits.upload_pixels)
    return _upright(header, _decode(data, header))


def mask_of_alpha(data: bytes, limits: Limits) -> bytes:
    """A mask as requests take it, from one by transparency: white where the image is transparent. A PNG, mode L.

    Errors: as `inspect`; BadPicture where nothing is transparent.
    """
    header = inspect(data, limits)
    with Image.open(io.BytesIO(data), formats=[FORMATS[header.content_type]]) as image:
        alpha = image.convert("RGBA").getchannel("A")
    if alpha.getextrema() == (255, 255):
        raise BadPicture("nothing in the mask is transparent: what is transparent is rendered again")
    mask, out = ImageChops.invert(alpha), io.BytesIO()
    mask.save(out, "PNG")
    return out.getvalue()


def _decode(data: bytes, header: Header) -> int:
    """Its EXIF orientation. Errors: BadPicture."""
    try:
        with Image.open(io.BytesIO(data), formats=[FORMATS[header.content_type]]) as image:
            image.load()
            size, orientation = image.size, _orientation(image)
    except Exception as error:  # untrusted bytes: any exception of a decoder is a refusal
        raise BadPicture(f"it cannot be decoded: {error}"[:200]) from error
    if size != (header.width_px, header.height_px):
        raise BadPicture("its parts disagree about its size")
    return orientation


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF data is ignored, by runners too
        return 1
    return found if isinstance(found, int) else 1


def _upright(header: Header, orientation: int) -> Header:
    if orientation not in _LYING:
        return header
    return replace(header, width_px=header.height_px, height_px=header.width_px)
