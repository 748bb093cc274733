"""The real renderer: any diffusers text-to-image folder, on the CPU or an NVIDIA GPU.

Import this only in the child: it costs seconds and hundreds of megabytes.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.recipe import Engine, recipe_for
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.checks import check_passes
from dreamforge.gpu_runner.rendering.feature_chain import FeatureChain
from dreamforge.gpu_runner.rendering.feature_list import standard_features
from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature
from dreamforge.gpu_runner.rendering.images import as_bytes, as_image
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.pipeline_cache import PipelineCache
from dreamforge.gpu_runner.rendering.renderer import (
    DeviceReport,
    ModelKey,
    OnStep,
    RenderedImage,
    RenderFailed,
    RenderWarning,
    first_line,
    merged,
)
from dreamforge.gpu_runner.rendering.scanlines import sub_filtered
from dreamforge.gpu_runner.rendering.step_counter import StepCounter
from dreamforge.gpu_runner.rendering.torch_device import TorchDevice
from dreamforge.gpu_runner.rendering.variants import pipeline_for


@dataclass(frozen=True, slots=True)
class _PassResult:
    pixels: RenderedPixels
    pipeline: str
    sampler: str


class DiffusersRenderer:
    """Renders with diffusers; keeps pipelines of `resident_bytes` in memory, 0: of a share of the device's.

    `features` makes what a render can do besides text to image, for one device.
    """

    def __init__(
        self,
        *,
        device: str,
        dtype: str,
        threads: int,
        resident_bytes: int = 0,
        features: Callable[[torch.device], Sequence[RenderFeature]] = standard_features,
    ) -> None:
        self._device = TorchDevice.settle(device, dtype, threads)
        self._engine = self._device.engine()
        self._features = FeatureChain(features(self._device.device))
        budget_bytes = resident_bytes or self._device.resident_bytes()
        self._pipelines = PipelineCache(self._device, budget_bytes=budget_bytes, place=self._features.place)

    @property
    def engine(self) -> Engine:
        """What renders."""
        return self._engine

    @property
    def instant(self) -> bool:
        """Never: these steps are worth watching."""
        return False

    def device_report(self) -> DeviceReport:
        """The device's memory, now."""
        return self._device.report()

    def is_resident(self, model: ModelKey) -> bool:
        """Whether the pipeline is in memory."""
        return model in self._pipelines

    def load(self, model: ModelKey) -> tuple[int, tuple[str, ...]]:
        """Read a model folder. Errors: RenderFailed."""
        with self._device_errors():
            return self._pipelines.load(model)

    def warnings(self, task: RenderTask) -> tuple[RenderWarning, ...]:
        """What the files of this model and the features have to say of a task, once each. Errors: RenderFailed."""
        key = ModelKey.of_task(task)
        base = self._pipelines.get(key)
        with self._device_errors():
            return merged((*self._pipelines.warnings(key), *self._features.warnings(base, task)))

    def render(self, task: RenderTask, seed: int, on_step: OnStep) -> RenderedImage:
        """One image, alone, from its own generator, so that its bytes depend on its recipe only."""
        base = self._pipelines.get(ModelKey.of_task(task))
        with self._device_errors():
            self._features.check(base, task)
            check_passes(base, self._features.plan(task))
            self._features.prepare(base, task)
        # Not inference mode: a layer that waits in the host's memory could not come back to it.
        with self._device_errors(), torch.no_grad():
            result = self._passes(base, task, seed, on_step)
            finished = self._features.finish(task, result.pixels)
        tier_dtype = task.tier.dtype if task.tier else None
        engine = self._engine.model_copy(update={"dtype": finished.dtype or tier_dtype or self._engine.dtype})
        recipe = recipe_for(task, seed, engine, pipeline=result.pipeline, sampler=result.sampler)
        return RenderedImage(sub_filtered(_numbers(finished).numpy()), recipe, finished.warnings)

    def peak_bytes(self) -> int:
        """Peak memory of the device."""
        return self._device.peak_bytes()

    def _passes(self, base: Pipeline, task: RenderTask, seed: int, on_step: OnStep) -> _PassResult:
        """What came of the last pass; the classes of the pipeline and the sampler are those of the first."""
        first, *later = self._features.plan(task)
        counter = StepCounter(on_step, first.request.steps, sum(each.steps_made for each in later))
        result = self._run(PassContext(base, task, first), seed, counter)
        for each in later:
            counter.next_pass(each.request.steps, foreseen=each.steps_made)
            previous = as_image(_numbers(result.pixels).numpy())
            second_seed = task.request.second_seed(seed)
            over = self._run(
                PassContext(base, task, each, previous), seed if second_seed is None else second_seed, counter
            )
            result = _PassResult(result.pixels.then(over.pixels), result.pipeline, result.sampler)
        return result

    def _run(self, context: PassContext, seed: int, counter: StepCounter) -> _PassResult:
        with pipeline_for(context.base, context.current.mode, self._features.parts(context)) as pipeline:

            def call() -> RenderedPixels:
                counter.watcher = self._features.watch(context, pipeline)
                arguments: dict[str, Any] = {  # Any: every pipeline class has its own keyword types
                    **_size(context, pipeline),
                    **self._features.arguments(context, pipeline),
                    "num_inference_steps": context.request.steps,
                    "guidance_scale": context.request.guidance_scale,
                    # On the CPU whatever the device: a GPU's generator gives other noise, and so another image.
                    "generator": torch.Generator("cpu").manual_seed(seed),
                    "callback_on_step_end": counter.callback,
                    "output_type": "pt",
                }
                return RenderedPixels(as_bytes(pipeline(**arguments).images))

            pixels = self._features.run(context, pipeline, call)
            return _PassResult(pixels, type(pipeline).__name__, type(pipeline.scheduler).__name__)

    @contextmanager
    def _device_errors(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            self._features.release()
            self._pipelines.clear()
            raise RenderFailed(FailureReason.OUT_OF_MEMORY, first_line(error)) from error
        except torch.AcceleratorError as error:
            raise RenderFailed(FailureReason.CHILD_CRASHED, first_line(error)) from error
        except RuntimeError as error:
            # The CPU allocator raises a plain RuntimeError; its text is all there is to tell it by.
            if "can't allocate memory" in str(error):
                raise RenderFailed(FailureReason.OUT_OF_MEMORY, first_line(error)) from error
            raise


def _size(context: PassContext, pipeline: Pipeline) -> dict[str, int]:
    """The keywords of the size, only where the pipeline does not take it from its image."""
    if not inspect.signature(type(pipeline).__call__).parameters.keys() >= {"width", "height"}:
        return {}
    return {"width": context.current.width_px, "height": context.current.height_px}


def _numbers(result: RenderedPixels) -> torch.Tensor:
    if result.pixels is None:
        raise RenderFailed(FailureReason.MODEL_BROKEN, "the model gave pixels that are not numbers")
    return result.pixels
