r"""Prompt weights: `(word:1.2)`, `(word)`, `[word]`, and `\(` for a bracket, through compel. Only in the child.

compel has a syntax of its own; only its weighting of embeddings is used here. What brackets mean is the convention
that users know from A1111: a pair of round ones multiplies by 1.1, a pair of square ones divides by it, a number says
it outright, and pairs nest. A bracket without its partner is a character like any other.
"""

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from compel import EmbeddingsProvider

from dreamforge.contracts.events import WarningCode
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderFeature
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderWarning
from dreamforge.gpu_runner.rendering.text_encoders import call_parameters, text_encoders_of

EMPHASIS = 1.1
# Our bound: ten times is far past where an image is still one.
WEIGHT_MAX = 10.0
TOKENS = re.compile(r"\\[()\[\]\\]|[()\[\]]|:\s*\d+(?:\.\d+)?\s*\)|[^\\()\[\]:]+|.", re.DOTALL)


class PromptWeights(RenderFeature):
    """`prompt_syntax` of a request."""

    def plain_prompt(self, text: str) -> str:
        """The words without the marks."""
        return "".join(fragment.text for fragment in weighted_fragments(text))

    def warnings(self, pipeline: Pipeline, task: RenderTask) -> tuple[RenderWarning, ...]:
        """The weights that this family cannot give: its text is read as it is written."""
        request = task.request
        if request.prompt_syntax is not None or can_weight(pipeline):
            return ()
        texts = dict.fromkeys(text for each in task.passes for text in (each.prompt, each.negative_prompt))
        fragments = (fragment for text in texts for fragment in weighted_fragments(text))
        words = tuple(dict.fromkeys(each.text.strip() for each in fragments if each.weight != 1.0))
        message = f"{type(pipeline).__name__} cannot weight words; read as written: {', '.join(words)}"
        return (RenderWarning(WarningCode.WEIGHTS_IGNORED, message, words),) if words else ()

    def form(self, pipeline: Pipeline, task: RenderTask) -> Hashable:
        """Which of its passes have embeddings of this feature."""
        return tuple(_weighted(pipeline, each) is not None for each in task.passes)

    def prompts(self, context: PassContext, pipeline: Pipeline, encoding: Keywords) -> Keywords | None:
        """Embeddings with the weights in them; None where there is nothing to weight and no mark to remove."""
        found = _weighted(pipeline, context.request)
        return None if found is None else _Encoder(pipeline, encoding).keywords(*found)


class Fragment(NamedTuple):
    """Some text of a prompt and its weight, 0 to WEIGHT_MAX."""

    text: str
    weight: float


def can_weight(pipeline: Pipeline) -> bool:
    """Whether every text encoder is CLIP's and embeddings can be given: Stable Diffusion 1, 2 and XL."""
    encoders = text_encoders_of(pipeline)
    takes = call_parameters(pipeline)
    return bool(encoders) and all(each.is_clip for each in encoders) and "negative_prompt_embeds" in takes


def weighted_fragments(prompt: str) -> tuple[Fragment, ...]:
    r"""A prompt as pieces of equal weight, without the marks.

    >>> [tuple(each) for each in weighted_fragments(r"a (red:1.3) ball \(round\)")]
    [('a ', 1.0), ('red', 1.3), (' ball (round)', 1.0)]
    """
    pieces: list[_Piece] = []
    for token in TOKENS.findall(prompt):
        if token in "([":
            pieces.append(_Piece(token, opens=True))
        elif token == "]":
            _close(pieces, "[", 1 / EMPHASIS, token)
        elif token.endswith(")") and not token.startswith("\\"):
            number = token.strip(":) \t\r\n")
            _close(pieces, "(", float(number) if number else EMPHASIS, token)
        else:
            pieces.append(_Piece(token[1:] if len(token) == 2 and token[0] == "\\" else token))
    return tuple(_merged(pieces))


@dataclass(slots=True)
class _Piece:
    text: str
    weight: float = 1.0
    opens: bool = False


