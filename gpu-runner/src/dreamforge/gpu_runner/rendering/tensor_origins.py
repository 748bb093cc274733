"""Which tensors of a file came to use, where a library renames, splits and drops them. Only in the child."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping

import torch

Tensors = Mapping[str, torch.Tensor]


class TensorOrigins:
    """The tensors of a file by the memory that they lie in."""

    def __init__(self, tensors: Tensors) -> None:
        self._keys = tuple(tensors)
        self._spans = sorted(
            (tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes, key) for key, tensor in tensors.items()
        )
        self._starts = [start for start, _, _ in self._spans]

    def key_of(self, tensor: torch.Tensor) -> str | None:
        """The key of the tensor that this one is, or is a part of; None: it was computed."""
        number = bisect_right(self._starts, tensor.data_ptr()) - 1
        if number < 0 or tensor.data_ptr() >= self._spans[number][1]:
            return None
        return self._spans[number][2]

    def unused(self, used: Iterable[torch.Tensor]) -> tuple[str, ...]:
        """The keys of which nothing is used; none where a tensor was computed, since what from cannot be told."""
        found = {self.key_of(tensor) for tensor in used if tensor.nbytes}
        return () if None in found else tuple(key for key in self._keys if key not in found)
