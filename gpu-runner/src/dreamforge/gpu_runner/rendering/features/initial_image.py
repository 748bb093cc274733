"""Image-to-image and inpainting: a render starts from an uploaded image, or fills a hole in one. Only in the child."""

from dataclasses import replace

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.checks import is_video
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.images import pasted
from dreamforge.gpu_runner.rendering.passes import Pass, PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.prepared_inputs import start_of
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

    def arguments(self, context: PassContext, pipeline: Pipeline) -> Keywords:
        """The images at the size of the first pass. Errors: RenderFailed(invalid_request) if a file is no image."""
        start = start_of(context.task, context.current.size_px) if context.is_first else None
        if start is None:
            return {}
        image: dict[str, object] = {"image": start.filled or start.image}
        if is_video(pipeline):  # its first frame
            return image
        image["strength"] = context.current.strength
        return image if start.mask is None else image | {"mask_image": start.mask}

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:  # noqa: ARG002
        """What the mask protects is put back after each pass: an autoencoder gives no pixel back as it was.

        Where only an area was rendered, it is put back once, into the whole image.
        """
        rendered = proceed()
        if context.task.request.masked_area is not None or rendered.pixels is None:
            return rendered
        start = start_of(context.task, context.current.image_px)
        if start is None or start.mask is None:
            return rendered
        return replace(rendered, pixels=pasted(rendered.pixels, start.image, start.mask))
