"""Only the masked area is rendered: what came of it is put back into the whole image. Import this only in the child.

That a pass sees nothing but the area is the work of `prepared_inputs`, which every feature takes its images from.
"""

from dataclasses import replace

from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature
from dreamforge.gpu_runner.rendering.images import put_back
from dreamforge.gpu_runner.rendering.prepared_inputs import area_of


class AreaPutBack(RenderFeature):
    """`masked_area` of a request."""

    def finish(self, task: RenderTask, rendered: RenderedPixels) -> RenderedPixels:
        """The whole image, in which only what the mask marks has changed. Errors: RenderFailed(invalid_request)."""
        area = area_of(task)
        if area is None or rendered.pixels is None:
            return rendered
        return replace(rendered, pixels=put_back(rendered.pixels, area.image, area.mask, area.box))
