"""The images that a request names, ready for one pass: decoded by rule and brought to its size, each once a job."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.preprocessing import Preprocessing
from dreamforge.contracts.request.values import ResizeMode
from dreamforge.gpu_runner.protocol.render_task import InputImage, RenderTask
from dreamforge.gpu_runner.rendering.images import HALF
from dreamforge.gpu_runner.rendering.input_images import NotAnImage, Pixels, decode_image, decode_mask
from dreamforge.gpu_runner.rendering.preprocessors import preprocessed
from dreamforge.gpu_runner.rendering.regions import Box, Size, region_around
from dreamforge.gpu_runner.rendering.renderer import RenderFailed
from dreamforge.gpu_runner.rendering.resizing import Target, has_shape_of, resized
from dreamforge.gpu_runner.rendering.spreading import spread_into

#: Prepared images that stay in memory: those of a job in both of its passes. Each seed of it uses them again.
KEPT = 8
#: Whole images of which only an area is rendered: the one of a job.
AREAS_KEPT = 1
#: Around a mask that is fitted in, all is rendered anew; around the image of a ControlNet there is nothing to follow.
RENDERED_ANEW, NOTHING_TO_FOLLOW = 255, 0
NOTHING_ANEW = "it is nowhere lighter than half, so the model renders nothing anew"


@dataclass(frozen=True, slots=True)
class Start:
    """The image that a render starts from, and its mask: 255 is rendered anew, 0 stays."""

    image: Image.Image
    mask: Image.Image | None
    #: What was done to each, by the name of its parameter.
    notes: tuple[tuple[str, tuple[str, ...]], ...]
    #: What the model starts from, where that is not the image itself.
    filled: Image.Image | None = None


@dataclass(frozen=True, slots=True)
class Area:
    """The part of an image that is rendered, and the whole of it, with its mask."""

    image: Image.Image
    mask: Image.Image
    box: Box
    notes: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class _MaskUse:
    """A mask, and what is done to it before it counts."""

    source: InputImage
    inverted: bool
    blur_px: float
    spreads: bool


@dataclass(frozen=True, slots=True)
class _AreaUse:
    image: InputImage
    mask: _MaskUse
    padding_px: int
    size_px: Size
    shape: Size


def start_of(task: RenderTask, size_px: Size) -> Start | None:
    """The image to start from at this size; None where there is none. Errors: RenderFailed(invalid_request)."""
    request = task.request
    if request.init_image is None:
        return None
    if (area := _area_use(task)) is not None:
        return _start_of_area(area, size_px)
    return _start(task.inputs[request.init_image], _mask_use(task), size_px, request.resize_mode or "stretch")


def image_of(task: RenderTask) -> Pixels:
    """The image to start from as it is. Errors: RenderFailed(invalid_request) also where there is none."""
    if task.request.init_image is None:
        raise _invalid("an upscaler needs init_image, the image to enlarge")
    return decoded(task.inputs[task.request.init_image], decode_image)


def area_of(task: RenderTask) -> Area | None:
    """What is rendered of the image; None: all of it. Errors: RenderFailed(invalid_request)."""
    use = _area_use(task)
    return None if use is None else _area(use)


def _mask_use(task: RenderTask) -> _MaskUse | None:
    request = task.request
    if request.mask_image is None:
        return None
    source = task.inputs[request.mask_image]
    return _MaskUse(source, request.mask_selects == "black", request.mask_blur_px or 0.0, request.mask_fill == "fill")


def _area_use(task: RenderTask) -> _AreaUse | None:
    request, mask = task.request, _mask_use(task)
    if (area := request.masked_area) is None or request.init_image is None or mask is None:
        return None
    sizes = (area.width_px, area.height_px), (request.width_px, request.height_px)
    return _AreaUse(task.inputs[request.init_image], mask, area.padding_px, *sizes)


def controls_of(task: RenderTask, size_px: Size) -> tuple[Pixels, ...]:
    """The images that ControlNets follow, likewise."""
    mode = task.request.resize_mode or "stretch"
    area = _area_use(task)
    return tuple(_control(task.inputs[use.image], use.preprocess, size_px, mode, area) for use in task.request.control)


def map_hashes_of(task: RenderTask) -> tuple[str | None, ...]:
    """The hash of each map that a preprocessor made; None for an image that was followed as it is."""
    size_px = task.request.width_px, task.request.height_px
    return tuple(
        None if use.preprocess is None else hashlib.sha256(followed.image.tobytes()).hexdigest()
        for use, followed in zip(task.request.control, controls_of(task, size_px), strict=True)
    )


def notes_of(task: RenderTask, size_px: Size) -> Iterator[str]:
    """What was done to the images of a task, one text an image. Errors: RenderFailed(invalid_request)."""
    start, controls = start_of(task, size_px), controls_of(task, size_px)
    numbers = [f" {index}" for index, _ in enumerate(controls)] if len(controls) > 1 else [""]
    noted = [(f"control image{number}", each.notes) for number, each in zip(numbers, controls, strict=False)]
    shown = ((f"image prompt {index}", task.inputs[use.image]) for index, use in enumerate(task.request.image_prompts))
    noted += [(name, decoded(source, decode_image).notes) for name, source in shown]
    for name, notes in (*(start.notes if start else ()), *noted):
        if notes:
            yield f"{name}: {', '.join(notes)}"


def square_of(task: RenderTask, sha256: str, side_px: int) -> Image.Image:
    """The middle of an image that stands beside a prompt, for its encoder. Errors: RenderFailed(invalid_request)."""
    return _square(task.inputs[sha256], side_px)


@lru_cache(KEPT)
def _square(source: InputImage, side_px: int) -> Image.Image:
    """Bicubic, as the encoders' own processors take it."""
    size_px = (side_px, side_px)
    return resized(decoded(source, decode_image).image, Target(size_px, "crop", Image.Resampling.BICUBIC))[0]


