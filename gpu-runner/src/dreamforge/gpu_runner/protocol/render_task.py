"""What the child is asked to render: a resolved request, and where on this machine that lies which it names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from dreamforge.contracts.models.descriptor import Sha256, Tier, Token, Value
from dreamforge.contracts.request.completion import IMAGE_STRENGTH, INPAINT_STRENGTH
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.protocol.memory_rungs import Held, Rung


class InputImage(Value):
    """An uploaded image on this runner's disk, checked against its hash before it got there."""

    path: str
    sha256: Sha256


class ModelFiles(Value):
    """The folder of a model, a LoRA or a ControlNet on this runner, and the digest of its content."""

    path: str
    digest: Sha256


class RenderTask(Value):
    """One attempt of one job, as the child sees it: the images that are not stored yet."""

    task_id: str = Field(min_length=1, max_length=200)
    request: RenderRequest
    #: The files of `request.model_id`.
    model: ModelFiles
    #: The files of `request.assets`, by model id.
    assets: Mapping[Token, ModelFiles] = Field(default_factory=dict)
    #: The files of `request.uploads`, by hash.
    inputs: Mapping[Sha256, InputImage] = Field(default_factory=dict)
    #: How the model is held in memory; None: whole, in the runner's own precision.
    tier: Tier | None = None
    #: What this runner has learnt that the model has to be held with beside its tier, to render this shape.
    rungs: tuple[Rung, ...] = ()
    #: Least time between two previews of an image; None: no previews.
    preview_seconds: float | None = Field(default=None, gt=0)
    #: How many images may be rendered in one run, by the memory there is; 1: each alone.
    together_max: int = Field(default=1, ge=1)
    #: The least seconds an image and step that this runner has seen, by the size of the run; empty: nothing is known.
    batch_seconds: Mapping[int, float] = Field(default_factory=dict)
    #: Which images of the request to render, by index; None: all of them.
    images: tuple[int, ...] | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        """One seed an image of the request, whether it is to be rendered or not."""
        return self.request.seeds()

    @property
    def to_render(self) -> tuple[int, ...]:
        """Indexes of the images to render, in order."""
        return tuple(range(self.request.images)) if self.images is None else self.images

    @property
    def held(self) -> Held:
        """How its model is held in memory."""
        tier, quantised = self.tier, self.request.quantised_to
        held = Held(offload=tier.offload, vae_tiling=tier.vae_tiling) if tier else Held()
        return held.model_copy(update={"quantised": quantised}).after(self.rungs)

    @property
    def strength(self) -> float | None:
        """How much of the initial image is rendered again; None without one, and of a video, which begins with it.

        A request that was resolved before requests carried it has None and an image: it gets today's default.
        """
        request = self.request
        if request.init_image is None or request.strength is not None or request.frames is not None:
            return request.strength if request.init_image else None
        return IMAGE_STRENGTH if request.mask_image is None else INPAINT_STRENGTH

    @property
    def passes(self) -> tuple[RenderRequest, ...]:
        """The request as it holds for each pass of an image."""
        upscale = self.request.upscale
        return (self.request,) if upscale is None else (self.request, self.request.second_pass(upscale))

    @property
    def output_px(self) -> tuple[int, int]:
        """Width and height of the finished image."""
        last = self.request.masked_area or self.request.upscale or self.request
        return last.width_px, last.height_px


@dataclass(frozen=True, slots=True)
class TaskImage:
    """One image of a task, by its index in the request."""

    task: RenderTask
    index: int

    @property
    def seed(self) -> int:
        """What its noise is made from, whatever is rendered with it."""
        return self.task.seeds[self.index]


def first_of_each(images: Sequence[TaskImage]) -> dict[int, int]:
    """Of each task in a batch: the place of its first image, and how many it has."""
    places: dict[str, list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(image.task.task_id, []).append(place)
    return {of_task[0]: len(of_task) for of_task in places.values()}
