"""What each optimisation does to a pipeline in memory, and how it is undone. Import this only in the child.

Undone, every weight and every layout is as it was: what a request does not name leaves no trace in its image.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry

from dreamforge.contracts.models.optimisations import OptimisationName
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.compiled_blocks import BlockCompiler, repeated_blocks
from dreamforge.gpu_runner.rendering.eight_bit_layers import is_quantised
from dreamforge.gpu_runner.rendering.pipeline import Pipeline

#: Parts that denoise, in the names of diffusers' pipelines, and the one that decodes.
DENOISERS = ("transformer", "transformer_2", "unet")
#: diffusers' names of torch's own kernels; those of other packages are not offered.
BACKENDS: Mapping[OptimisationName, str] = {
    "attention_cudnn": "_native_cudnn",
    "attention_efficient": "_native_efficient",
    "attention_flash": "_native_flash",
}
#: How torch says that a kernel cannot compute this attention, on this device or of these sizes.
NO_KERNEL = ("No available kernel", "No viable backend")
#: Why weights stay as they are.
APART = "its weights are held layer by layer, for want of memory"
FUSED = ("to_qkv", "to_kv", "to_added_qkv")


@dataclass(frozen=True, slots=True)
class Optimisation:
    """One of them. `refusal`: why a pipeline or a task cannot have it, else empty."""

    refusal: Callable[[Pipeline, RenderTask], str]
    apply: Callable[[Pipeline], None]
    undo: Callable[[Pipeline], None]


def denoisers_of(pipeline: Pipeline) -> list[Any]:  # Any: diffusers' models have no common type with their methods
    """The networks that take the time."""
    return [part for name in DENOISERS if (part := pipeline.components.get(name)) is not None]


def _holds_layers_apart(task: RenderTask) -> bool:
    """Whether weights come to the device layer by layer, or widened: they must stay as they are held."""
    return task.held.offload in ("group", "sequential") or task.held.float8_storage


def _no_convolutions(pipeline: Pipeline, task: RenderTask) -> str:
    if _holds_layers_apart(task):
        return APART
    return "" if any(_convolutions(pipeline)) else "the model has no two-dimensional convolutions"


def _convolutions(pipeline: Pipeline) -> Iterator[torch.nn.Conv2d]:
    for part in (*denoisers_of(pipeline), pipeline.components.get("vae")):
        if isinstance(part, torch.nn.Module):
            yield from (module for module in part.modules() if isinstance(module, torch.nn.Conv2d))


def _in_layout(layout: torch.memory_format, pipeline: Pipeline) -> None:
    for convolution in _convolutions(pipeline):
        convolution.weight.data = convolution.weight.data.to(memory_format=layout)


def _not_fusible(pipeline: Pipeline, task: RenderTask) -> str:
    if _holds_layers_apart(task):
        return APART
    if task.request.loras or task.request.image_prompts:
        return "LoRAs and image prompts change the projections one by one"
    parts = denoisers_of(pipeline)
    added = any(
        "Added" in type(each).__name__ for part in parts for each in getattr(part, "attn_processors", {}).values()
    )
    if not parts or added or not all(hasattr(part, "fuse_qkv_projections") for part in parts):
        return "its denoiser cannot"
    return "its weights are quantised" if any(is_quantised(part) for part in parts) else ""


def _fuse(pipeline: Pipeline) -> None:
    for part in denoisers_of(pipeline):
        part.fuse_qkv_projections()


def _unfuse(pipeline: Pipeline) -> None:
    for part in denoisers_of(pipeline):
        part.unfuse_qkv_projections()
        for module in part.modules():
            for name in FUSED:
                if name in module._modules:
                    delattr(module, name)
            if "fused_projections" in vars(module):
                module.fused_projections = False


def _one_attention(pipeline: Pipeline, task: RenderTask) -> str:  # noqa: ARG001 - of every task
    return "" if any(_processors(pipeline)) else "its denoiser computes attention in one way only"


def _processors(pipeline: Pipeline) -> Iterator[Any]:  # Any: diffusers' processors have no common type
    for part in denoisers_of(pipeline):
        for processor in getattr(part, "attn_processors", {}).values():
            if hasattr(processor, "_attention_backend"):
                yield processor


def _with_backend(backend: str, pipeline: Pipeline) -> None:
    """Errors: ValueError, ImportError or RuntimeError of diffusers where this machine does not have it."""
    registry: Any = _AttentionBackendRegistry  # Any: it has no types
    others = registry.get_active_backend()[0]
    try:
        for part in denoisers_of(pipeline):
            part.set_attention_backend(backend)
    finally:  # diffusers makes it the one of every model
        registry.set_active_backend(others)


def _without_backend(pipeline: Pipeline) -> None:
    for processor in _processors(pipeline):
        processor._attention_backend = None


def _not_compilable(pipeline: Pipeline, task: RenderTask) -> str:
    if _holds_layers_apart(task):
        return APART
    if task.held.offload != "none":
        return "parts of the model wait in the host's memory"
    if task.request.image_prompts:
        return "image prompts change the blocks"
    if task.request.upscale is not None:
        return "a second pass has blocks of other shapes"
    parts = denoisers_of(pipeline)
    if not parts or not all(repeated_blocks(part) for part in parts):
        return "its denoiser has no blocks that repeat"
    return "its weights are quantised" if any(_holds_integers(part) for part in parts) else ""


def compiling(compiler: BlockCompiler) -> Optimisation:
    """The one that has a thread of its own."""
    return Optimisation(
        _not_compilable, lambda pipeline: compiler.put_on(pipeline, denoisers_of(pipeline)), compiler.take_off
    )


def _holds_integers(part: torch.nn.Module) -> bool:
    """As most quantisers hold weights; what torchao has put in the place of a weight can be compiled."""
    return any(not weight.is_floating_point() for weight in part.parameters())


#: All but "compiled_blocks".
KNOWN: Mapping[str, Optimisation] = {
    # The layout that convolutions of tensor cores and of oneDNN read.
    "channels_last": Optimisation(
        _no_convolutions,
        partial(_in_layout, torch.channels_last),
        partial(_in_layout, torch.contiguous_format),
    ),
    # Query, key and value in one product.
    "fused_projections": Optimisation(_not_fusible, _fuse, _unfuse),
    **{
        name: Optimisation(_one_attention, partial(_with_backend, backend), _without_backend)
        for name, backend in BACKENDS.items()
    },
}