@lru_cache(KEPT)
def _start(source: InputImage, mask_use: _MaskUse | None, size_px: Size, mode: ResizeMode) -> Start:
    read = decoded(source, decode_image)
    image, shape = resized(read.image, Target(size_px, mode))
    notes = ("init_image", _joined(read.notes, shape))
    if mask_use is None:
        return Start(image, None, (notes,))
    laid = _mask(mask_use, read.image.size, laid=mode != "stretch")
    mask, _ = resized(laid.image, Target(size_px, mode, Image.Resampling.BILINEAR, margin=RENDERED_ANEW))
    noted = (notes, ("mask_image", _joined(laid.notes, _emptiness(mask))))
    return Start(image, mask, noted, spread_into(image, mask) if mask_use.spreads else None)


@lru_cache(KEPT)
def _start_of_area(use: _AreaUse, size_px: Size) -> Start:
    """Of the area alone: all of it shows, so that an image too short for the shape of the render gets margins."""
    area = _area(use)
    image, _ = resized(area.image.crop(area.box), Target(size_px, "fit"))
    mask, _ = resized(area.mask.crop(area.box), Target(size_px, "fit", Image.Resampling.BILINEAR, RENDERED_ANEW))
    return Start(image, mask, area.notes, spread_into(image, mask) if use.mask.spreads else None)


@lru_cache(AREAS_KEPT)
def _area(use: _AreaUse) -> Area:
    read = decoded(use.image, decode_image)
    if read.image.size != use.size_px:
        found, recorded = ("x".join(map(str, size)) for size in (read.image.size, use.size_px))
        raise _invalid(f"input {use.image.sha256[:12]} is {found}, not {recorded} as recorded")
    mask = _mask(use.mask, read.image.size, laid=True)
    box = region_around(np.asarray(mask.image), use.padding_px, use.shape)
    notes = ("init_image", read.notes), ("mask_image", _joined(mask.notes, _emptiness(mask.image)))
    return Area(read.image, mask.image, box, notes)


@lru_cache(KEPT)
def _control(
    source: InputImage, how: Preprocessing | None, size_px: Size, mode: ResizeMode, area_use: _AreaUse | None
) -> Pixels:
    """Where only an area is rendered, the image is laid on the whole one first, and the same area of it counts."""
    read = decoded(source, decode_image)
    change = None if how is None else partial(preprocessed, how=how)
    image, laid = read.image, ""
    if area_use is not None:
        area = _area(area_use)
        whole, laid = resized(image, Target(area.image.size, mode, margin=NOTHING_TO_FOLLOW))
        image, mode = whole.crop(area.box), "fit"
    image, shape = resized(image, Target(size_px, mode, margin=NOTHING_TO_FOLLOW, change=change))
    shape = shape if area_use is None else laid
    return Pixels(image, _joined(read.notes, shape))


def _mask(use: _MaskUse, image_px: Size, *, laid: bool) -> Pixels:
    """A mask lies on the image, so it is brought to the image's size: where that is asked for, or where it is blurred.

    Bilinear: Lanczos rings, and would leave a faint frame around the hole.
    """
    read = decoded(use.source, decode_mask)
    mask, stretched = read.image, ""
    if (laid or use.blur_px) and mask.size != image_px:
        if not has_shape_of(mask.size, image_px):
            stretched = "stretched to the shape of the image"
        mask = mask.resize(image_px, Image.Resampling.BILINEAR)
    if use.inverted:
        mask = ImageChops.invert(mask)
    if use.blur_px:
        mask = mask.filter(ImageFilter.GaussianBlur(use.blur_px))
    return Pixels(mask, _joined(read.notes, stretched))


def _emptiness(mask: Image.Image) -> str:
    return "" if np.asarray(mask).max() >= HALF else NOTHING_ANEW


def decoded(source: InputImage, decode: Callable[[bytes], Pixels]) -> Pixels:
    """An uploaded image by the rules of `input_images`. Errors: RenderFailed(invalid_request)."""
    try:
        return decode(Path(source.path).read_bytes())
    except (OSError, NotAnImage) as error:
        raise _invalid(f"input {source.sha256[:12]} is not an image that can be read: {error}") from error


def _invalid(message: str) -> RenderFailed:
    return RenderFailed(FailureReason.INVALID_REQUEST, message)


def _joined(notes: tuple[str, ...], *more: str) -> tuple[str, ...]:
    return (*notes, *filter(None, more))
