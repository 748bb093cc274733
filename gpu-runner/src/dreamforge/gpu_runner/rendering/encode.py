"""A rendered image as a file of the format that its request names, with its metadata: the same for the same recipe.

Every file has the recipe, the text `parameters` of A1111 and IPTC's mark (`contracts.pictures`). A PNG has them as
texts, an MP4 as items; the other formats as EXIF and XMP.
"""

import io
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from dreamforge.contracts.models.descriptor import SamplerName
from dreamforge.contracts.pictures.exif import PREFIX, exif_of
from dreamforge.contracts.pictures.formats import FORMATS, ContentType, OutputFormat
from dreamforge.contracts.pictures.infotext import infotext
from dreamforge.contracts.pictures.mark import XMP, XMP_KEYWORD
from dreamforge.contracts.pictures.metadata import PARAMETERS_KEY, RECIPE_KEY
from dreamforge.contracts.pictures.mp4 import metadata_boxes
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.protocol.recipe import Recipe
from dreamforge.gpu_runner.rendering.png import encode_png

#: A segment of JPEG holds 65,533 bytes, and EXIF has a prefix of six.
JPEG_EXIF_BYTES = 65_527
#: From this quality on each pixel of a JPEG has its own colour, instead of four together.
FULL_COLOUR_QUALITY = 90
#: Measured at 1024 x 1024 on one core of a 2-core machine: JPEG 40 ms, WebP of method 2 110 ms (method 4: 530),
#: lossless WebP of effort 0 100 ms (70: 940), AVIF of speed 8 200 ms (speed 6: 1,000). AVIF has other bytes with
#: another number of threads.
_WEBP_METHOD, _LOSSLESS_METHOD, _LOSSLESS_EFFORT, _AVIF_SPEED, _AVIF_THREADS = 2, 0, 0, 8, 1
_PILLOW_FORMATS: dict[OutputFormat, tuple[str, str]] = {
    "jpeg": ("JPEG", "libjpeg_turbo"),
    "webp": ("WEBP", "webp"),
    "webp_lossless": ("WEBP", "webp"),
    "avif": ("AVIF", "avif"),
}


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A finished file, and the recipe in it: with the versions of what encoded it, where those decide its bytes."""

    data: bytes
    content_type: ContentType
    recipe: Recipe


def encode(scanlines: bytes, size_px: tuple[int, int], request: RenderRequest, recipe: Recipe) -> EncodedImage:
    """The file of one image or video. Shapes: scanlines as in `RenderedImage`; size_px is width and height."""
    name = request.output_format
    content_type = FORMATS[name].content_type
    if name == "mp4":
        return _video(scanlines, size_px, request, recipe)
    if name == "png":
        data = encode_png(
            scanlines,
            width_px=size_px[0],
            height_px=size_px[1],
            international={RECIPE_KEY: recipe.model_dump_json(), XMP_KEYWORD: XMP},
            texts={PARAMETERS_KEY: _parameters(recipe, request.sampler)},
        )
        return EncodedImage(data, content_type, recipe)
    recipe = recipe.model_copy(update={"versions": recipe.versions | _encoder_versions(name)})
    exif = _exif(recipe, request.sampler, JPEG_EXIF_BYTES if name == "jpeg" else None)
    return EncodedImage(_by_pillow(scanlines, size_px, request, exif), content_type, recipe)


def _video(frames: bytes, size_px: tuple[int, int], request: RenderRequest, recipe: Recipe) -> EncodedImage:
    from dreamforge.gpu_runner.rendering import video  # 100 MB, which no image needs

    recipe = recipe.model_copy(update={"versions": recipe.versions | video.versions()})
    quality, frames_per_second = request.output_quality, request.frames_per_second
    if quality is None or frames_per_second is None:
        raise ValueError("a video needs its quality and its frames a second")
    encoded = video.encode_h264(frames, size_px, frames_per_second=frames_per_second, quality=quality)
    boxes = metadata_boxes(
        {RECIPE_KEY: recipe.model_dump_json()},
        comment=_parameters(recipe, request.sampler),
        xmp=XMP.encode(),
        poster=video.poster(frames, size_px),
    )
    return EncodedImage(encoded + boxes, FORMATS["mp4"].content_type, recipe)


def _parameters(recipe: Recipe, sampler: SamplerName | None) -> str:
    return infotext(recipe.model_dump(mode="json"), sampler)


def _exif(recipe: Recipe, sampler: SamplerName | None, limit_bytes: int | None) -> bytes:
    """Text and recipe; where the format has no room for both the text alone, and where not even that, neither."""
    text = _parameters(recipe, sampler)
    tries = exif_of(text, recipe.model_dump_json()), exif_of(text, None), exif_of("", None)
    return next(each for each in tries if limit_bytes is None or len(each) <= limit_bytes)


def _by_pillow(scanlines: bytes, size_px: tuple[int, int], request: RenderRequest, exif: bytes) -> bytes:
    from PIL import Image  # a child that writes PNG does without

    # Filtered rows are what Pillow reads in a PNG; uncompressed, that takes a few milliseconds.
    rows = encode_png(scanlines, width_px=size_px[0], height_px=size_px[1], level=0)
    out = io.BytesIO()
    with Image.open(io.BytesIO(rows), formats=["PNG"]) as image:
        image.save(
            out, _PILLOW_FORMATS[request.output_format][0], exif=PREFIX + exif, xmp=XMP.encode(), **_options(request)
        )
    return out.getvalue()


def _options(request: RenderRequest) -> dict[str, Any]:  # Any: each encoder has its own
    quality = request.output_quality
    match request.output_format:
        case "jpeg":
            full = quality is not None and quality >= FULL_COLOUR_QUALITY
            return {"quality": quality, "subsampling": "4:4:4" if full else "4:2:0"}
        case "webp":
            return {"quality": quality, "method": _WEBP_METHOD}
        case "webp_lossless":
            return {"lossless": True, "quality": _LOSSLESS_EFFORT, "method": _LOSSLESS_METHOD}
        case _:
            return {"quality": quality, "speed": _AVIF_SPEED, "max_threads": _AVIF_THREADS}


@cache
def _encoder_versions(name: OutputFormat) -> dict[str, str]:
    from PIL import features

    library = _PILLOW_FORMATS[name][1]
    return {"pillow": version("pillow"), library: str(features.version(library))}