def _close(pieces: list[_Piece], bracket: str, weight: float, token: str) -> None:
    """Weight what stands behind the nearest open bracket of this kind; without one, the token is text."""
    for index in range(len(pieces) - 1, -1, -1):
        if pieces[index].opens and pieces[index].text == bracket:
            break
    else:
        pieces.append(_Piece(token))
        return
    pieces[index] = _Piece("")
    for piece in pieces[index + 1 :]:
        piece.weight *= weight


def _merged(pieces: list[_Piece]) -> Iterator[Fragment]:
    text, weight = "", 1.0
    for piece in pieces:
        own = min(round(piece.weight, 6), WEIGHT_MAX)
        if piece.text and own != weight:
            if text:
                yield Fragment(text, weight)
            text, weight = "", own
        text += piece.text
    if text:
        yield Fragment(text, weight)


def _weighted(pipeline: Pipeline, request: RenderRequest) -> tuple[tuple[Fragment, ...], tuple[Fragment, ...]] | None:
    """The prompt and the negative prompt, if there is something to weight in them, or a mark to remove."""
    if request.prompt_syntax != "weighted" or not can_weight(pipeline):
        return None
    prompt, negative = weighted_fragments(request.prompt), weighted_fragments(request.negative_prompt)
    plain = (prompt, negative) == (_unmarked(request.prompt), _unmarked(request.negative_prompt))
    return None if plain else (prompt, negative)


def _unmarked(text: str) -> tuple[Fragment, ...]:
    return (Fragment(text, 1.0),) if text else ()


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


class _Encoder:
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

    def keywords(self, prompt: tuple[Fragment, ...], negative: tuple[Fragment, ...]) -> Keywords:
        """Embeddings of both prompts, of one length; what stands for a whole prompt is that of its plain words."""
        plain = self._plain(prompt, negative)
        embeddings = self._weighted(prompt) if prompt else plain[0]
        against = self._weighted(negative) if negative else plain[1]
        embeddings, against = _of_one_length(embeddings, against, self._weighted((Fragment(" ", 1.0),)))
        found = {"prompt_embeds": embeddings, "negative_prompt_embeds": against}
        if len(plain) > 2:
            found |= {"pooled_prompt_embeds": plain[2], "negative_pooled_prompt_embeds": plain[3]}
        return found

    def _plain(self, prompt: tuple[Fragment, ...], negative: tuple[Fragment, ...]) -> tuple[torch.Tensor, ...]:
        encoded: tuple[torch.Tensor, ...] = self._pipeline.encode_prompt(
            prompt="".join(each.text for each in prompt),
            device=self._pipeline._execution_device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            # None is not the empty text: for it some pipelines take zeros.
            negative_prompt="".join(each.text for each in negative) or None,
            **self._encoding,
        )
        return encoded

    def _weighted(self, fragments: tuple[Fragment, ...]) -> torch.Tensor:
        """(1, tokens, width): the widths of all encoders side by side."""
        texts, weights = [each.text for each in fragments], [each.weight for each in fragments]
        device = self._pipeline._execution_device
        found = [
            provider.get_embeddings_for_weighted_prompt_fragments([texts], [weights], device=device)
            for provider in self._providers
        ]
        return torch.cat(found, dim=-1)


def _names(parts: Any) -> str:  # Any: see `_Encoder`
    return " ".join(name for name, part in parts.items() if name.startswith("text_encoder") and part is not None)


def _of_one_length(one: torch.Tensor, other: torch.Tensor, filler: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The shorter one filled up with windows of nothing."""
    size = filler.shape[1]
    windows = [[each[:, at : at + size] for at in range(0, each.shape[1], size)] for each in (one, other)]
    pairs = list(zip_longest(*windows, fillvalue=filler.to(one.dtype)))
    first, second = zip(*pairs, strict=True)
    return torch.cat(first, dim=1), torch.cat(second, dim=1)
