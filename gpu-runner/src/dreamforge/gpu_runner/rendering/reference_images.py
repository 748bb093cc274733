"""The images that a prompt is an instruction about, ready for a pipeline. Import this only in the child."""

import math
from functools import lru_cache

from PIL import Image

from dreamforge.contracts.models.descriptor import REFERENCES_MAX
from dreamforge.gpu_runner.protocol.render_task import InputImage, RenderTask
from dreamforge.gpu_runner.rendering.input_images import Pixels, decode_image
from dreamforge.gpu_runner.rendering.prepared_inputs import decoded
from dreamforge.gpu_runner.rendering.resizing import Size

#: Both sides of a reference, in pixels: what a token of these families covers. A rest would be cut off.
MULTIPLE_PX = 16


def references_of(task: RenderTask, size_px: Size) -> tuple[Pixels, ...]:
    """Each reference in its own shape, with about as many pixels as the render: what these models were trained on.

    Errors: RenderFailed(invalid_request) where a file is no image.
    """
    area_px = size_px[0] * size_px[1]
    return tuple(_of_area(task.inputs[sha256], area_px) for sha256 in task.request.references)


@lru_cache(REFERENCES_MAX)
def _of_area(source: InputImage, area_px: int) -> Pixels:
    read = decoded(source, decode_image)
    size_px = size_of_area(read.image.size, area_px)
    same = read.image.size == size_px
    return Pixels(read.image if same else read.image.resize(size_px, Image.Resampling.LANCZOS), read.notes)


def size_of_area(size_px: Size, area_px: int) -> Size:
    """The size of so many pixels in the same shape, to the nearest multiples.

    >>> size_of_area((4000, 2000), 1024 * 1024), size_of_area((10_000, 10), 64 * 64)
    ((1456, 720), (2032, 16))
    """
    scale = math.sqrt(area_px / (size_px[0] * size_px[1]))
    width, height = (max(1, round(side * scale / MULTIPLE_PX)) * MULTIPLE_PX for side in size_px)
    return width, height
