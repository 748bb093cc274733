"""What the text encoders make of prompts: kept for later images, and made ahead for the next task. Only in the child.

A pipeline asks its own `encode_prompt` in each run, for the second image of a job as for the first. While a pass runs,
that question comes here, and one that was asked before, to the letter, has its answer at once. Ahead, beside the steps
of a pass, its questions are asked with the texts of the next task. If that one then asks something else, the answer is
never used. So each answer is what the encoders give to exactly this question, and no byte of an image depends on it.
"""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from loguru import logger

from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.text_encoders import SUFFIXES

#: Answers that one pipeline keeps: 16 prompts of a T5 with 512 tokens of 4,096 numbers in half precision.
KEPT_BYTES = 64 * 2**20
#: Memory of a GPU that must be free to encode beside the steps of another task. Our choice: what a text encoder takes
#: beside its weights is a tenth of it.
AHEAD_FREE_BYTES = 2**30
#: Values that a question may be made of; with any other (embeddings, images) a pipeline is asked each time.
PLAIN = (str, int, float, bool, type(None), torch.device, torch.dtype)
#: What `encode_prompt` gives: tensors, or None where the family has none of them, in its order. Any: one of a family.
Answer = Any
Encode = Callable[..., Answer]


@dataclass(frozen=True, slots=True)
class _Question:
    """All that an answer depends on: the encoders as they are, and what they are asked."""

    encoders: tuple[object, ...]
    keywords: tuple[tuple[str, object], ...]


@dataclass(slots=True)
class _Asked:
    """What the pass that runs has asked so far."""

    base: Pipeline
    request: RenderRequest
    encoders: tuple[object, ...]
    encode: Encode
    keywords: list[dict[str, Any]] = field(default_factory=list)  # Any: see `Answer`


