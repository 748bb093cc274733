"""The images that a prompt is an instruction about, ready for a pipeline. Import this only in the child."""

import math
from functools import lru_cache

from PIL import Image

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.models.descriptor import REFERENCES_MAX
from dreamforge.gpu_runner.protocol.render_task import InputImage, RenderTask
from dreamforge.gpu_runner.rendering.input_images import Pixels, decode_image
from dreamforge.gpu_runner.rendering.prepared_inputs import decoded
from dreamforge.gpu_runner.rendering.regions import Size
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

#: Both sides of a reference, in pixels: what a token of these families covers. A rest would be cut off.
MULTIPLE_PX = 16
#: The least side and the longest shape that FLUX.2's pipelines take; the others say nothing of it.
SIDE_PX_MIN, RATIO_MAX = 64, 8


def references_of(task: RenderTask, size_px: Size) -> tuple[Pixels, ...]:
    """Each reference in its own shape, with about as many pixels as the render: what these models were trained on.

    Errors: RenderFailed(invalid_request) where a file is no image, or one that is too long.
    """
    area_px = size_px[0] * size_px[1]
    return tuple(_of_area(task.inputs[sha256], area_px) for sha256 in task.request.references)


@lru_cache(REFERENCES_MAX)
def _of_area(source: InputImage, area_px: int) -> Pixels:
    read = decoded(source, decode_image)
    width, height = read.image.size
    if max(width, height) > RATIO_MAX * min(width, height):
        shape = f"{width} x {height} pixels: one side is over {RATIO_MAX} times the other"
        message = f"reference {source.sha256[:12]} has {shape}"
        raise RenderFailed(FailureReason.INVALID_REQUEST, message)
    size_px = size_of_area(read.image.size, area_px)
    same = read.image.size == size_px
    return Pixels(read.image if same else read.image.resize(size_px, Image.Resampling.LANCZOS), read.notes)


def size_of_area(size_px: Size, area_px: int) -> Size:
    """The size of so many pixels in the same shape, to the nearest multiples.

    >>> size_of_area((4000, 2000), 1024 * 1024), size_of_area((800, 100), 64 * 64)
    ((1456, 720), (176, 64))
    """
    scale = math.sqrt(area_px / (size_px[0] * size_px[1]))
    width, height = (max(SIDE_PX_MIN, round(side * scale / MULTIPLE_PX) * MULTIPLE_PX) for side in size_px)
    return width, height
