"""What LoHa, LoKr, DoRA and Tucker-decomposed LoCon change of a layer. Import this only in the child.

The weights of the model stay as they are: the change is computed beside the layer, in each run of it, and its output is
added to the layer's. So nothing has to be put back, and it works on weights that are quantised, stored as float8, or
wait in the host's memory. Factors stay as small as their file; a change as large as the weight lives for one layer.

Source of the formulas: LyCORIS 3, `modules/{locon,loha,lokr}.py` and `functional`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Conv2d, Linear
from torch.nn.functional import linear

Layer = Linear | Conv2d
Parts = Mapping[str, torch.Tensor]
#: Tensors with a row for each number of the rank; LoKr has none where both of its factors are whole.
INTO_RANK = ("lora_down.weight", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")


def shape_of(layer: Layer) -> tuple[int, ...]:
    """(out, in) or (out, in, height, width), whatever form a quantiser has given the weight itself."""
    if isinstance(layer, Linear):
        return (layer.out_features, layer.in_features)
    return (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)


def change_of_weight(parts: Parts, shape: Sequence[int]) -> torch.Tensor:
    """What the tensors of a layer add to its weight before DoRA's magnitudes, in float32.

    `parts`: the tensors by their ends, see `lycoris_layout`. Shapes: see `shape_of`.
    Errors: RuntimeError where the shapes of tensors do not go together, or with that of the weight.
    """
    wide = {end: each.float() for end, each in parts.items()}
    if "hada_w1_a" in wide:
        change = _hadamard(wide)
    else:
        change = _low_rank(wide) if "lora_up.weight" in wide else _kronecker(wide)
    rank = next((wide[end].shape[0] for end in INTO_RANK if end in wide), None)
    # Without a rank there is nothing that alpha is relative to: LyCORIS sets it to the rank then.
    scale = float(parts["alpha"]) / rank if "alpha" in parts and rank else 1.0
    return change.reshape(tuple(shape)) * scale


def _low_rank(parts: Parts) -> torch.Tensor:
    up, down = parts["lora_up.weight"].flatten(1), parts["lora_down.weight"]
    if "lora_mid.weight" in parts:
        return _tucker(parts["lora_mid.weight"], up.t(), down.flatten(1))
    return up @ down.flatten(1)


def _hadamard(parts: Parts) -> torch.Tensor:
    if "hada_t1" in parts:
        first, second = (
            _tucker(parts[f"hada_t{side}"], parts[f"hada_w{side}_a"], parts[f"hada_w{side}_b"]) for side in (1, 2)
        )
        return first * second
    return (parts["hada_w1_a"] @ parts["hada_w1_b"]) * (parts["hada_w2_a"] @ parts["hada_w2_b"])


def _kronecker(parts: Parts) -> torch.Tensor:
    first = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    if "lokr_t2" in parts:
        second = _tucker(parts["lokr_t2"], parts["lokr_w2_a"], parts["lokr_w2_b"])
    else:
        second = parts["lokr_w2"] if "lokr_w2" in parts else parts["lokr_w2_a"] @ parts["lokr_w2_b"]
    return torch.kron(first.reshape(*first.shape, *[1] * (second.dim() - 2)), second.contiguous())


def _tucker(core: torch.Tensor, outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """Shapes: (rank, rank, height, width), (rank, out) and (rank, in) give (out, in, height, width)."""
    return torch.einsum("ij...,ip,jr->pr...", core, outer, inner)


def gains_of(magnitudes: torch.Tensor, weight: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """DoRA: by how much each row (or column) of the changed weight is longer in the end than it would be.

    Shapes: magnitudes (out, 1, ...) for rows, as LyCORIS writes today, or (1, in, ...) for columns, as it did before;
    the gains have the same. Errors: RuntimeError where they are neither.
    """
    changed = weight.float() + change
    rows = (changed.shape[0], *[1] * (changed.dim() - 1))
    columns = (1, changed.shape[1], *[1] * (changed.dim() - 2))
    if tuple(magnitudes.shape) not in (rows, columns):
        raise RuntimeError(f"magnitudes of shape {tuple(magnitudes.shape)} for a weight of {tuple(changed.shape)}")
    along = 0 if tuple(magnitudes.shape) == rows else 1
    others = [each for each in range(changed.dim()) if each != along]
    lengths: torch.Tensor = torch.linalg.vector_norm(changed, dim=others, keepdim=True)
    return magnitudes.float() / lengths.clamp_min(torch.finfo(torch.float32).eps)


@dataclass(slots=True)
class LayerChange:
    """One file's change of one layer."""

    parts: Parts
    #: Of the file: 1 is what it was trained to be, 0 nothing; of DoRA too, as ComfyUI has it.
    weight: float
    #: Of DoRA: see `gains_of`.
    gains: torch.Tensor | None = None
    #: The layer's own, where there are gains: a layer that waits in the host's memory has none on the device.
    bias: torch.Tensor | None = None

    def addition(self, layer: Any, given: torch.Tensor, plain: torch.Tensor) -> torch.Tensor:
        """What is added to `plain`, the layer's own answer to `given`. Any: one that `shape_of` takes."""
        self._move(given.device)
        change, dtype = change_of_weight(self.parts, shape_of(layer)), given.dtype
        if self.gains is None:
            added = _through(layer, given, change.to(dtype))
            return added * self.weight
        more, added = (self.gains - 1).to(dtype), _through(layer, given, (self.gains * change).to(dtype))
        more = more.reshape(_channels(layer))
        if self.gains.numel() == self.gains.shape[0]:  # a gain for each row, and so for each channel of the answer
            rescaled = more * self._without_bias(layer, plain)
        else:
            rescaled = self._without_bias(layer, layer.forward(given * more))
        return (rescaled + added) * self.weight

    def _without_bias(self, layer: Any, answer: torch.Tensor) -> torch.Tensor:  # Any: as above
        return answer if self.bias is None else answer - self.bias.to(answer.dtype).reshape(_channels(layer))

    def _move(self, device: torch.device) -> None:
        """Once: what lies on the device already is not copied. Alpha is a number of the host's, read in each run."""
        self.parts = {end: each if end == "alpha" else each.to(device) for end, each in self.parts.items()}
        self.gains = None if self.gains is None else self.gains.to(device)
        self.bias = None if self.bias is None else self.bias.to(device)


def _channels(layer: Any) -> tuple[int, ...]:  # Any: as above
    """The shape that a vector of channels has beside what a layer reads or answers."""
    return (-1,) if isinstance(layer, Linear) else (1, -1, 1, 1)


def _through(layer: Any, given: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:  # Any: as above
    if isinstance(layer, Linear):
        return linear(given, weight)
    answer: torch.Tensor = layer._conv_forward(given, weight, None)  # which pads as this layer does
    return answer
