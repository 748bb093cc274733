"""What a job asks for: the request with every default resolved, and how long its owner waits."""

import math
from typing import Literal

from pydantic import Field

from dreamforge.contracts.models.descriptor import Mode, Value
from dreamforge.contracts.request.parameters import RequestParameters
from dreamforge.contracts.request.values import OF_BOTH_PASSES, Upscale

SEEDS = 2**53
# A year: a longer wait is no deadline, and a far longer one overflows dates.
DEADLINE_SECONDS_MAX = 366 * 86_400


class RenderRequest(RequestParameters):
    """What to render, with every default resolved at submission: the log never depends on later defaults.

    Uploaded images are named by the SHA-256 of their bytes.
    """

    @property
    def mode(self) -> Mode:
        """What it starts from."""
        if self.init_image is None:
            return "text"
        return "image" if self.mask_image is None else "inpaint"

    @property
    def assets(self) -> tuple[str, ...]:
        """Ids of what it needs beside its model, each once: LoRAs, ControlNets, VAE, upscaler and so on."""
        vae = (self.vae,) if self.vae is not None else ()
        upscaler = (self.upscale.model_id,) if self.upscale is not None and self.upscale.model_id else ()
        nets = (*(lora.model_id for lora in self.loras), *(use.model_id for use in self.control))
        beside = (*(use.model_id for use in self.embeddings), *(use.model_id for use in self.image_prompts))
        return tuple(dict.fromkeys((*nets, *vae, *upscaler, *beside)))

    @property
    def quantised_to(self) -> Literal["int8", "float8"] | None:
        """What the products of its denoiser are computed in; None: in the model's precision."""
        return None if self.quantisation == "none" else self.quantisation

    @property
    def uploads(self) -> tuple[str, ...]:
        """Hashes of the uploads it needs, each once."""
        used = (*(use.image for use in self.control), *(use.image for use in self.image_prompts))
        named = (self.init_image, self.mask_image, *used, *self.references)
        return tuple(dict.fromkeys(sha256 for sha256 in named if sha256 is not None))

    @property
    def pixel_steps(self) -> int:
        """What it costs: pixels times steps of each pass, times images and frames. An integer, so that sums are exact.

        A geometry is rendered with copies at its other places, and they cost as much.
        """
        rendered = self.images * (self.geometry.size if self.geometry else 1) * (self.frames or 1)
        first = self.steps * self.width_px * self.height_px
        if self.upscale is None:
            return rendered * first
        return rendered * (first + self.second_pass(self.upscale).steps * self.upscale.rendered_px)

    @property
    def largest_px(self) -> tuple[int, int]:
        """Width and height of the largest that is rendered at once."""
        own = self.width_px, self.height_px
        return own if self.upscale is None else max(self.upscale.run_px, own, key=math.prod)

    @property
    def steps_at_full_size(self) -> float:
        """Steps that one image takes, counted at the size of its largest pass: what the time of a render grows with."""
        first = self.steps * self._strength
        if self.upscale is None:
            return first
        full_px, second = math.prod(self.largest_px), self.second_pass(self.upscale)
        share, second_share = self.width_px * self.height_px / full_px, self.upscale.rendered_px / full_px
        return first * share + second.steps * self.upscale.strength * second_share

    @property
    def _strength(self) -> float:
        """The share of the steps that its first pass makes."""
        return 1.0 if self.init_image is None or self.strength is None else self.strength

    def second_pass(self, upscale: Upscale) -> "RenderRequest":
        """The request as it holds for its second pass."""
        own = {name: value for name in OF_BOTH_PASSES if (value := getattr(upscale, name)) is not None}
        size = {"width_px": upscale.width_px, "height_px": upscale.height_px}
        return self.model_copy(update={**own, **size, "upscale": None})

    def second_seed(self, seed: int) -> int | None:
        """The seed of the second pass of the image with this seed; None: that one too."""
        own = self.upscale.seed if self.upscale is not None else None
        return None if own is None else (own + seed - self.seed) % SEEDS

    def seeds(self) -> tuple[int, ...]:
        """One seed an image: image i of a job is the job of one image with seed + i."""
        return tuple((self.seed + i) % SEEDS for i in range(self.images))


class Deadlines(Value):
    """How long its owner wants to wait, counted by the scheduler; None means forever."""

    start_within_seconds: float | None = Field(
        default=None, gt=0, le=DEADLINE_SECONDS_MAX, description="from the request to the first step"
    )
    run_within_seconds: float | None = Field(
        default=None, gt=0, le=DEADLINE_SECONDS_MAX, description="of one attempt, from its start"
    )
