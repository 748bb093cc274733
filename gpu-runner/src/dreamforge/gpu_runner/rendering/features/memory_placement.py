"""Where a model's parts wait: on the device, or in the host's memory until they are needed. Only in the child.

diffusers moves the parts by hooks on its modules, and these belong to one pipeline at a time.
"""

from typing import Any

import torch

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.readable_sizes import readable_size
from dreamforge.gpu_runner.protocol.memory_rungs import Rung
from dreamforge.gpu_runner.rendering.eight_bit_layers import compute_in_eight_bits
from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.optimisations import denoisers_of
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.quantiser import quantise, quantiser_refusal
from dreamforge.gpu_runner.rendering.renderer import ModelPlacement, RenderFailed
from dreamforge.gpu_runner.rendering.torch_device import TorchDevice


class MemoryPlacement(RenderFeature):
    """Places models as tiers say, and keeps the hooks right while several pipelines share one model's parts."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def place(self, pipeline: Pipeline, placement: ModelPlacement) -> None:
        """Move a pipeline to the device, or have its parts wait in the host's memory."""
        whole: Any = pipeline  # Any: what only some pipelines can do is in no type
        vae = whole.components.get("vae")
        if placement.quantised is not None:
            self._quantise(pipeline, placement)
        elif placement.float8_storage:  # before it is moved: the wide weights may not fit
            denoiser = denoiser_of(pipeline)
            denoiser.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=denoiser.dtype)
        if placement.vae_tiling and hasattr(vae, "enable_tiling"):
            vae.enable_tiling()
        if placement.offload == "model":
            whole.enable_model_cpu_offload(device=self._device)
        elif placement.offload == "group":
            whole.enable_group_offload(
                onload_device=self._device, offload_type="leaf_level", use_stream=self._device.type == "cuda"
            )
        elif placement.offload == "sequential":
            whole.enable_sequential_cpu_offload(device=self._device)
        else:
            pipeline.to(self._device)

    def _quantise(self, pipeline: Pipeline, placement: ModelPlacement) -> None:
        way = placement.quantised
        if way == "uint4":
            quantise(denoiser_of(pipeline), way)
        elif placement.offload == "sequential":
            why = f"layers that come to the device one by one are not computed in {way}"
            raise RenderFailed(FailureReason.OUT_OF_MEMORY, why)
        elif way is not None:
            for denoiser in denoisers_of(pipeline):
                compute_in_eight_bits(denoiser, way, self._device, stays=placement.offload == "none")

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


def denoiser_of(pipeline: Pipeline) -> Any:  # Any: a class of each family
    """The network that takes most of the memory; None in a pipeline without one."""
    return pipeline.components.get("transformer") or pipeline.components.get("unet")


def rung_refusals(pipeline: Pipeline, placement: ModelPlacement) -> dict[Rung, str]:
    """What `place` cannot do to this pipeline, which is held so, on any device, and why."""
    refused: dict[Rung, str] = {}
    if not hasattr(pipeline.components.get("vae"), "enable_tiling"):
        refused[Rung.TILED_DECODE] = "its autoencoder decodes no tiles"
    if not hasattr(denoiser_of(pipeline), "enable_layerwise_casting"):
        refused[Rung.FLOAT8_STORAGE] = "its denoiser takes no other storage"
    if placement.quantised is None and (why := quantiser_refusal(denoiser_of(pipeline))) is not None:
        refused[Rung.QUANTISED_WEIGHTS] = why
    return refused


def offload_refusals(device: TorchDevice, model_bytes: int, host_free_bytes: int) -> dict[Rung, str]:
    """Why a model of so many bytes cannot wait in the host's memory; empty: it can."""
    if not device.own_memory:
        why = "the model is in the host's memory anyway"
    elif model_bytes > host_free_bytes:
        needed, free = readable_size(model_bytes), readable_size(host_free_bytes)
        why = f"the host's memory is full: {needed} are needed, {free} are free"
    else:
        return {}
    return dict.fromkeys((Rung.OFFLOAD_MODEL, Rung.OFFLOAD_GROUP), why)


def _tidied(base: Pipeline, proceed: RunPass) -> RenderedPixels:
    try:
        return proceed()
    except BaseException:
        # A render that was cut short leaves parts on the device that should wait in the host's memory.
        base.maybe_free_model_hooks()
        raise
