"""Image-to-image and inpainting: a render starts from an uploaded image, or fills a hole in one. Only in the child."""

from dataclasses import replace

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderFeature
from dreamforge.gpu_runner.rendering.images import read_image, read_mask
from dreamforge.gpu_runner.rendering.passes import Pass, PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderFailed


class InitialImage(RenderFeature):
    """`init_image`, `mask_image` and `strength` of a request."""

    def plan(self, task: RenderTask, passes: tuple[Pass, ...]) -> tuple[Pass, ...]:
        """The first pass runs in the request's mode, and makes a share of its steps."""
        first, *later = passes
        return (replace(first, mode=task.request.mode, strength=task.strength), *later)

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:  # noqa: ARG002
        """Errors: RenderFailed(invalid_request)."""
        if task.request.mask_image is not None and task.request.init_image is None:
            raise RenderFailed(FailureReason.INVALID_REQUEST, "a mask needs the image that it lies on")

    def arguments(self, context: PassContext, pipeline: Pipeline) -> Keywords:  # noqa: ARG002
        """The images at the size of the first pass. Errors: RenderFailed(invalid_request) if a file is no image."""
        request, inputs = context.task.request, context.task.inputs
        if not context.is_first or request.init_image is None:
            return {}
        size = {"width_px": context.current.width_px, "height_px": context.current.height_px}
        image = {"image": read_image(inputs[request.init_image], **size), "strength": context.current.strength}
        if request.mask_image is None:
            return image
        return image | {"mask_image": read_mask(inputs[request.mask_image], **size)}
