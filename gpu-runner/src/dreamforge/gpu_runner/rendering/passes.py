"""One run of a pipeline: from noise, from an image, or into a hole in one. Import this only in the child.

An image takes one pass, and one more where it is upscaled.
"""

from dataclasses import dataclass

from PIL.Image import Image

from dreamforge.contracts.models.descriptor import Mode
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Pass:
    """What one run starts from; `strength` is the share of the steps that is really made, None: all."""

    mode: Mode
    width_px: int
    height_px: int
    strength: float | None = None
    #: What error messages call it; empty: the first.
    name: str = ""

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.width_px, self.height_px

    def labelled(self, value: str) -> str:
        """A value of this pass in an error message.

        >>> Pass("image", 8, 8, name="upscale").labelled("width"), Pass("text", 8, 8).labelled("width")
        ('upscale width', 'width')
        """
        return f"{self.name} {value}".strip()


@dataclass(frozen=True, slots=True)
class PassContext:
    """One pass of one image, as the features of a render see it."""

    #: The pipeline as it is in memory; the one that runs may be a variant of it in another mode.
    base: Pipeline
    task: RenderTask
    current: Pass
    #: What the pass before gave; None in the first one.
    previous: Image | None = None

    @property
    def is_first(self) -> bool:
        """Whether this pass starts from what the request says, not from an image of our own."""
        return self.previous is None


def first_pass(task: RenderTask) -> Pass:
    """From noise, at the request's own size: what it is before a feature changes it."""
    return Pass("text", task.request.width_px, task.request.height_px)


def steps_made(steps: int, strength: float | None) -> int:
    """How many of `steps` a pass makes; some families round the last one up.

    >>> steps_made(20, 0.6), steps_made(20, None), steps_made(4, 0.2)
    (12, 20, 0)
    """
    return steps if strength is None else min(int(steps * strength), steps)
