"""What a feature of a render can do: the hooks that the renderer calls. Import this only in the child.

A feature is one file in `features/` with one subclass of `RenderFeature`; `feature_list` says which there are, in which
order. The renderer knows features by these hooks only, and a feature knows no other feature.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.passes import Pass, PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import ModelPlacement, RenderWarning

#: Called after each step but the last with the pipeline and its latents; a preview as a data URI, if one is ready.
StepWatcher = Callable[[Any, torch.Tensor], str | None]  # Any: each pipeline has its own class
#: Called before each step but the first with its number, from 0, and that of the steps of its pass.
StepChange = Callable[[int, int], None]
#: Keywords of a pipeline's call, or parts that it is made of. Any: each pipeline has its own types.
Keywords = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ForAll:
    """The value of a keyword that a pipeline takes once, for all images of a run; made when it is called."""

    make: Callable[[], Any]  # Any: see `Keywords`


@dataclass(frozen=True, slots=True)
class RenderedPixels:
    """What came of a pass: (height, width, 3) bytes, or None where the model gave values that are not numbers.

    Of a run of several images: (batch, height, width, 3); of a video: (frames, height, width, 3).
    """

    pixels: torch.Tensor | None
    warnings: tuple[RenderWarning, ...] = ()
    #: The precision it was rendered in, where that is not the one asked for.
    dtype: str | None = None
    #: Names of the optimisations that it was rendered with.
    optimisations: tuple[str, ...] = ()
    #: Places of a run of several images whose pixels are no numbers, or all black: what is at them counts for nothing.
    lost: frozenset[int] = frozenset()

    def with_warning(self, warning: RenderWarning, *, dtype: str | None = None) -> "RenderedPixels":
        """The same with one more warning, and what it was rendered in."""
        return replace(self, warnings=(*self.warnings, warning), dtype=dtype or self.dtype)

    def then(self, later: "RenderedPixels") -> "RenderedPixels":
        """A later pass over this image: its pixels, and the warnings of both."""
        warnings = tuple(dict.fromkeys((*self.warnings, *later.warnings)))
        return replace(later, warnings=warnings, dtype=later.dtype or self.dtype, lost=self.lost | later.lost)


RunPass = Callable[[], RenderedPixels]


class RenderFeature:
    """Every hook, doing nothing. The hooks stand in the order in which they are called for a task.

    Of several images in one run, `warnings`, `check` and what gives keywords are called for each; `prepare`, `parts`,
    `run` and `before_step` once, for the first, because what they depend on is in the batch key and so equal.

    A feature keeps no state of a single image: what it needs is in the task and in the context of the pass.
    """

    def place(self, pipeline: Pipeline, placement: ModelPlacement) -> None:
        """A pipeline was loaded: move or change it as `placement` says, once."""

    def warnings(self, pipeline: Pipeline, task: RenderTask) -> tuple[RenderWarning, ...]:  # noqa: ARG002
        """What the owner of a task should know before its first image."""
        return ()

    def plain_prompt(self, text: str) -> str:
        """A prompt without the marks that this feature reads in it: what the warnings of others are about."""
        return text

    def plan(self, task: RenderTask, passes: tuple[Pass, ...]) -> tuple[Pass, ...]:  # noqa: ARG002
        """The passes of an image: what earlier features planned, with one changed or added."""
        return passes

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Refuse what diffusers would take badly, or ignore. Errors: RenderFailed(invalid_request)."""

    def form(self, pipeline: Pipeline, task: RenderTask) -> Hashable:  # noqa: ARG002
        """What its prompts must have in common with those of other images to be in one run, beside the batch key.

        It is known without encoding them. What it misses is refused in the run, and that costs one.
        """
        return None

    def prepare(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Change the pipeline for an image. What lies on it for the next image must be found, or removed, here.

        Errors: RenderFailed.
        """

    def parts(self, context: PassContext) -> Keywords:  # noqa: ARG002
        """Parts that the pipeline of this pass has in place of its own, or beside them. Errors: RenderFailed."""
        return {}

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:  # noqa: ARG002
        """Around a pass: call `proceed` once, or again after changing something; the first feature is outermost."""
        return proceed()

    def encoding(self, context: PassContext) -> Keywords:  # noqa: ARG002
        """Keywords that say how prompts are encoded, known to a pipeline's call and to its `encode_prompt` alike."""
        return {}

    def prompts(self, context: PassContext, pipeline: Pipeline, encoding: Keywords) -> Keywords | None:  # noqa: ARG002
        """The keywords that carry the prompts, as text or as embeddings made with `encoding`.

        None leaves it to a later feature: the first that gives some is taken.
        """
        return None

    def arguments(self, context: PassContext, pipeline: Pipeline) -> Keywords:  # noqa: ARG002
        """Further keywords of the pipeline's call; of two features that give the same one the later counts."""
        return {}

    def before_step(self, context: PassContext, pipeline: Pipeline) -> StepChange | None:  # noqa: ARG002
        """What changes this pipeline between the steps of its pass."""
        return None

    def watch(self, context: PassContext, pipeline: Pipeline) -> StepWatcher | None:  # noqa: ARG002
        """What looks at the latents after each step of this pass; the first feature that gives one is taken."""
        return None

    def encode_ahead(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Between two steps of a pass: a task that comes next on this pipeline, told once. Must not wait."""

    def finish(self, task: RenderTask, rendered: RenderedPixels) -> RenderedPixels:  # noqa: ARG002
        """After the last pass: the finished image. Errors: RenderFailed."""
        return rendered

    def release(self) -> None:
        """The device ran out of memory: let everything go that can be loaded again."""
