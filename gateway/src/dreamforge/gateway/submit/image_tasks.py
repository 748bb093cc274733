"""What is asked of the processes that decode images, and how it is written: `image_process` asks, `image_worker` does.

Apart from both, so that a gateway does not import Pillow.
"""

import struct
from dataclasses import dataclass

HEAD = struct.Struct(">BI")
"""Of a task: what to do, and the length of what it is done with, which follows."""
INSPECT, MASK, CHANGE_MASK = 0, 1, 2
READ = 16
CHANGE = struct.Struct(">??ddH")
"""A `MaskChange`, before the image."""


@dataclass(frozen=True, slots=True)
class MaskChange:
    """What is made of a mask before a job gets it: rounded to black and white, inverted, grown, blurred, in this order.

    `blur_x_px`, `blur_y_px`: standard deviations of the blur, in pixels of the mask; `grown_px`: as of `grown`.
    """

    rounded: bool = False
    inverted: bool = False
    blur_x_px: float = 0.0
    blur_y_px: float = 0.0
    grown_px: int = 0
