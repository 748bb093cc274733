"""The tensors of LoHa, LoKr, DoRA and Tucker-decomposed LoCon, as LyCORIS and kohya's trainers name them. Pure.

A tensor is named `LAYER.END`. The ends of a layer say how the change of its weight is computed from them; the renderer
does that itself, because diffusers reads none of these formats as a whole (`gpu_runner/rendering/weight_changes.py`).
"""

import math
from collections.abc import Iterable, Mapping
from typing import TypeVar

Tensor = TypeVar("Tensor")

#: What a file in one of these formats has, and a plain LoRA has not.
MARKS = (".hada_w", ".lokr_w", ".dora_scale", ".lora_mid.")
LOW_RANK = frozenset({"lora_down.weight", "lora_up.weight"})
HADAMARD = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})
#: The sets of ends that a layer can have, besides those of `EXTRAS`.
#: Source: LyCORIS 3, `modules/{locon,loha,lokr}.py`. Each of LoKr's two factors is whole or a product.
COMPLETE = (
    LOW_RANK,
    LOW_RANK | {"lora_mid.weight"},
    HADAMARD,
    HADAMARD | {"hada_t1", "hada_t2"},
    *(
        frozenset(first + second)
        for first in (("lokr_w1",), ("lokr_w1_a", "lokr_w1_b"))
        for second in (("lokr_w2",), ("lokr_w2_a", "lokr_w2_b"), ("lokr_t2", "lokr_w2_a", "lokr_w2_b"))
    ),
)
EXTRAS = frozenset({"alpha", "dora_scale"})
ENDS = frozenset().union(*COMPLETE, EXTRAS)


def changes_weights(names: Iterable[str]) -> bool:
    """Whether these tensors are of a file in one of the formats of this module."""
    return any(mark in name for name in names for mark in MARKS)


def by_layer(tensors: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], tuple[str, ...]]:
    """The tensors of each layer by their ends, and the names that are of no layer.

    >>> by_layer({"lora_unet_a.hada_w1_a": 1, "lora_unet_a.scalar": 2})
    ({'lora_unet_a': {'hada_w1_a': 1}}, ('lora_unet_a.scalar',))
    """
    layers: dict[str, dict[str, Tensor]] = {}
    others = []
    for name, tensor in tensors.items():
        # The last dots belong to the end: names of layers can have dots, and ends too.
        end = next((each for each in (_after(name, 2), _after(name, 1)) if each in ENDS), None)
        if end is None:
            others.append(name)
        else:
            layers.setdefault(name.removesuffix(f".{end}"), {})[end] = tensor
    return layers, tuple(others)


def _after(name: str, dots: int) -> str:
    return ".".join(name.split(".")[-dots:])


def incomplete_layer(names: Iterable[str]) -> str | None:
    """A layer whose change cannot be computed from the tensors that it has, with their ends; None: each can be."""
    layers, _ = by_layer(dict.fromkeys(names))
    for layer, parts in layers.items():
        if frozenset(parts) - EXTRAS not in COMPLETE:
            return f"{layer} ({', '.join(parts)})"
    return None


def input_widths(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Of layers in these formats how many numbers they read, as far as shapes tell: of a convolution the channels."""
    layers, _ = by_layer(shapes)
    return {layer: width for layer, parts in layers.items() if (width := _input_width(parts)) is not None}


def _input_width(parts: Mapping[str, tuple[int, ...]]) -> int | None:
    if "lora_down.weight" in parts:
        return parts["lora_down.weight"][1]
    if "hada_w1_b" in parts:
        return parts["hada_w1_b"][1]
    factors = [parts.get(f"lokr_w{side}") or parts.get(f"lokr_w{side}_b") for side in (1, 2)]
    return math.prod(each[1] for each in factors if each) if all(factors) else None
