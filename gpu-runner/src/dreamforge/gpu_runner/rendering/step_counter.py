"""Steps as they are reported: counted over every pass of an image. Import this only in the child."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from dreamforge.gpu_runner.rendering.hooks import StepChange, StepWatcher
from dreamforge.gpu_runner.rendering.renderer import OnRunStep


@dataclass(slots=True)
class StepCounter:
    """diffusers' callback (step from 0, of one pass) as ours (step from 1, of all).

    What `on_step` raises unwinds the pipeline, which stays usable; its own `_interrupt` flag would still
    decode and return an image.
    """

    on_step: OnRunStep
    #: Steps asked for in the pass that runs, for a pipeline that does not say how many it makes.
    steps: int
    #: Steps of passes still to come, as far as they can be foreseen.
    later: int = 0
    #: What looks at the latents of an image, by its place in the run.
    watchers: Mapping[int, StepWatcher] = field(default_factory=dict)
    #: What changes the pipeline that runs, before each of its steps but the first.
    changes: Sequence[StepChange] = ()
    #: Those of the last step.
    latents: torch.Tensor | None = None
    _before: int = 0
    _made: int = 0

    # Any: the callback's first argument is whichever pipeline runs, its last a dict of tensors.
    def callback(self, pipeline: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """What a pipeline calls after each step."""
        # A sampler of second order makes more steps than were asked for; a weak strength makes fewer.
        in_pass = int(getattr(pipeline, "num_timesteps", 0) or self.steps)
        self._made, self.latents = self._before + step + 1, tensors["latents"]
        is_last = step + 1 >= in_pass
        for change in () if is_last else self.changes:
            change(step + 1, in_pass)
        previews = {} if is_last else self._previews(pipeline, tensors["latents"])
        self.on_step(self._made, max(self._made, self._before + in_pass) + self.later, previews)
        return tensors

    def _previews(self, pipeline: Any, latents: Any) -> dict[int, str]:  # Any: as above; a tensor, one row an image
        looks = {place: watch(pipeline, latents[place : place + 1]) for place, watch in self.watchers.items()}
        return {place: preview for place, preview in looks.items() if preview is not None}

    def latents_of(self, place: int) -> torch.Tensor | None:
        """Those of the image at a place of the run."""
        return None if self.latents is None else self.latents[place : place + 1]

    def next_pass(self, steps: int, *, foreseen: int) -> None:
        """Another pass of so many steps begins, of which as many as were foreseen are made."""
        self.steps, self._before, self.later = steps, self._made, self.later - foreseen