class _Answers:
    """The answers that were used last, of no more than KEPT_BYTES."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Question, Answer] = OrderedDict()

    def __contains__(self, question: _Question) -> bool:
        return question in self._kept

    def take(self, question: _Question) -> Answer:
        """A copy, which the pipeline may change."""
        self._kept.move_to_end(question)
        return _copied(self._kept[question])

    def keep(self, question: _Question, answer: Answer) -> None:
        """Remember a copy, unless it is more than tensors."""
        if all(part is None or isinstance(part, torch.Tensor) for part in _parts(answer)):
            self._kept[question] = _copied(answer)
        while sum(map(_size_bytes, self._kept.values())) > KEPT_BYTES:
            self._kept.popitem(last=False)


class EncodedTexts(RenderFeature):
    """Around `encode_prompt` of every pipeline that has one."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Any: pipelines have no common type that can be weakly referenced. Weak: a model that leaves memory takes its
        # answers along.
        self._answers: WeakKeyDictionary[Any, _Answers] = WeakKeyDictionary()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="texts-ahead")
        self._asked: _Asked | None = None
        self._ahead: Future[list[tuple[_Question, Answer]]] | None = None

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:
        """Inside of all that changes encoders: their precision, their layers, what lies over them."""
        encode = getattr(pipeline, "encode_prompt", None)
        if encode is None or not _takes_named_only(encode) or not _keeps_its_encoders(context.task):
            return proceed()
        self._asked = _Asked(context.base, context.request, _encoders(pipeline, context.task), encode)
        pipeline.__dict__["encode_prompt"] = self._answer
        try:
            return proceed()
        finally:
            del pipeline.__dict__["encode_prompt"]
            self._take_ahead(self._asked)
            self._asked = None

    def encode_ahead(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Ask what this pass has asked with the texts of the next task, if both have the encoders in the same state."""
        asked = self._asked
        if self._ahead is not None or asked is None or asked.base is not pipeline or not self._can_be_beside(task):
            return
        if asked.encoders[1:] != _encoders(pipeline, task)[1:]:
            return
        answers = self._answers.get(pipeline)
        questions = [
            (question, keywords)
            for keywords in (_with_texts_of(task.request, each, asked.request) for each in asked.keywords)
            if (question := _question(asked.encoders, keywords)) is not None
            and (answers is None or question not in answers)
        ]
        if questions:
            self._ahead = self._thread.submit(_encoded, asked.encode, questions)

    def _can_be_beside(self, task: RenderTask) -> bool:
        """Whether its encoders stay where they are, and there is room for what they take."""
        if not _keeps_its_encoders(task):
            return False
        return self._device.type != "cuda" or torch.cuda.mem_get_info(self._device)[0] > AHEAD_FREE_BYTES

    def release(self) -> None:
        """Let all answers go."""
        self._answers.clear()

    def _answer(self, *args: Any, **keywords: Any) -> Answer:  # Any: as each pipeline has it
        """In place of `encode_prompt` of the pipeline that runs."""
        asked = self._asked
        assert asked is not None, "only while a pass runs"
        bound = dict(inspect.signature(asked.encode).bind(*args, **keywords).arguments)
        if (question := _question(asked.encoders, bound)) is None:
            return asked.encode(*args, **keywords)
        asked.keywords.append(bound)
        answers = self._answers.setdefault(asked.base, _Answers())
        if question in answers:
            return answers.take(question)
        answer = asked.encode(*args, **keywords)
        answers.keep(question, answer)
        # A copy now as later, so that a run takes the same memory whether its texts were known or not.
        return answers.take(question) if question in answers else answer

    def _take_ahead(self, asked: _Asked) -> None:
        """Wait for what was begun: the encoders may change after this pass."""
        if (ahead := self._ahead) is None:
            return
        self._ahead = None
        try:
            found = ahead.result()
        except Exception as error:  # of a question that was not asked yet: the pipeline that asks it will raise it
            logger.debug("the next text could not be encoded ahead: {}", error)
            return
        answers = self._answers.setdefault(asked.base, _Answers())
        for question, answer in found:
            answers.keep(question, answer)


def _keeps_its_encoders(task: RenderTask) -> bool:
    """Whether encoders are on the device all the time, and the same for tasks with the same words.

    Where they come and go, a run without them would be measured to take less memory than the next one. The vectors of
    embeddings are put into an encoder for one pass, under names that are the same for others.
    """
    return task.held.offload == "none" and not task.request.embeddings


def _takes_named_only(encode: Encode) -> bool:
    kinds = {parameter.kind for parameter in inspect.signature(encode).parameters.values()}
    return not kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def _encoded(encode: Encode, questions: list[tuple[_Question, dict[str, Any]]]) -> list[tuple[_Question, Answer]]:
    with torch.no_grad():  # which holds for one thread
        return [(question, encode(**keywords)) for question, keywords in questions]


def _encoders(pipeline: Pipeline, task: RenderTask) -> tuple[object, ...]:
    """What an answer depends on beside the question: the method, the encoders' precision, LoRAs, layers left out."""
    parts = (pipeline.components.get(f"text_encoder{suffix}") for suffix in SUFFIXES)
    dtypes = tuple(part.dtype for part in parts if isinstance(part, torch.nn.Module))
    loras = tuple((use, task.assets[use.model_id]) for use in task.request.loras)
    return (type(pipeline).__qualname__, dtypes, loras, task.request.clip_skip)


def _with_texts_of(following: RenderRequest, keywords: dict[str, Any], request: RenderRequest) -> dict[str, Any]:
    """The same question about the prompts of another request; a text that is none of this request's stays."""
    texts = {request.negative_prompt: following.negative_prompt, request.prompt: following.prompt}
    return {
        name: texts.get(value, value) if isinstance(value, str) and value else value for name, value in keywords.items()
    }


def _question(encoders: tuple[object, ...], keywords: dict[str, Any]) -> _Question | None:
    """None where a keyword has no plain value, and so no equality."""
    try:
        return _Question(encoders, tuple(sorted((name, _plain(value)) for name, value in keywords.items())))
    except TypeError:
        return None


def _plain(value: object) -> object:
    """Errors: TypeError for what has no equality."""
    if isinstance(value, list | tuple):
        return (type(value).__name__, *(_plain(each) for each in value))
    if isinstance(value, dict):
        return ("dict", *((name, _plain(each)) for name, each in value.items()))
    if isinstance(value, PLAIN):
        return (type(value).__name__, value)
    raise TypeError(type(value).__name__)


def _copied(answer: Answer) -> Answer:
    if isinstance(answer, list | tuple):
        return type(answer)(_copied(part) for part in answer)
    return answer.clone() if isinstance(answer, torch.Tensor) else answer


def _parts(answer: Answer) -> Iterator[object]:
    if isinstance(answer, list | tuple):
        for part in answer:
            yield from _parts(part)
    else:
        yield answer


def _size_bytes(answer: Answer) -> int:
    return sum(part.nbytes for part in _parts(answer) if isinstance(part, torch.Tensor))
