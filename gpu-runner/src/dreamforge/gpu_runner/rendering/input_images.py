"""The bytes of an image file as pixels, by rule, and what the rules did. Pure; the one place that reads such files.

The rules, in order. Every one that changes something leaves a note.

- A file is what its content says: PNG, JPEG, WebP or AVIF, whatever it is called. Bytes behind its end (motion photos)
  do not count. Of an animation, and of a JPEG with further images in it (gain maps), the first image is taken.
- It is turned as its EXIF orientation says.
- 16 bits a channel are scaled to 8: 65,535 becomes 255.
- Colours are converted to sRGB: from the ICC profile in the file, else from the gamma that a PNG states. CMYK without a
  profile is converted by the plain formula. Of a profile that does not fit the file nothing is used.
- Where an image is transparent, white shows through.
- A mask is numbers and not colours, so no profile applies. White is rendered anew. If it is transparent somewhere, the
  mask is in its alpha channel: see `_mask_from_alpha`.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

#: What Pillow may take a file for; its reader of JPEG knows that further images may follow.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")
# Uploads are within the gateway's bound on pixels, which it checks before it stores one.
Image.MAX_IMAGE_PIXELS = None
#: What shows through a transparent image: paper.
BACKGROUND = "white"
#: The largest value of 16 and of 8 bits.
MAX_16, MAX_8 = 65_535, 255
#: A profile that moves no colour further than this, in steps of 8 bits, is sRGB: profiles round, each in its own way.
SRGB_TOLERANCE = 2
#: The gamma of a PNG that says it is sRGB (PNG specification, section 11.3.2.5), and how far another may be from it.
SRGB_GAMMA, GAMMA_TOLERANCE = 1 / 2.2, 0.01
#: What brings an image upright, by its EXIF orientation (EXIF 2.32, tag 274).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: Where the PNG specification puts the bit depth.
_PNG_MAGIC, _PNG_DEPTH_AT = b"\x89PNG", 24
#: Colour spaces of ICC profiles (ICC.1, table 19) by the Pillow mode that they are for.
_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
#: Pixels at least so opaque say what a mask was drawn with: fainter ones are edges, whose colours editors round.
_OPAQUE = 128
#: Two channels, or two pixels, closer than this are the same colour to an eye and to a lossy encoder.
_SAME_COLOUR = 16
#: What Pillow found beside the pixels. Any: its keys are texts, and numbers in some formats.
Info = Mapping[Any, object]


class NotAnImage(ValueError):
    """The bytes are no image that these rules read; its text says why."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """An image of mode RGB, or a mask of mode L, and what was done to get there."""

    image: Image.Image
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Channels:
    """Upright 8-bit channels: `colour` of mode RGB, L or CMYK; `alpha` of mode L, None where nothing is transparent."""

    colour: Image.Image
    alpha: Image.Image | None
    #: Of the file: its profile and its gamma.
    info: Info
    notes: tuple[str, ...]


def decode_image(data: bytes) -> Pixels:
    """The RGB pixels that a viewer shows of a file. Errors: NotAnImage."""
    read = _read(data)
    colour, notes = _in_srgb(read)
    if read.alpha is None:
        return Pixels(colour, notes)
    lying = colour.convert("RGBA")
    lying.putalpha(read.alpha)
    paper = Image.new("RGBA", colour.size, BACKGROUND)
    return Pixels(Image.alpha_composite(paper, lying).convert("RGB"), (*notes, "where it is transparent it is white"))


def decode_mask(data: bytes) -> Pixels:
    """A mask of mode L: 255 is rendered anew, 0 stays. Errors: NotAnImage."""
    read = _read(data)
    grey = read.colour.convert("L")
    if read.alpha is None:
        return Pixels(grey, read.notes)
    mask, note = _mask_from_alpha(np.asarray(read.colour.convert("RGB")), np.asarray(grey), np.asarray(read.alpha))
    return Pixels(Image.fromarray(mask), (*read.notes, note))


def _mask_from_alpha(
    colour: NDArray[np.uint8], grey: NDArray[np.uint8], alpha: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], str]:
    """What an alpha channel means, by what is visible beside it.

    One colour but black: that was painted, so what is opaque is rendered anew. Black alone: the rest was erased, so
    what is transparent is. Several greys: a mask as any other, and nothing where it is transparent. Several colours: a
    photograph with a hole in it, which is rendered anew.

    Shapes: colour is (height, width, 3), the others (height, width).
    """
    visible = colour[alpha >= _OPAQUE].astype(np.int16)
    if not len(visible):
        return np.zeros_like(alpha), "all of it is transparent, so nothing is rendered anew"
    lowest, highest = visible.min(axis=0), visible.max(axis=0)
    if highest.max() < _SAME_COLOUR:
        return MAX_8 - alpha, "it is black where it is opaque, so what is transparent is rendered anew"
    if (highest - lowest).max() < _SAME_COLOUR:
        return alpha, "it has one colour, so what is opaque is rendered anew"
    if (visible.max(axis=1) - visible.min(axis=1)).max() < _SAME_COLOUR:
        covered = (grey.astype(np.uint16) * alpha + MAX_8 // 2) // MAX_8
        return covered.astype(np.uint8), "where it is transparent nothing is rendered anew"
    return MAX_8 - alpha, "it is a picture with holes, so what is transparent is rendered anew"


def _read(data: bytes) -> _Channels:
    opened, notes = _opened(data)
    upright, turned = _upright(opened)
    colour, alpha, scaled = _channels(upright, is_deep=data[:4] == _PNG_MAGIC and data[_PNG_DEPTH_AT] == 16)
    if alpha is not None and alpha.getextrema()[0] == MAX_8:
        alpha = None
    return _Channels(colour, alpha, opened.info, (*notes, *turned, *scaled))


def _opened(data: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        image.load()
        frames = getattr(image, "n_frames", 1)
    except MemoryError:
        raise
    except Exception as error:  # a file of someone else: decoders raise errors of any type
        raise NotAnImage(str(error) or type(error).__name__) from error
    return image, (f"the first of {frames} images in the file",) if frames > 1 else ()


def _upright(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF of someone else: its reader raises errors of any type
        return image, ("its EXIF data is damaged and was ignored",)
    if orientation not in _TURNS:
        return image, ()
    return image.transpose(_TURNS[orientation]), ("turned as its EXIF orientation says",)


def _channels(image: Image.Image, *, is_deep: bool) -> tuple[Image.Image, Image.Image | None, tuple[str, ...]]:
    """Colour, alpha and a note. Pillow itself reads 16-bit colours by their high bytes; greys it keeps whole."""
    notes = ("16 bits a channel scaled to 8",) if is_deep else ()
    if image.mode.startswith("I"):
        return *_scaled_grey(image), notes
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    match image.mode:
        case "L" | "CMYK":
            colour = image
        case "LA":
            colour = image.getchannel("L")
        case "1":
            colour = image.convert("L")
        case "RGB":
            colour = image
        case _:
            colour = image.convert("RGBA").convert("RGB") if alpha is not None else image.convert("RGB")
    return colour, alpha, notes


def _scaled_grey(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    values = np.asarray(image).astype(np.int64).clip(0, MAX_16)
    scaled = ((values * MAX_8 + MAX_16 // 2) // MAX_16).astype(np.uint8)
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return Image.fromarray(scaled), None
    return Image.fromarray(scaled), Image.fromarray(np.where(values == transparent, 0, MAX_8).astype(np.uint8))


def _in_srgb(read: _Channels) -> tuple[Image.Image, tuple[str, ...]]:
    colour, profile, notes = read.colour, read.info.get("icc_profile"), read.notes
    if isinstance(profile, bytes) and profile:
        converted, note = _by_profile(colour, profile)
    else:
        converted, note = _by_gamma(colour, read.info)
    return converted, (*notes, note) if note else notes


def _by_profile(colour: Image.Image, profile: bytes) -> tuple[Image.Image, str]:
    """Relative colorimetric with black point compensation, the usual way for photographs; a note where it did much."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if colour.mode == "L" and space == "RGB":
            colour = colour.convert("RGB")
        if space != _SPACES[colour.mode]:
            return _plain(colour, f"its {space} colour profile does not fit and was ignored")
        name = "".join(filter(str.isprintable, ImageCms.getProfileDescription(source)))[:60].strip()
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            colour.mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if _is_srgb(colour.mode, transform.apply):
            return colour.convert("RGB"), ""
        converted = transform.apply(colour)
    except (ImageCms.PyCMSError, ValueError, TypeError, OSError):
        return _plain(colour, "its colour profile is damaged and was ignored")
    return converted, f"converted to sRGB from its colour profile ({name})"


