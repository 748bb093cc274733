"""The real renderer: any diffusers text-to-image folder, on the CPU or an NVIDIA GPU.

Import this only in the child: it costs seconds and hundreds of megabytes.
"""

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.render_request import SEEDS
from dreamforge.contracts.request.values import Geometry
from dreamforge.gpu_runner.machine.memory import system_memory
from dreamforge.gpu_runner.protocol.memory_rungs import Rung
from dreamforge.gpu_runner.protocol.recipe import Engine, recipe_for
from dreamforge.gpu_runner.protocol.render_task import RenderTask, TaskImage
from dreamforge.gpu_runner.rendering.checks import check_passes
from dreamforge.gpu_runner.rendering.eight_bit_layers import eight_bit_settings
from dreamforge.gpu_runner.rendering.feature_chain import FeatureChain
from dreamforge.gpu_runner.rendering.feature_list import standard_features
from dreamforge.gpu_runner.rendering.features.memory_placement import offload_refusals, rung_refusals
from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature, StepWatcher
from dreamforge.gpu_runner.rendering.images import as_bytes, as_bytes_of_each, as_bytes_of_frames, as_image
from dreamforge.gpu_runner.rendering.passes import Pass, PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.pipeline_cache import PipelineCache
from dreamforge.gpu_runner.rendering.prepared_inputs import map_hashes_of
from dreamforge.gpu_runner.rendering.quantiser import quantiser_versions
from dreamforge.gpu_runner.rendering.renderer import (
    DeviceReport,
    ModelKey,
    OnRunStep,
    OnStep,
    RenderedImage,
    RenderFailed,
    RenderWarning,
    first_line,
    merged,
)
from dreamforge.gpu_runner.rendering.run_peak import RunPeak
from dreamforge.gpu_runner.rendering.scanlines import sub_filtered
from dreamforge.gpu_runner.rendering.step_counter import StepCounter
from dreamforge.gpu_runner.rendering.together import can_run_together, merged_keywords
from dreamforge.gpu_runner.rendering.torch_device import TorchDevice
from dreamforge.gpu_runner.rendering.variants import pipeline_for
from dreamforge.gpu_runner.rendering.weights import inspected
from dreamforge.runtime import clock

#: Axes of the pixels of several images.
BATCH_AXES = 4


@dataclass(frozen=True, slots=True)
class _PassResult:
    pixels: RenderedPixels
    pipeline: str
    sampler: str

    def of(self, row: torch.Tensor) -> "_PassResult":
        """The result for one image of several: its pixels are (height, width, 3)."""
        return replace(self, pixels=replace(self.pixels, pixels=row))

    def rows(self) -> torch.Tensor:
        """The pixels of each image: (batch, height, width, 3)."""
        pixels = _numbers(self.pixels)
        return pixels if pixels.ndim == BATCH_AXES else pixels[None]


