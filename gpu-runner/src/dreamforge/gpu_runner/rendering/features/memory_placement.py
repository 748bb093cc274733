"""Where a model's parts wait: on the device, or in the host's memory until they are needed. Only in the child.

diffusers moves the parts by hooks on its modules, and these belong to one pipeline at a time.
"""

from typing import Any

import torch

from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import ModelPlacement


class MemoryPlacement(RenderFeature):
    """Places models as tiers say, and keeps the hooks right while several pipelines share one model's parts."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def place(self, pipeline: Pipeline, placement: ModelPlacement) -> None:
        """Move a pipeline to the device, or have its parts wait in the host's memory."""
        whole: Any = pipeline  # Any: what only some pipelines can do is in no type
        vae = whole.components.get("vae")
        if placement.vae_tiling and hasattr(vae, "enable_tiling"):
            vae.enable_tiling()
        if placement.offload == "model":
            whole.enable_model_cpu_offload(device=self._device)
        elif placement.offload == "sequential":
            whole.enable_sequential_cpu_offload(device=self._device)
        else:
            pipeline.to(self._device)

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:
        """Have the hooks belong to the pipeline that runs, and to the one in memory afterwards."""
        base: Any = context.base  # Any: as above
        if pipeline is base:
            return _tidied(base, proceed)
        if not getattr(base, "_all_hooks", ()):
            return proceed()
        variant: Any = pipeline
        variant.enable_model_cpu_offload(device=base._offload_device)
        try:
            return proceed()
        finally:
            variant.remove_all_hooks()
            base.maybe_free_model_hooks()  # which hooks its parts again


def _tidied(base: Pipeline, proceed: RunPass) -> RenderedPixels:
    try:
        return proceed()
    except BaseException:
        # A render that was cut short leaves parts on the device that should wait in the host's memory.
        base.maybe_free_model_hooks()
        raise
