"""Whether an upload is an image, found by decoding its first frame whole. Runs in a process of its own.

What a client sends is judged by its content; nothing here touches a file, the network or a setting.
"""

import io
from dataclasses import replace

from PIL import ExifTags, Image, ImageChops, ImageFilter, ImageOps

from dreamforge.contracts.request.errors import OutOfBounds
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.values import SIDE_PX_MIN
from dreamforge.gateway.http.errors import BadPicture
from dreamforge.gateway.submit.image_headers import FORMATS, Header, read_header
from dreamforge.gateway.submit.image_tasks import MaskChange

# EXIF orientations (EXIF 2.32, tag 274) that exchange the sides.
_LYING = range(5, 9)
# Our own bound on pixels is checked before Pillow sees a byte.
Image.MAX_IMAGE_PIXELS = None


# What is lighter than this is white, where a mask is rounded: the bound of A1111 (modules/processing.py, 1.10).
ROUNDED_ABOVE = 128
# Beyond it a blur only costs time: no side of an upload is much longer.
BLUR_PX_MAX = 1_000.0


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
    return _png(ImageChops.invert(alpha))


def changed_mask(data: bytes, change: MaskChange, limits: Limits) -> bytes:
    """A mask as requests take it, from one that is white, or visible, where the image is rendered anew. A PNG, mode L.

    Errors: as `inspect`; OutOfBounds(mask_blur).
    """
    header = inspect(data, limits)
    for blur in (change.blur_x_px, change.blur_y_px):
        if not 0 <= blur <= BLUR_PX_MAX:
            raise OutOfBounds(field="mask_blur", value=blur, minimum=0, maximum=BLUR_PX_MAX)
    with Image.open(io.BytesIO(data), formats=[FORMATS[header.content_type]]) as image:
        alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
        mask = image.convert("L") if alpha is None or alpha.getextrema() == (255, 255) else alpha
    if change.rounded:
        mask = mask.point(lambda value: 255 if value > ROUNDED_ABOVE else 0)
    if change.inverted:
        mask = ImageChops.invert(mask)
    mask = grown(mask, change.grown_px)
    return _png(mask.filter(ImageFilter.GaussianBlur((change.blur_x_px, change.blur_y_px))))


def grown(mask: Image.Image, side_px: int) -> Image.Image:
    """White spread over a square of `side_px` around each pixel, of even sides one more before it than after it.

    Source: `grow_mask_by` of ComfyUI's VAEEncodeForInpaint, a maximum over i - ceil((side - 1) / 2) and what follows.
    """
    if side_px < 2:
        return mask
    size, after_px = mask.size, (side_px - 1) // 2
    mask = ImageOps.expand(mask, side_px)
    for right, down in ((1, 0), (0, 1)):
        reached_px = 1
        while reached_px < side_px:  # twice as far each time
            step_px = min(reached_px, side_px - reached_px)
            mask = ImageChops.lighter(mask, _shifted(mask, right * step_px, down * step_px))
            reached_px += step_px
    # What reached only to the right and down is moved back to the middle.
    left = top = side_px + after_px
    return mask.crop((left, top, left + size[0], top + size[1]))


def _shifted(mask: Image.Image, right_px: int, down_px: int) -> Image.Image:
    moved = Image.new("L", mask.size)
    moved.paste(mask, (right_px, down_px))
    return moved


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
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