class DiffusersRenderer:
    """Renders with diffusers; keeps pipelines of `resident_bytes` in memory, 0: of a part of the device's.

    `features` makes what a render can do besides text to image, for one device; `settle` finds the device.
    """

    def __init__(
        self,
        *,
        device: str,
        dtype: str,
        threads: int,
        resident_bytes: int = 0,
        device_shares: int = 1,
        features: Callable[[torch.device], Sequence[RenderFeature]] = standard_features,
        settle: Callable[[str, str, int], TorchDevice] = TorchDevice.settle,
    ) -> None:
        self._device = settle(device, dtype, threads)
        self._peak = RunPeak(self._device)
        self._engine = self._device.engine()
        self._features = FeatureChain(features(self._device.device))
        self._device.limit_to_part(device_shares)
        budget_bytes = resident_bytes or self._device.resident_bytes() // device_shares
        #: Models that nothing was rendered with since they were loaded.
        self._unread: set[ModelKey] = set()
        self._refusals: dict[Path, Mapping[Rung, str]] = {}
        self._pipelines = PipelineCache(self._device, budget_bytes=budget_bytes, place=self._features.place)

    @property
    def device(self) -> torch.device:
        """Where it renders."""
        return self._device.device

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
            self._pipelines.sweep()
            loaded = self._pipelines.load(model)
            self._unread.add(model)
            self._refusals[model.path] = rung_refusals(self._pipelines.get(model), model.placement)
            return loaded

    def warnings(self, task: RenderTask) -> tuple[RenderWarning, ...]:
        """What the files of this model and the features have to say of a task, once each. Errors: RenderFailed."""
        key = ModelKey.of_task(task)
        base = self._pipelines.get(key)
        with self._device_errors():
            return merged((*self._pipelines.warnings(key), *self._features.warnings(base, task)))

    def rung_refusals(self, task: RenderTask) -> Mapping[Rung, str]:
        """What cannot be done to this model: by its parts, known once it was loaded, and by the host's memory now."""
        path = ModelKey.of_task(task).path
        of_request: dict[Rung, str] = {}
        if task.request.seamless:
            of_request[Rung.TILED_DECODE] = "a seamless image is decoded as a whole"
        if task.request.quantised_to:
            of_request[Rung.QUANTISED_WEIGHTS] = f"the request computes in {task.request.quantised_to}"
        elif task.request.loras:
            of_request[Rung.QUANTISED_WEIGHTS] = "LoRAs are not laid over weights that are quantised here"
        self._pipelines.sweep()  # what the failed run held is free for the next way
        needed_bytes = inspected(task.request.model_id, path).size.loaded_bytes(self._device.dtype.itemsize)
        offloads = offload_refusals(self._device, needed_bytes, system_memory().free_bytes)
        return {**self._refusals.get(path, {}), **offloads, **of_request}

    def render(self, task: RenderTask, seed: int, on_step: OnStep) -> RenderedImage:
        """One image, alone, from its own generator, so that its bytes depend on its recipe only."""

        def on_run_step(step: int, steps: int, previews: Mapping[int, str]) -> None:
            on_step(step, steps, previews.get(0))

        with self._running(task) as base:
            result = self._passes(base, [task], [seed], on_run_step)
            return self._finished(task, seed, result, None)

    def renders_together(self, task: RenderTask) -> bool:
        """Whether this family was tested for it; no while the model is not loaded."""
        key = ModelKey.of_task(task)
        return key in self._pipelines and can_run_together(self._pipelines.get(key))

    def prompt_form(self, task: RenderTask) -> Hashable:
        """What the features say of its prompts."""
        return self._features.form(self._pipelines.get(ModelKey.of_task(task)), task)

    def render_together(self, images: Sequence[TaskImage], on_step: OnRunStep) -> Sequence[RenderedImage | None]:
        """Several images in one run of each of their passes, each from its own generator."""
        tasks, seeds = [image.task for image in images], [image.seed for image in images]
        with self._running(*{task.task_id: task for task in tasks}.values()) as base:
            result = self._passes(base, tasks, seeds, on_step)
        return [
            None
            if place in result.pixels.lost
            else self._finished(image.task, image.seed, result.of(row), Geometry(size=len(images), place=place))
            for place, (image, row) in enumerate(zip(images, _numbers(result.pixels), strict=True))
        ]

    def encode_ahead(self, task: RenderTask) -> None:
        """Have its text encoded beside the steps of the run, if its model is in memory."""
        key = ModelKey.of_task(task)
        if key in self._pipelines:
            self._features.encode_ahead(self._pipelines.get(key), task)

    def work_seconds(self) -> float:
        """Of a CPU the processor time; a GPU works for us alone, and images are on their way back when a run ends."""
        return clock.process_seconds() if self._device.kind == "cpu" else clock.monotonic_seconds()

    def start_peak(self) -> None:
        """The next run begins."""
        self._peak.start()

    def run_peak_bytes(self, task: RenderTask) -> int | None:
        """Peak of the last run; of a model that waits in the host's memory, its parts on the device are in that.

        On a CPU not of the first run after a load, which also reads weights from the file that they are mapped to.
        """
        run_bytes, key = self._peak.run_bytes(), ModelKey.of_task(task)
        is_first, self._unread = key in self._unread, self._unread - {key}
        if run_bytes is None or (is_first and not self._device.own_memory):
            return None
        return run_bytes + (0 if task.held.offload != "none" else self._pipelines.size_bytes(key))

    def peak_bytes(self) -> int:
        """Peak memory of the device."""
        return self._peak.highest_bytes()

    @contextmanager
    def _running(self, *tasks: RenderTask) -> Iterator[Pipeline]:
        """The pipeline of tasks that run together, checked for each and prepared for all."""
        base = self._pipelines.get(ModelKey.of_task(tasks[0]))
        with self._device_errors():
            for task in tasks:
                self._features.check(base, task)
                check_passes(base, self._features.plan(task))
            self._features.prepare(base, tasks[0])
        # Not inference mode: a layer that waits in the host's memory could not come back to it.
        with self._device_errors(), torch.no_grad():
            yield base

    def _finished(self, task: RenderTask, seed: int, result: _PassResult, geometry: Geometry | None) -> RenderedImage:
        """An image after its last pass."""
        finished = self._features.finish(task, result.pixels)
        tier_dtype = task.tier.dtype if task.tier else None
        versions = self._engine.versions | quantiser_versions(task.held.quantised)
        dtype = finished.dtype or tier_dtype or self._engine.dtype
        engine = self._engine.model_copy(update={"dtype": dtype, "versions": versions})
        maps = map_hashes_of(task)
        recipe = recipe_for(
            task,
            seed,
            engine,
            pipeline=result.pipeline,
            sampler=result.sampler,
            geometry=geometry,
            maps=maps,
            optimisations=finished.optimisations,
            quantiser=eight_bit_settings(way, self.device) if (way := task.request.quantised_to) else None,
        )
        pixels = _numbers(finished).numpy()
        rows = sub_filtered(pixels) if task.request.frames is None else pixels.tobytes()
        return RenderedImage(rows, recipe, finished.warnings)

    def _passes(
        self, base: Pipeline, tasks: Sequence[RenderTask], seeds: Sequence[int], on_step: OnRunStep
    ) -> _PassResult:
        """What came of the last pass; the classes of the pipeline and the sampler are those of the first.

        Each pass is one run for all of the images, whose plans are alike.
        """
        plans = [self._features.plan(task) for task in tasks]
        first, *later = plans[0]
        counter = StepCounter(on_step, first.request.steps, sum(each.steps_made for each in later))
        result = self._run(
            [PassContext(base, task, plan[0]) for task, plan in zip(tasks, plans, strict=True)], seeds, counter
        )
        for number, each in enumerate(later, 1):
            counter.next_pass(each.request.steps, foreseen=each.steps_made)
            contexts = [
                PassContext(base, task, plan[number], as_image(row.numpy()), counter.latents_of(place))
                for place, (task, plan, row) in enumerate(zip(tasks, plans, result.rows(), strict=True))
            ]
            own = [_later_seed(task, seed, each) for task, seed in zip(tasks, seeds, strict=True)]
            over = self._run(contexts, own, counter)
            result = _PassResult(result.pixels.then(over.pixels), result.pipeline, result.sampler)
        return result

    def _run(self, contexts: Sequence[PassContext], seeds: Sequence[int], counter: StepCounter) -> _PassResult:
        """One run of a pipeline, for an image of each context. What a feature does around it, it does for all."""
        first, alone = contexts[0], len(contexts) == 1
        with pipeline_for(first.base, first.current.mode, self._features.parts(first)) as pipeline:

            def call() -> RenderedPixels:
                counter.watchers = self._watchers(contexts, pipeline)
                counter.changes = self._features.step_changes(first, pipeline)
                # On the CPU whatever the device: a GPU's generator gives other noise, and so another image.
                generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
                arguments: dict[str, Any] = {  # Any: every pipeline class has its own keyword types
                    **_size(first, pipeline),
                    **merged_keywords([self._features.arguments(context, pipeline) for context in contexts]),
                    "num_inference_steps": first.request.steps,
                    "generator": generators[0] if alone else generators,
                    "callback_on_step_end": counter.callback,
                    "output_type": "pt",
                }
                made = pipeline(**arguments)
                if first.request.frames is not None:
                    return RenderedPixels(as_bytes_of_frames(made.frames[0]))
                return RenderedPixels(as_bytes(made.images)) if alone else _pixels_of_each(made.images)

            pixels = self._features.run(first, pipeline, call)
            return _PassResult(pixels, type(pipeline).__name__, type(pipeline.scheduler).__name__)

    def _watchers(self, contexts: Sequence[PassContext], pipeline: Pipeline) -> dict[int, StepWatcher]:
        """What looks at the first image of each task, by its place."""
        places = {context.task.task_id: place for place, context in reversed(tuple(enumerate(contexts)))}
        found = {place: self._features.watch(contexts[place], pipeline) for place in sorted(places.values())}
        return {place: watcher for place, watcher in found.items() if watcher is not None}

    @contextmanager
    def _device_errors(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise self._out_of_memory(error) from error
        except torch.AcceleratorError as error:
            raise RenderFailed(FailureReason.CHILD_CRASHED, first_line(error)) from error
        except RuntimeError as error:
            # The CPU allocator raises a plain RuntimeError; its text is all there is to tell it by.
            if "can't allocate memory" in str(error):
                raise self._out_of_memory(error) from error
            raise

    def _out_of_memory(self, error: Exception) -> RenderFailed:
        """The failure, with all let go that can be loaded again."""
        self._features.release()
        return RenderFailed(FailureReason.OUT_OF_MEMORY, first_line(error), self._pipelines.clear())


def _size(context: PassContext, pipeline: Pipeline) -> dict[str, int]:
    """The keywords of the size, only where the pipeline does not take it from its image."""
    if not inspect.signature(type(pipeline).__call__).parameters.keys() >= {"width", "height"}:
        return {}
    return {"width": context.current.width_px, "height": context.current.height_px}


def _pixels_of_each(images: torch.Tensor) -> RenderedPixels:
    """The images of one run, and which of them show nothing."""
    pixels = as_bytes_of_each(images)
    return RenderedPixels(pixels, lost=frozenset(place for place, row in enumerate(pixels) if not bool(row.any())))


def _later_seed(task: RenderTask, seed: int, later: Pass) -> int:
    """The seed of a later pass of an image; each tile has noise of its own, or a pattern would repeat in all."""
    own = task.request.second_seed(seed)
    number = 0 if later.tile is None else later.tile.number
    return ((seed if own is None else own) + number) % SEEDS


def _numbers(result: RenderedPixels) -> torch.Tensor:
    if result.pixels is None:
        raise RenderFailed(FailureReason.MODEL_BROKEN, "the model gave pixels that are not numbers")
    return result.pixels
