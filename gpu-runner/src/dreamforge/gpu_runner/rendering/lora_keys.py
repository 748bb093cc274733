"""Whether a LoRA is applied as a whole: diffusers passes over the keys that it knows no layer for, and only logs it.

Import this only in the child.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import diffusers
import torch

from dreamforge.gpu_runner.rendering.load_report import shown
from dreamforge.gpu_runner.rendering.tensor_origins import TensorOrigins, Tensors

#: Any: neither has types. The second renames keys from each of diffusers' own layouts.
LOADERS: Any = diffusers.loaders
UTILS: Any = diffusers.utils


@dataclass(frozen=True, slots=True)
class LoraKeys:
    """The keys of a LoRA's file, as diffusers renames them for a pipeline."""

    #: Key of the file, by the name of what it becomes: the pipeline's part, its layer, and the side of the LoRA.
    origins: Mapping[str, str]
    #: Keys of the file that become nothing.
    unread: tuple[str, ...]


def renamed(pipeline: Any, tensors: Tensors) -> LoraKeys:  # Any: what only some pipelines can do is in no type
    """What diffusers makes of the keys of a file. Errors: as diffusers chooses, for a format that it does not know."""
    # SDXL's blocks have other numbers in the original layout; only its pipelines translate them.
    extra = (
        {"unet_config": pipeline.unet.config} if isinstance(pipeline, LOADERS.StableDiffusionXLLoraLoaderMixin) else {}
    )
    answer = pipeline.lora_state_dict(dict(tensors), **extra)
    state: dict[str, torch.Tensor] = answer[0] if isinstance(answer, tuple) else answer
    places, weights = TensorOrigins(tensors), {name: each for name, each in state.items() if not _is_alpha(name)}
    origins = {peft: places.key_of(weights[name]) or name for peft, name in _as_peft(pipeline, weights).items()}
    return LoraKeys(origins, tuple(key for key in places.unused(weights.values()) if not _is_alpha(key)))


def _is_alpha(key: str) -> bool:
    """One number a layer, which is read as such and becomes no weight."""
    return key.endswith("alpha")


def problem_of(pipeline: Any, keys: LoraKeys, adapter: str) -> str | None:  # Any: see `renamed`
    """What of a LoRA that was laid over a pipeline is not applied; None: all of it is."""
    if keys.unread:
        return f"{len(keys.unread)} of its keys are not applied: {shown(keys.unread)}"
    applied = applied_keys(pipeline, adapter)
    if without_layer := sorted(origin for name, origin in keys.origins.items() if name not in applied):
        return f"there is no layer for {len(without_layer)} of its keys: {shown(without_layer)}"
    if made_up := sorted(applied - keys.origins.keys()):
        return f"it has no weights for {len(made_up)} of its layers: {shown(made_up)}"
    return None


def applied_keys(pipeline: Any, adapter: str) -> set[str]:  # Any: see `renamed`
    """The weights of an adapter on a pipeline, each after the name of its part."""
    modules = {name: each for name, each in pipeline.components.items() if isinstance(each, torch.nn.Module)}
    names = {
        f"{part}.{_plain(name, adapter)}"
        for part, module in modules.items()
        for name, _ in module.named_parameters()
        if f".{adapter}." in f"{name}."
    }
    # The norms that a control LoRA for FLUX brings replace those of the model.
    norms = (getattr(module, "_transformer_norm_layers", None) or () for module in modules.values())
    return names | {f"{part}.{name}" for part, layers in zip(modules, norms, strict=True) for name in layers}


def _plain(name: str, adapter: str) -> str:
    plain = f"{name}.".replace(f".{adapter}.", ".").removesuffix(".")
    return _without_weight(plain)


def _without_weight(name: str) -> str:
    # A vector of magnitudes is a module in some formats and a parameter in others.
    return name.removesuffix(".weight") if "magnitude_vector" in name else name


def _as_peft(pipeline: Any, names: Iterable[str]) -> dict[str, str]:  # Any: see `renamed`
    """Of keys in any of diffusers' layouts, how peft names the parameter that each becomes, to the key."""
    layers_of: dict[str, dict[str, Any]] = {}  # Any: diffusers types the values as tensors, and reads the names only
    for name in names:
        part, _, layer = name.partition(".")
        layers_of.setdefault(part, {})[layer] = name
    return {
        f"{part}.{_without_weight(layer)}": str(name)
        for part, layers in layers_of.items()
        for layer, name in _renamed_layers(pipeline.components.get(part), part, layers).items()
    }


def _renamed_layers(module: object, part: str, layers: dict[str, Any]) -> dict[str, Any]:  # Any: see `_as_peft`
    if not part.startswith("text_encoder"):
        converted: dict[str, Any] = UTILS.convert_unet_state_dict_to_peft(layers)
        return converted
    converted = UTILS.convert_state_dict_to_peft(UTILS.convert_state_dict_to_diffusers(layers))
    # Newer CLIP classes have lost a level of their names.
    return converted if hasattr(module, "text_model") else {_flat(layer): name for layer, name in converted.items()}


def _flat(layer: str) -> str:
    return layer.removeprefix("text_model.")
