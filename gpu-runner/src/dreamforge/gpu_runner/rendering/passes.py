"""One run of a pipeline: from noise, from an image, or into a hole in one. Import this only in the child.

An image takes one pass, and one more where it is upscaled, or one for each tile.
"""

from dataclasses import dataclass

import torch
from PIL.Image import Image

from dreamforge.contracts.models.descriptor import Mode
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.tiles import Box
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of an image that a pass renders, and what it is a part of."""

    #: Of the tiles of the image, from 0: its noise is another one than that of the others.
    number: int
    box: Box
    image_px: tuple[int, int]
    overlap_px: int


@dataclass(frozen=True, slots=True)
class Pass:
    """What one run starts from; `strength` is the share of the steps that is really made, None: all."""

    mode: Mode
    #: The request as it holds for this pass.
    request: RenderRequest
    strength: float | None = None
    #: What error messages call it; empty: the first.
    name: str = ""
    #: Where it renders a part of an image only.
    tile: Tile | None = None

    @property
    def width_px(self) -> int:
        """Of what it renders."""
        return self.request.width_px

    @property
    def height_px(self) -> int:
        """Of what it renders."""
        return self.request.height_px

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.width_px, self.height_px

    @property
    def image_px(self) -> tuple[int, int]:
        """Width and height of the image that comes of it."""
        return self.size_px if self.tile is None else self.tile.image_px

    @property
    def steps_made(self) -> int:
        """How many of its steps it makes."""
        return steps_made(self.request.steps, self.strength)

    def labelled(self, value: str) -> str:
        """A value of this pass in an error message: `upscale width`, `width`."""
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
    #: The same as latents, scaled as the denoiser has them; shapes are those of its pipeline.
    latents: torch.Tensor | None = None

    @property
    def request(self) -> RenderRequest:
        """The request as it holds for this pass."""
        return self.current.request

    @property
    def is_first(self) -> bool:
        """Whether this pass starts from what the request says, not from an image of our own."""
        return self.previous is None


def first_pass(task: RenderTask) -> Pass:
    """From noise, at the request's own size: what it is before a feature changes it."""
    return Pass("text", task.request)


def steps_made(steps: int, strength: float | None) -> int:
    """How many of `steps` a pass makes; some families round the last one up.

    >>> steps_made(20, 0.6), steps_made(20, None), steps_made(4, 0.2)
    (12, 20, 0)
    """
    return steps if strength is None else min(int(steps * strength), steps)
