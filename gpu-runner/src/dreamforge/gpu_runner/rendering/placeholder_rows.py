"""Vectors in place of those that a text encoder has for tokens, for a while. Import this only in the child."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import Embedding, Module

#: A token that every vocabulary has, which the encoder sees where a vector is put in.
ANY_TOKEN = 0


def token_embedding_of(encoder: Any) -> Embedding:  # Any: transformers' classes
    """The matrix with a row for each token."""
    found = encoder.get_input_embeddings()
    assert isinstance(found, Embedding)
    return found


@contextmanager
def placeholder_rows(encoder: Module, first_id: int, vectors: Sequence[torch.Tensor]) -> Iterator[None]:
    """While inside, token `first_id` + i of what the encoder reads is the row i of all vectors.

    Shapes: each of the vectors is (rows, width). The encoder itself never sees the new ids: it finds the end of a text
    by comparing ids, and its matrix has no rows for them.
    """
    rows = torch.cat(list(vectors))
    seen: list[torch.Tensor] = []

    def before(_: Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        ids = given[0] if given else named["input_ids"]
        seen[:] = [ids - first_id]
        plain = torch.where(ids >= first_id, ANY_TOKEN, ids)
        return ((plain, *given[1:]), named) if given else (given, {**named, "input_ids": plain})

    def within(_: Module, __: tuple[Any, ...], embedded: torch.Tensor) -> torch.Tensor:
        places = seen[0].to(embedded.device).reshape(embedded.shape[:-1])
        put_in = rows.to(embedded.device, embedded.dtype)[places.clamp(min=0)]
        return torch.where((places >= 0).unsqueeze(-1), put_in, embedded)

    hooks = (
        encoder.register_forward_pre_hook(before, with_kwargs=True),
        token_embedding_of(encoder).register_forward_hook(within),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
