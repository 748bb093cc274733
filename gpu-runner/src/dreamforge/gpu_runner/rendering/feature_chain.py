"""All features of a renderer as one: each hook over all of them, in their order. Import this only in the child."""

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.values import Upscale
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature, RunPass, StepChange, StepWatcher
from dreamforge.gpu_runner.rendering.passes import Pass, PassContext, first_pass
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import ModelPlacement, RenderWarning


class FeatureChain:
    """See `hooks.RenderFeature` for what each hook means."""

    def __init__(self, features: Sequence[RenderFeature]) -> None:
        self._features = tuple(features)

    def place(self, pipeline: Pipeline, placement: ModelPlacement) -> None:
        """Place a pipeline that was just loaded."""
        for feature in self._features:
            feature.place(pipeline, placement)

    def warnings(self, pipeline: Pipeline, task: RenderTask) -> tuple[RenderWarning, ...]:
        """The warnings of all, each about prompts without the marks that the others read."""
        return tuple(
            warning
            for feature in self._features
            for warning in feature.warnings(pipeline, self._plain(task, besides=feature))
        )

    def _plain(self, task: RenderTask, *, besides: RenderFeature) -> RenderTask:
        def plain(prompts: RenderRequest | Upscale) -> dict[str, str]:
            texts = {name: text for name in ("prompt", "negative_prompt") if (text := getattr(prompts, name))}
            for other in self._features:
                if other is not besides:
                    texts = {name: other.plain_prompt(text) for name, text in texts.items()}
            return texts

        request, upscale = task.request, task.request.upscale
        second = {"upscale": upscale.model_copy(update=plain(upscale))} if upscale is not None else {}
        return task.model_copy(update={"request": request.model_copy(update=plain(request) | second)})

    def plan(self, task: RenderTask) -> tuple[Pass, ...]:
        """The passes of each image of a task."""
        passes: tuple[Pass, ...] = (first_pass(task),)
        for feature in self._features:
            passes = feature.plan(task, passes)
        return passes

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Errors: RenderFailed(invalid_request) of the first that refuses."""
        for feature in self._features:
            feature.check(pipeline, task)

    def form(self, pipeline: Pipeline, task: RenderTask) -> Hashable:
        """The forms of all."""
        return tuple(feature.form(pipeline, task) for feature in self._features)

    def prepare(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Prepare for an image. Errors: RenderFailed."""
        for feature in self._features:
            feature.prepare(pipeline, task)

    def parts(self, context: PassContext) -> dict[str, Any]:  # Any: see `hooks.Keywords`
        """The parts of all."""
        return {name: part for feature in self._features for name, part in feature.parts(context).items()}

    def run(self, context: PassContext, pipeline: Pipeline, innermost: RunPass) -> RenderedPixels:
        """Run a pass inside of all features, the first one outermost."""
        run = innermost
        for feature in reversed(self._features):
            run = partial(feature.run, context, pipeline, run)
        return run()

    def arguments(self, context: PassContext, pipeline: Pipeline) -> dict[str, Any]:  # Any: see `hooks.Keywords`
        """The keywords of all; those of the prompts from the first feature that has some."""
        encoding = {name: value for feature in self._features for name, value in feature.encoding(context).items()}
        offers = (feature.prompts(context, pipeline, encoding) for feature in self._features)
        arguments = dict(next((offer for offer in offers if offer is not None), {}))
        for feature in self._features:
            arguments |= feature.arguments(context, pipeline)
        return arguments

    def step_changes(self, context: PassContext, pipeline: Pipeline) -> tuple[StepChange, ...]:
        """What all change between the steps of a pass."""
        changes = (feature.before_step(context, pipeline) for feature in self._features)
        return tuple(change for change in changes if change is not None)

    def watch(self, context: PassContext, pipeline: Pipeline) -> StepWatcher | None:
        """The first watcher."""
        watchers = (feature.watch(context, pipeline) for feature in self._features)
        return next((watcher for watcher in watchers if watcher is not None), None)

    def encode_ahead(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Tell all what comes next."""
        for feature in self._features:
            feature.encode_ahead(pipeline, task)

    def finish(self, task: RenderTask, rendered: RenderedPixels) -> RenderedPixels:
        """The finished image, each feature changing what the one before gave."""
        for feature in self._features:
            rendered = feature.finish(task, rendered)
        return rendered

    def release(self) -> None:
        """Let everything go that can be loaded again."""
        for feature in self._features:
            feature.release()
