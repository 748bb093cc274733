"""The images that a request names, ready for one pass: decoded by rule and brought to its size, each once a job."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.values import ResizeMode
from dreamforge.gpu_runner.protocol.render_task import InputImage, RenderTask
from dreamforge.gpu_runner.rendering.input_images import NotAnImage, Pixels, decode_image, decode_mask
from dreamforge.gpu_runner.rendering.renderer import RenderFailed
from dreamforge.gpu_runner.rendering.resizing import Size, Target, has_shape_of, resized

#: Prepared images that stay in memory: those of a job in both of its passes. Each seed of it uses them again.
KEPT = 4
#: Around a mask that is fitted in, all is rendered anew; around the image of a ControlNet there is nothing to follow.
RENDERED_ANEW, NOTHING_TO_FOLLOW = 255, 0
#: The model renders anew from here on; what is below is only blended.
HALF = 128
NOTHING_ANEW = "it is nowhere lighter than half, so the model renders nothing anew"


@dataclass(frozen=True, slots=True)
class Start:
    """The image that a render starts from, and its mask: 255 is rendered anew, 0 stays."""

    image: Image.Image
    mask: Image.Image | None
    #: What was done to each, by the name of its parameter.
    notes: tuple[tuple[str, tuple[str, ...]], ...]


def start_of(task: RenderTask, size_px: Size) -> Start | None:
    """The image to start from at this size; None where there is none. Errors: RenderFailed(invalid_request)."""
    request = task.request
    if request.init_image is None:
        return None
    mask = task.inputs[request.mask_image] if request.mask_image is not None else None
    return _start(task.inputs[request.init_image], mask, size_px, request.resize_mode or "stretch")


def control_of(task: RenderTask, size_px: Size) -> Pixels | None:
    """The image that a ControlNet follows, likewise."""
    request = task.request
    if request.control is None:
        return None
    return _control(task.inputs[request.control.image], size_px, request.resize_mode or "stretch")


def notes_of(task: RenderTask, size_px: Size) -> Iterator[str]:
    """What was done to the images of a task, one text an image. Errors: RenderFailed(invalid_request)."""
    start, control = start_of(task, size_px), control_of(task, size_px)
    noted = (*(start.notes if start else ()), *((("control image", control.notes),) if control else ()))
    for name, notes in noted:
        if notes:
            yield f"{name}: {', '.join(notes)}"


@lru_cache(KEPT)
def _start(source: InputImage, mask_source: InputImage | None, size_px: Size, mode: ResizeMode) -> Start:
    read = _decoded(source, decode_image)
    image, shape = resized(read.image, Target(size_px, mode))
    notes = ("init_image", _joined(read.notes, shape))
    if mask_source is None:
        return Start(image, None, (notes,))
    mask = _mask(mask_source, read.image.size, size_px, mode)
    return Start(image, mask.image, (notes, ("mask_image", mask.notes)))


@lru_cache(KEPT)
def _control(source: InputImage, size_px: Size, mode: ResizeMode) -> Pixels:
    read = _decoded(source, decode_image)
    image, shape = resized(read.image, Target(size_px, mode, margin=NOTHING_TO_FOLLOW))
    return Pixels(image, _joined(read.notes, shape))


def _mask(source: InputImage, image_px: Size, size_px: Size, mode: ResizeMode) -> Pixels:
    """A mask lies on the image, so it is brought to the image's size first, and with it to that of the pass.

    Bilinear: Lanczos rings, and would leave a faint frame around the hole.
    """
    read = _decoded(source, decode_mask)
    mask, laid = read.image, ""
    if mode != "stretch" and mask.size != image_px:
        if not has_shape_of(mask.size, image_px):
            laid = "stretched to the shape of the image"
        mask = mask.resize(image_px, Image.Resampling.BILINEAR)
    mask, _ = resized(mask, Target(size_px, mode, Image.Resampling.BILINEAR, margin=RENDERED_ANEW))
    empty = "" if np.asarray(mask).max() >= HALF else NOTHING_ANEW
    return Pixels(mask, _joined(read.notes, laid, empty))


def _decoded(source: InputImage, decode: Callable[[bytes], Pixels]) -> Pixels:
    try:
        return decode(Path(source.path).read_bytes())
    except (OSError, NotAnImage) as error:
        message = f"input {source.sha256[:12]} is not an image that can be read: {error}"
        raise RenderFailed(FailureReason.INVALID_REQUEST, message) from error


def _joined(notes: tuple[str, ...], *more: str) -> tuple[str, ...]:
    return (*notes, *filter(None, more))