def _is_srgb(mode: str, convert: Callable[[Image.Image], Image.Image]) -> bool:
    if mode == "CMYK":
        return False
    levels = np.arange(0, 256, 15 if mode == "RGB" else 1, dtype=np.uint8)
    grid = np.stack(np.meshgrid(*[levels] * 3), axis=-1).reshape(1, -1, 3) if mode == "RGB" else levels[None, :]
    probe = Image.fromarray(grid)
    converted = convert(probe)
    difference = np.asarray(converted).astype(np.int16) - np.asarray(probe.convert("RGB"))
    return bool(abs(difference).max() <= SRGB_TOLERANCE)


def _by_gamma(colour: Image.Image, info: Info) -> tuple[Image.Image, str]:
    gamma = info.get("gamma")
    if "srgb" in info or not isinstance(gamma, float) or gamma <= 0 or abs(gamma - SRGB_GAMMA) < GAMMA_TOLERANCE:
        return _plain(colour, "")
    curve = [round(MAX_8 * (value / MAX_8) ** (SRGB_GAMMA / gamma)) for value in range(MAX_8 + 1)]
    return colour.convert("RGB").point(curve * 3), f"converted to sRGB from its gamma ({gamma:.3f})"


def _plain(colour: Image.Image, note: str) -> tuple[Image.Image, str]:
    if colour.mode == "CMYK":
        plain = "CMYK converted to RGB by the plain formula"
        return colour.convert("RGB"), f"{note}; {plain}" if note else f"{plain}, for it has no colour profile"
    return colour.convert("RGB"), note
