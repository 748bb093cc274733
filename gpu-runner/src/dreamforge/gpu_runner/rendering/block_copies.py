"""Blocks as a compiler sees them: alike for all LoRAs of the same layers, and unchanged while they are compiled.

torch compiles a block anew for each rank and each weight of a LoRA, which are sizes and numbers in its layers. With
ranks padded to a few sizes by zeros, and weights as tensors, one LoRA is as good as the next. Only in the child.
"""

from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear

Module = torch.nn.Module
#: Ranks that a LoRA is padded to: few enough for a compilation each, and from 8 on at most twice its own. One that is
#: larger keeps its rank. Our choice.
RANKS = (16, 32, 64, 128)
DOWN, UP = ".lora_A.", ".lora_B."


def padded_rank(rank: int) -> int:
    """What a rank is padded to.

    >>> padded_rank(4), padded_rank(32), padded_rank(200)
    (16, 32, 200)
    """
    return next((each for each in RANKS if each >= rank), rank)


def weights_of(block: Module) -> Hashable:
    """Names, shapes and types of a block's weights, those of LoRAs as `padded` makes them."""
    return tuple(
        (name, _padded_shape(name, weight.shape), weight.dtype, type(weight))
        for name, weight in block.named_parameters()
    )


def copy_of(block: Module) -> Module:
    """A block of the same weights that keeps its layers when others are put into the first; LoRAs are padded."""
    copy = _copy(block)
    vars(copy).pop("forward", None)
    for layer in _with_loras([copy]):
        _pad(layer)
    return copy


@contextmanager
def padded(blocks: Iterable[Module]) -> Iterator[None]:
    """The LoRAs on blocks with ranks of `RANKS`, for as long as it lasts."""
    before = [(layer, _state(layer)) for layer in _with_loras(blocks)]
    for layer, _ in before:
        _pad(layer)
    try:
        yield
    finally:
        for layer, (down, up, scaling) in before:
            layer.lora_A._modules.update(down)
            layer.lora_B._modules.update(up)
            layer.scaling.update(scaling)


def has_loras(blocks: Iterable[Module]) -> bool:
    """Whether a LoRA lies on one of them."""
    return next(_with_loras(blocks), None) is not None


def _with_loras(blocks: Iterable[Module]) -> Iterator[Any]:  # Any: peft's types are those of torch's modules
    for block in blocks:
        yield from (layer for layer in block.modules() if isinstance(layer, Linear) and layer.lora_A)


def _state(layer: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:  # Any: as above
    return dict(layer.lora_A._modules), dict(layer.lora_B._modules), dict(layer.scaling)


def _pad(layer: Any) -> None:  # Any: as above
    for name, down in list(layer.lora_A.items()):
        up = layer.lora_B[name]
        rank = down.weight.shape[0]
        layer.lora_A[name] = _with_zeros(down, (padded_rank(rank), down.weight.shape[1]))
        layer.lora_B[name] = _with_zeros(up, (up.weight.shape[0], padded_rank(rank)))
        layer.scaling[name] = torch.as_tensor(layer.scaling[name], device=down.weight.device)


def _with_zeros(linear: Any, shape: tuple[int, int]) -> Any:  # Any: torch's, as peft holds it
    """A layer of the same numbers and, behind them, zeros."""
    weight = linear.weight
    if tuple(weight.shape) == shape:
        return linear
    wide = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
    wide[: weight.shape[0], : weight.shape[1]] = weight.detach()
    made = _copy(linear)
    made.weight = torch.nn.Parameter(wide, requires_grad=weight.requires_grad)
    return made


def _padded_shape(name: str, shape: torch.Size) -> tuple[int, ...]:
    if len(shape) != 2 or not (DOWN in name or UP in name):
        return tuple(shape)
    first, second = shape
    return (padded_rank(first), second) if DOWN in name else (first, padded_rank(second))


def _copy(module: Module) -> Module:
    """The same with dictionaries of its own, down to the smallest part; tensors are shared."""
    copy: Module = object.__new__(type(module))
    copy.__dict__ = {name: dict(value) if type(value) is dict else value for name, value in vars(module).items()}
    copy._modules = {name: each if each is None else _copy(each) for name, each in module._modules.items()}
    return copy
