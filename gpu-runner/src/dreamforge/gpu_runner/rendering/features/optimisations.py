"""Ways to render the same image faster, on and off as each task asks for. Import this only in the child."""

from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from loguru import logger

from dreamforge.contracts.events import WarningCode
from dreamforge.contracts.models.optimisations import OPTIMISATIONS, named_optimisations
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.optimisations import BACKENDS, KNOWN, NO_KERNEL
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderWarning, first_line


@dataclass(slots=True)
class _Laid:
    """What is in use on a pipeline, and what went wrong there, by name: it is not tried again."""

    names: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)


class Optimisations(RenderFeature):
    """`optimisations` of a request, else those of the runner. What a model cannot have is left out, never an error.

    A request that wants the same bytes again, strict or in a geometry, has those that it names and no others.
    """

    def __init__(self, usual: tuple[str, ...]) -> None:
        self._usual = usual
        # Any: not every pipeline can be hashed as a type says. Weak: they end with their model.
        self._laid: WeakKeyDictionary[Any, _Laid] = WeakKeyDictionary()

    def warnings(self, pipeline: Pipeline, task: RenderTask) -> tuple[RenderWarning, ...]:
        """What the request names and the model cannot have. Of the runner's own it says nothing: recipes do."""
        if task.request.optimisations is None:
            return ()
        refused = ((name, self._refusal(name, pipeline, task)) for name in self._wanted(task))
        return tuple(_left_out(name, why) for name, why in refused if why)

    def prepare(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Have on the pipeline what this task asks for, as far as it can be had."""
        laid = self._laid.setdefault(pipeline, _Laid())
        wanted = [name for name in self._wanted(task) if not self._refusal(name, pipeline, task)]
        for name in laid.names:
            if name not in wanted:
                self._take_off(pipeline, name)
        for name in wanted:
            if name not in laid.names:
                self._put_on(pipeline, name)

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:  # noqa: ARG002
        """Say what was in use. Attention that a kernel cannot compute is computed again in the usual way."""
        laid = self._laid.setdefault(context.base, _Laid())
        new: tuple[RenderWarning, ...] = ()
        try:
            result = proceed()
        except RuntimeError as error:
            attention = [name for name in laid.names if name in BACKENDS]
            if not attention or not any(said in str(error) for said in NO_KERNEL):
                raise
            self._failed(context.base, attention[0], error)
            new = (_left_out(attention[0], first_line(error)),)
            result = proceed()
        return replace(result, optimisations=laid.names, warnings=(*result.warnings, *new))

    def _wanted(self, task: RenderTask) -> tuple[str, ...]:
        request = task.request
        if request.optimisations is not None:
            return named_optimisations(request.optimisations)
        return () if request.determinism == "strict" or request.geometry is not None else self._usual

    def _refusal(self, name: str, pipeline: Pipeline, task: RenderTask) -> str:
        laid = self._laid.get(pipeline, _Laid())
        return laid.failed.get(name, "") or _known(name).refusal(pipeline, task)

    def _put_on(self, pipeline: Pipeline, name: str) -> None:
        laid = self._laid[pipeline]
        laid.names = tuple(each for each in OPTIMISATIONS if each in (*laid.names, name))
        try:
            _known(name).apply(pipeline)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            self._take_off(pipeline, name)
            raise
        except Exception as error:  # whatever a library says: the image is rendered all the same
            self._failed(pipeline, name, error)

    def _failed(self, pipeline: Pipeline, name: str, error: Exception) -> None:
        logger.warning("{} goes on without {}: {}", type(pipeline).__name__, name, first_line(error))
        self._laid[pipeline].failed[name] = first_line(error)
        self._take_off(pipeline, name)

    def _take_off(self, pipeline: Pipeline, name: str) -> None:
        laid = self._laid[pipeline]
        _known(name).undo(pipeline)
        laid.names = tuple(each for each in laid.names if each != name)


def _known(name: str) -> Any:  # Any: a name that came as text
    return KNOWN[name]  # type: ignore[index]  # named_optimisations gives no other


def _left_out(name: str, why: str) -> RenderWarning:
    message = f"{name} is left out: {why}"
    return RenderWarning(WarningCode.OPTIMISATION_LEFT_OUT, message, (name,))
