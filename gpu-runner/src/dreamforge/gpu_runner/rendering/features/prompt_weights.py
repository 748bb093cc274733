r"""Prompt weights: `(word:1.2)`, `(word)`, `[word]`, and `\(` for a bracket. Import this only in the child.

What brackets mean is the convention that users know from A1111: a pair of round ones multiplies by 1.1, a pair of
square ones divides by it, a number says it outright, and pairs nest. A bracket without its partner is a character like
any other.
"""

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

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
        if found is None:
            return None
        # 0.3 s of import, most of it pipelines and text encoders of other families: not at each start of a worker.
        from dreamforge.gpu_runner.rendering.weighted_embeddings import WeightedEncoder

        return WeightedEncoder(pipeline, encoding).keywords(*found)


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
