"""A guidance scale that changes from step to step. Import this only in the child."""

import math
from typing import Any

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.guidance_schedule import UNGUIDED
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderFeature, StepChange
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

#: Pipelines that ask themselves for the scale in each step (`self.guidance_scale`, diffusers 0.42.1), in every mode of
#: theirs but with a ControlNet. Others read it once, or give it to the network as a number that it was trained with.
ASK_EACH_STEP = frozenset(
    f"{family}{mode}Pipeline"
    for family in ("StableDiffusion", "StableDiffusionXL", "StableDiffusion3")
    for mode in ("", "Img2Img", "Inpaint")
)
#: The least scale with which these pipelines go on evaluating both prompts, which they have encoded together before the
#: first step. It is above 1 by less than a float32 holds, so tensors are multiplied by exactly 1.
LEAST = math.nextafter(UNGUIDED, math.inf)


class ScheduledGuidance(RenderFeature):
    """`guidance_schedule` of a request, in each pass over the steps of that pass, from that pass' guidance scale."""

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Errors: RenderFailed(invalid_request) where the scale cannot change within a run."""
        if task.request.guidance_schedule is not None and (why := _fixed(pipeline, task)):
            message = f"guidance cannot change from step to step: {why}"
            raise RenderFailed(FailureReason.INVALID_REQUEST, message)

    def arguments(self, context: PassContext, pipeline: Pipeline) -> Keywords:  # noqa: ARG002
        """The scale of the first step, in place of the request's."""
        if context.request.guidance_schedule is None:
            return {}
        return {"guidance_scale": _scale(context, 0, context.current.steps_made)}

    def before_step(self, context: PassContext, pipeline: Any) -> StepChange | None:  # Any: the scale is in no type
        """The scales of the others."""
        if context.request.guidance_schedule is None:
            return None

        def change(step: int, steps: int) -> None:
            pipeline._guidance_scale = _scale(context, step, steps)

        return change


def _scale(context: PassContext, step: int, steps: int) -> float:
    schedule, usual = context.request.guidance_schedule, context.request.guidance_scale
    return max(LEAST, usual if schedule is None else schedule.scale_at(step, steps, usual))


def _fixed(pipeline: Pipeline, task: RenderTask) -> str | None:
    """Why the scale is the same in all steps; None: it need not be."""
    name = type(pipeline).__name__
    if name not in ASK_EACH_STEP:
        return f"{name} reads its scale once, before the first step"
    if task.request.control:
        return "with a ControlNet the scale is read once, before the first step"
    network: Any = pipeline.components.get("unet")  # Any: its configuration is in no type
    if network is not None and network.config.get("time_cond_proj_dim") is not None:
        return "this network was trained with the scale as a number that it reads"
    return None
