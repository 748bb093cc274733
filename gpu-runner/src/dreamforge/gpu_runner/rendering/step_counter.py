"""Steps as they are reported: counted over every pass of an image. Import this only in the child."""

from dataclasses import dataclass
from typing import Any

from dreamforge.gpu_runner.rendering.hooks import StepWatcher
from dreamforge.gpu_runner.rendering.renderer import OnStep


@dataclass(slots=True)
class StepCounter:
    """diffusers' callback (step from 0, of one pass) as ours (step from 1, of all).

    What `on_step` raises unwinds the pipeline, which stays usable; its own `_interrupt` flag would still
    decode and return an image.
    """

    on_step: OnStep
    #: Steps asked for in the pass that runs, for a pipeline that does not say how many it makes.
    steps: int
    #: Steps of passes still to come, as far as they can be foreseen.
    later: int = 0
    watcher: StepWatcher | None = None
    _before: int = 0
    _made: int = 0

    # Any: the callback's first argument is whichever pipeline runs, its last a dict of tensors.
    def callback(self, pipeline: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """What a pipeline calls after each step."""
        # A sampler of second order makes more steps than were asked for; a weak strength makes fewer.
        in_pass = int(getattr(pipeline, "num_timesteps", 0) or self.steps)
        self._made = self._before + step + 1
        preview = self.watcher(pipeline, tensors["latents"]) if self.watcher and step + 1 < in_pass else None
        self.on_step(self._made, max(self._made, self._before + in_pass) + self.later, preview)
        return tensors

    def next_pass(self, steps: int, *, foreseen: int) -> None:
        """Another pass of so many steps begins, of which as many as were foreseen are made."""
        self.steps, self._before, self.later = steps, self._made, self.later - foreseen
