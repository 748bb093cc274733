"""Prompts with weights as embeddings, through compel: of it, which has a syntax of its own, only the weighting is used.

Import this only in the child, and only when a prompt has weights: compel imports what it can do for other families.
"""

from itertools import zip_longest
from typing import Any

import torch
from compel import EmbeddingsProvider

from dreamforge.gpu_runner.rendering.hooks import Keywords

#: Pieces of a prompt, each with its weight.
Fragments = tuple[tuple[str, float], ...]


class _Provider(EmbeddingsProvider):  # type: ignore[misc]  # compel has no types
    """compel's weighting over the hidden states that diffusers takes, CLIP skip included."""

    def __init__(self, tokenizer: Any, encoder: Any, *, pooled: bool, skipped: int, device: Any) -> None:
        super().__init__(tokenizer=tokenizer, text_encoder=encoder, truncate=False, device=device)
        self._pooled, self._skipped = pooled, skipped

    def _encode_token_ids_to_embeddings(self, token_ids: Any, attention_mask: Any = None) -> Any:
        """(batch, tokens) to (batch, tokens, width). SDXL takes the layer before the last and does not normalise."""
        states = self.text_encoder(token_ids, attention_mask, output_hidden_states=True, return_dict=True)
        if self._pooled:
            return states.hidden_states[-(self._skipped + 2)]
        if not self._skipped:
            return states.last_hidden_state
        return self.text_encoder.text_model.final_layer_norm(states.hidden_states[-(self._skipped + 1)])


class WeightedEncoder:
    """Prompts of one pass as the keywords of its pipeline."""

    def __init__(self, pipeline: Any, encoding: Keywords) -> None:  # Any: a pipeline's own methods and tensors
        self._pipeline, self._encoding = pipeline, encoding
        parts, device = pipeline.components, pipeline._execution_device
        pairs = [(parts.get(f"tokenizer{suffix}"), parts.get(f"text_encoder{suffix}")) for suffix in ("", "_2")]
        self._providers = [
            _Provider(tokenizer, encoder, pooled="_2" in _names(parts), skipped=self._skipped, device=device)
            for tokenizer, encoder in pairs
            if tokenizer is not None and encoder is not None
        ]

    @property
    def _skipped(self) -> int:
        return int(self._encoding.get("clip_skip", 0))

    def keywords(self, prompt: Fragments, negative: Fragments) -> Keywords:
        """Embeddings of both prompts, of one length; what stands for a whole prompt is that of its plain words."""
        plain = self._plain(prompt, negative)
        embeddings = self._weighted(prompt) if prompt else plain[0]
        against = self._weighted(negative) if negative else plain[1]
        embeddings, against = _of_one_length(embeddings, against, self._weighted(((" ", 1.0),)))
        found = {"prompt_embeds": embeddings, "negative_prompt_embeds": against}
        if len(plain) > 2:
            found |= {"pooled_prompt_embeds": plain[2], "negative_pooled_prompt_embeds": plain[3]}
        return found

    def _plain(self, prompt: Fragments, negative: Fragments) -> tuple[torch.Tensor, ...]:
        encoded: tuple[torch.Tensor, ...] = self._pipeline.encode_prompt(
            prompt="".join(text for text, _ in prompt),
            device=self._pipeline._execution_device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            # None is not the empty text: for it some pipelines take zeros.
            negative_prompt="".join(text for text, _ in negative) or None,
            **self._encoding,
        )
        return encoded

    def _weighted(self, fragments: Fragments) -> torch.Tensor:
        """(1, tokens, width): the widths of all encoders side by side."""
        texts, weights = [text for text, _ in fragments], [weight for _, weight in fragments]
        device = self._pipeline._execution_device
        found = [
            provider.get_embeddings_for_weighted_prompt_fragments([texts], [weights], device=device)
            for provider in self._providers
        ]
        return torch.cat(found, dim=-1)


def _names(parts: Any) -> str:  # Any: see `WeightedEncoder`
    return " ".join(name for name, part in parts.items() if name.startswith("text_encoder") and part is not None)


def _of_one_length(one: torch.Tensor, other: torch.Tensor, filler: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The shorter one filled up with windows of nothing."""
    size = filler.shape[1]
    windows = [[each[:, at : at + size] for at in range(0, each.shape[1], size)] for each in (one, other)]
    pairs = list(zip_longest(*windows, fillvalue=filler.to(one.dtype)))
    first, second = zip(*pairs, strict=True)
    return torch.cat(first, dim=1), torch.cat(second, dim=1)
