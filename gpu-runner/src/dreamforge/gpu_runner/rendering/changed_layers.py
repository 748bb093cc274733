"""Changes of weights laid over a pipeline's layers, and lifted again. Import this only in the child."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import Module

from dreamforge.gpu_runner.rendering.eight_bit_layers import is_quantised
from dreamforge.gpu_runner.rendering.layer_names import layers_by_name
from dreamforge.gpu_runner.rendering.load_report import shown
from dreamforge.gpu_runner.rendering.tensor_origins import Tensors
from dreamforge.gpu_runner.rendering.weight_changes import LayerChange, change_of_weight, gains_of, shape_of
from dreamforge.runtime.storage.lycoris_layout import by_layer, incomplete_layer


@dataclass(slots=True)
class ChangedLayers:
    """What lies over the layers of one pipeline: hooks, and no weight of the pipeline is touched."""

    _hooks: list[Any] = field(default_factory=list)  # Any: torch's handles
    _changes: dict[Module, list[LayerChange]] = field(default_factory=dict)

    def add(self, pipeline: Any, tensors: Tensors, weight_of: Callable[[str], float]) -> None:
        """The changes of one file, each part of the pipeline with its weight. Any: parts differ by family.

        Each is relative to the weights of the model, so their order does not matter.
        Errors: ValueError with the names that have no layer, or a layer of another shape.
        """
        layers, unread = by_layer(tensors)
        known = layers_by_name(pipeline)
        if without := sorted([*unread, *(f"{name}.{end}" for name in layers.keys() - known for end in layers[name])]):
            raise ValueError(f"there is no layer for {len(without)} of its keys: {shown(tuple(without))}")
        if (single := incomplete_layer(tensors)) is not None:
            raise ValueError(f"the change of {single} lacks tensors")
        for name, parts in layers.items():
            part, layer = known[name]
            change = _change(name, layer, parts, weight_of(part))
            if change.weight:
                self._lay(layer, change)

    def _lay(self, layer: Module, change: LayerChange) -> None:
        if layer in self._changes:
            self._changes[layer].append(change)
            return
        self._changes[layer] = changes = [change]

        def hook(layer: Module, given: tuple[torch.Tensor, ...], plain: torch.Tensor) -> torch.Tensor:
            answer = plain
            for each in changes:
                answer = answer + each.addition(layer, given[0], plain)
            return answer

        self._hooks.append(layer.register_forward_hook(hook))

    def lift(self) -> None:
        """Take all away; the pipeline is as it was."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._changes.clear()


def _change(name: str, layer: Any, parts: Tensors, weight: float) -> LayerChange:  # Any: see `shape_of`
    factors = {end: each for end, each in parts.items() if end != "dora_scale"}
    try:
        change = change_of_weight(factors, shape_of(layer))
        if "dora_scale" not in parts:
            return LayerChange(factors, weight)
        own = _plain_weight(layer)
        gains = gains_of(parts["dora_scale"].to(own.device), own, change.to(own.device))
    except RuntimeError as error:
        raise ValueError(f"{name} does not fit its layer of shape {shape_of(layer)}: {error}") from error
    bias = None if layer.bias is None else layer.bias.detach().clone()
    return LayerChange(factors, weight, gains, bias)


def _plain_weight(layer: Any) -> torch.Tensor:  # Any: as above
    """The weight itself, whose length DoRA is relative to. Errors: RuntimeError where only parts or codes are there."""
    weight: torch.Tensor = layer.weight.detach()
    if weight.is_meta or tuple(weight.shape) != shape_of(layer) or is_quantised(layer):
        raise RuntimeError("DoRA needs plain weights, and this model is held quantised or layer by layer")
    return weight
