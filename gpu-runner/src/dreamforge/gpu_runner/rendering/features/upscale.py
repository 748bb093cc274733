"""A second pass: the finished image is enlarged and rendered over at its new size. Import this only in the child."""

from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderFeature
from dreamforge.gpu_runner.rendering.images import enlarge
from dreamforge.gpu_runner.rendering.passes import Pass, PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline


class UpscalePass(RenderFeature):
    """`upscale` of a request."""

    def plan(self, task: RenderTask, passes: tuple[Pass, ...]) -> tuple[Pass, ...]:
        """One more pass, if there is to be one."""
        if (upscale := task.request.upscale) is None:
            return passes
        return (*passes, Pass("image", task.request.second_pass(upscale), upscale.strength, name="upscale"))

    def arguments(self, context: PassContext, pipeline: Pipeline) -> Keywords:  # noqa: ARG002
        """What the pass before gave, at the size of this one."""
        if context.previous is None:
            return {}
        size = {"width_px": context.current.width_px, "height_px": context.current.height_px}
        return {"image": enlarge(context.previous, **size), "strength": context.current.strength}
