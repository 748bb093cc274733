"""Linear layers whose products are computed in eight bits, by torchao, an extra of the runner. Only in the child.

Weights are rounded once, when a model is loaded, activations in each run of a layer. A card multiplies such numbers
faster than 16-bit floats; the rounding itself costs time, which `compiled_blocks` joins with what is around it.
"""

import importlib
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.rendering.renderer import RenderFailed
from dreamforge.runtime.storage.quantised import how_to_install, is_installed, takes_eight_bits

QUANTISER = "torchao"
Way = Literal["int8", "float8"]
#: The oldest CUDA device that multiplies so: int8 by cuBLASLt since Ampere, float8 since Ada (torchao's own check).
CAPABILITIES: Mapping[Way, tuple[int, int]] = {"int8": (8, 0), "float8": (8, 9)}


def compute_in_eight_bits(denoiser: Any, way: Way, device: torch.device, *, stays: bool) -> None:
    """Round the weights of the linear layers in a denoiser's blocks; each on the device first, if all of it `stays`.

    Any: a class of each family. Errors: RenderFailed (model_missing where this runner cannot, invalid_request where
    the model cannot).
    """
    if why := eight_bit_refusals(device)[way]:
        raise RenderFailed(FailureReason.MODEL_MISSING, f"this runner cannot compute in {way}: {why}")
    layers = {layer for name, layer in denoiser.named_modules() if _takes(name, layer)}
    if not layers or any(is_quantised(layer) for layer in layers):
        why = "its weights are quantised already" if layers else "its denoiser has no such layers"
        raise RenderFailed(FailureReason.INVALID_REQUEST, f"the model cannot be computed in {way}: {why}")
    library: Any = importlib.import_module("torchao.quantization")  # Any: it has no types
    library.quantize_(
        denoiser,
        _configuration(library, way, device),
        filter_fn=lambda layer, _: layer in layers,
        device=device if stays else None,
    )


def eight_bit_settings(way: Way, device: torch.device) -> str:
    """What torchao does, as a recipe says it."""
    if way == "float8":
        return f"{QUANTISER}: float8_e4m3fn, a scale a tensor"
    return f"{QUANTISER}: int8, a scale a row{', of 7 bits' if _is_reduced(device) else ''}"


def eight_bit_refusals(device: torch.device) -> dict[str, str]:
    """Each way, with why this device cannot compute so; empty: it can."""
    if not is_installed(QUANTISER):
        return dict.fromkeys(CAPABILITIES, f"{QUANTISER} is not installed: {how_to_install(QUANTISER)}")
    if device.type != "cuda":
        return {"int8": "", "float8": "a GPU of compute capability 8.9 is needed, and this is none"}
    has = torch.cuda.get_device_capability(device)
    return {way: _too_old(needed, has) for way, needed in CAPABILITIES.items()}


def is_quantised(part: torch.nn.Module) -> bool:
    """Whether weights of a part are no plain floats, by whichever quantiser."""
    return any(not weight.is_floating_point() or is_eight_bit(weight) for weight in part.parameters())


def is_eight_bit(weight: torch.Tensor) -> bool:
    """Whether torchao has put its own kind of tensor in the place of a weight."""
    return is_traceable_wrapper_subclass(weight)


def held_bytes(tensor: torch.Tensor) -> int:
    """What a tensor takes, whatever it says of its own type."""
    if not is_eight_bit(tensor):
        return tensor.numel() * tensor.element_size()
    names, _ = tensor.__tensor_flatten__()  # type: ignore[attr-defined]  # of every such class
    return sum(held_bytes(getattr(tensor, name)) for name in names)


def _takes(name: str, layer: object) -> bool:
    return isinstance(layer, torch.nn.Linear) and takes_eight_bits(name, tuple(layer.weight.shape))


def _configuration(library: Any, way: Way, device: torch.device) -> Any:  # Any: as above
    # By itself torchao also changes settings of torch for the whole process, and so the bytes of every other model.
    if way == "float8":
        return library.Float8DynamicActivationFloat8WeightConfig(set_inductor_config=False)
    return library.Int8DynamicActivationInt8WeightConfig(set_inductor_config=False, reduce_range=_is_reduced(device))


def _is_reduced(device: torch.device) -> bool:
    """Processors without VNNI add products of int8 in 16 bits, which overflow: torchao leaves them one bit."""
    return bool(importlib.import_module("torchao.utils").should_reduce_range(device))


def _too_old(needed: tuple[int, int], has: tuple[int, int]) -> str:
    if has >= needed:
        return ""
    return f"compute capability {needed[0]}.{needed[1]} is needed, and this GPU has {has[0]}.{has[1]}"
