"""Ways to render the same image faster, on and off as each task asks for. Import this only in the child."""

from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from loguru import logger

from dreamforge.contracts.events import WarningCode
from dreamforge.contracts.models.optimisations import NONE, OPTIMISATIONS, named_optimisations
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.compiled_blocks import BlockCompiler
from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.optimisations import BACKENDS, KNOWN, NO_KERNEL, Optimisation, compiling
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderWarning, first_line

COMPILED = "compiled_blocks"


@dataclass(slots=True)
class _Laid:
    """What is in use on a pipeline, and what went wrong there, by name: it is not tried again."""

    names: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    #: What no owner of a task has been told yet.
    untold: list[RenderWarning] = field(default_factory=list)


class Optimisations(RenderFeature):
    """`optimisations` of a request, else those of the runner. What a model cannot have is left out, never an error.

    A request that wants the same bytes again, strict or in a geometry, has those that it names and no others.
    """

    def __init__(self, usual: tuple[str, ...], compiler: BlockCompiler) -> None:
        self._usual, self._compiler = usual, compiler
        self._known: dict[str, Optimisation] = {**KNOWN, COMPILED: compiling(compiler)}
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
        if COMPILED in laid.names and (why := self._compiler.failure(pipeline)):
            self._failed(pipeline, COMPILED, why)
        wanted = [name for name in self._wanted(task) if not self._refusal(name, pipeline, task)]
        for name in laid.names:
            if name not in wanted:
                self._take_off(pipeline, name)
        for name in wanted:
            if name not in laid.names:
                self._put_on(pipeline, name)

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:  # noqa: ARG002
        """Say what was in use. Attention that a kernel cannot compute is computed again in the usual way."""
        base, laid = context.base, self._laid.setdefault(context.base, _Laid())
        try:
            result = self._run(base, context.task, proceed)
        except RuntimeError as error:
            attention = [name for name in laid.names if name in BACKENDS]
            if not attention or not any(said in str(error) for said in NO_KERNEL):
                raise
            self._failed(base, attention[0], first_line(error))
            result = self._run(base, context.task, proceed)
        told, laid.untold = laid.untold, []
        return replace(result, warnings=(*result.warnings, *told))

    def _run(self, base: Pipeline, task: RenderTask, proceed: RunPass) -> RenderedPixels:
        others = tuple(name for name in self._laid[base].names if name != COMPILED)
        if others == self._laid[base].names:
            return replace(proceed(), optimisations=others)
        if why := self._compiler.hindrance(base):
            told = (
                (_left_out(COMPILED, why),)
                if COMPILED in named_optimisations(task.request.optimisations or NONE)
                else ()
            )
            result = proceed()
            return replace(result, optimisations=others, warnings=(*result.warnings, *told))
        result, compiled = self._compiler.run(base, others, proceed, at_once=_is_exact(task))
        if why := self._compiler.failure(base):
            self._failed(base, COMPILED, why)
        return replace(result, optimisations=(*others, COMPILED) if compiled else others)

    def _wanted(self, task: RenderTask) -> tuple[str, ...]:
        request = task.request
        if request.optimisations is not None:
            return named_optimisations(request.optimisations)
        return () if _is_exact(task) else self._usual

    def _refusal(self, name: str, pipeline: Pipeline, task: RenderTask) -> str:
        laid = self._laid.get(pipeline, _Laid())
        return laid.failed.get(name, "") or self._known[name].refusal(pipeline, task)

    def _put_on(self, pipeline: Pipeline, name: str) -> None:
        laid = self._laid[pipeline]
        laid.names = tuple(each for each in OPTIMISATIONS if each in (*laid.names, name))
        try:
            self._known[name].apply(pipeline)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            self._take_off(pipeline, name)
            raise
        except Exception as error:  # whatever a library says: the image is rendered all the same
            self._failed(pipeline, name, first_line(error))

    def _failed(self, pipeline: Pipeline, name: str, why: str) -> None:
        logger.warning("{} goes on without {}: {}", type(pipeline).__name__, name, why)
        self._laid[pipeline].failed[name] = why
        self._laid[pipeline].untold.append(_left_out(name, why))
        self._take_off(pipeline, name)

    def _take_off(self, pipeline: Pipeline, name: str) -> None:
        laid = self._laid[pipeline]
        self._known[name].undo(pipeline)
        laid.names = tuple(each for each in laid.names if each != name)


def _is_exact(task: RenderTask) -> bool:
    """Whether the request wants certain bytes: its image is made in one way, also if that takes longer."""
    return task.request.determinism == "strict" or task.request.geometry is not None


def _left_out(name: str, why: str) -> RenderWarning:
    message = f"{name} is left out: {why}"
    return RenderWarning(WarningCode.OPTIMISATION_LEFT_OUT, message, (name,))
