"""The real renderer: any diffusers text-to-image folder, on the CPU or an NVIDIA GPU.

Import this only in the child: it costs seconds and hundreds of megabytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.recipe import Engine, recipe_for
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.checks import check_request
from dreamforge.gpu_runner.rendering.features.controlnet import Controls
from dreamforge.gpu_runner.rendering.features.lora import Adapters
from dreamforge.gpu_runner.rendering.features.previews import Previews
from dreamforge.gpu_runner.rendering.features.prompts import prompt_arguments, remarks_on
from dreamforge.gpu_runner.rendering.features.samplers import sampler_for
from dreamforge.gpu_runner.rendering.images import as_picture
from dreamforge.gpu_runner.rendering.passes import (
    Pass,
    first_pass,
    pass_arguments,
    pipeline_for,
    second_pass,
    steps_made,
)
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.pipeline_cache import Residents
from dreamforge.gpu_runner.rendering.precision_fallback import Sound, soundly
from dreamforge.gpu_runner.rendering.renderer import DeviceReport, ModelKey, OnStep, Painted, Remark, RenderFailed
from dreamforge.gpu_runner.rendering.scanlines import sub_filtered
from dreamforge.gpu_runner.rendering.step_counter import Counter
from dreamforge.gpu_runner.rendering.torch_device import TorchDevice


class DiffusersRenderer:
    """Paints with diffusers; keeps pipelines of `resident_bytes` in memory, 0: of a share of the device's."""

    def __init__(self, *, device: str, dtype: str, threads: int, resident_bytes: int = 0) -> None:
        self._device = TorchDevice.settle(device, dtype, threads)
        self._engine = self._device.engine()
        self._residents = Residents(self._device, budget_bytes=resident_bytes or self._device.resident_bytes())
        self._previews = Previews()
        self._adapters = Adapters()
        self._controls = Controls(self._device.device)

    @property
    def engine(self) -> Engine:
        """What paints."""
        return self._engine

    @property
    def instant(self) -> bool:
        """Never: somebody watches these steps."""
        return False

    def device_report(self) -> DeviceReport:
        """The device's memory, now."""
        return self._device.report()

    def is_resident(self, model: ModelKey) -> bool:
        """Whether the pipeline is in memory."""
        return model in self._residents

    def load(self, model: ModelKey) -> tuple[int, tuple[str, ...]]:
        """Read a model folder. Errors: RenderFailed."""
        with self._device_errors():
            return self._residents.load(model)

    def remarks(self, task: RenderTask) -> tuple[Remark, ...]:
        """What its prompts lose in this model."""
        return remarks_on(self._residents.get(ModelKey.of_task(task)), task)

    def paint(self, task: RenderTask, seed: int, on_step: OnStep) -> Painted:
        """One image, alone, from its own generator, so that its bytes depend on its recipe only."""
        base = self._residents.get(ModelKey.of_task(task))
        check_request(base, task, sampler_for(base.scheduler, task.sampler))
        with self._device_errors():
            self._adapters.lay(base, task.loras, task.model_id)
        # Not inference mode: a layer that waits in the host's memory could not come back to it.
        with self._device_errors(), torch.no_grad():
            sound, pipeline, sampler = self._passes(base, task, seed, on_step)
        engine = self._engine.model_copy(update={"dtype": sound.dtype or _dtype(task) or self._engine.dtype})
        recipe = recipe_for(task, seed, engine, pipeline=pipeline, sampler=sampler)
        return Painted(sub_filtered(sound.pixels.numpy()), recipe, sound.remarks)

    def _passes(self, base: Pipeline, task: RenderTask, seed: int, on_step: OnStep) -> tuple[Sound, str, str]:
        """What came of the last pass; the pipeline's and the sampler's class of the first."""
        upscale = task.upscale
        later = steps_made(task.steps, upscale.strength) if upscale else 0
        counter = Counter(on_step, task.steps, later)
        first = first_pass(task, self._controls.control_for(base, task))
        sound, pipeline, sampler = self._run(base, task, first, seed, counter)
        if upscale is not None:
            counter.next_pass()
            enlarged = second_pass(upscale, as_picture(sound.pixels.numpy()))
            sound = sound.then(self._run(base, task, enlarged, seed, counter)[0])
        return sound, pipeline, sampler

    def _run(
        self, base: Pipeline, task: RenderTask, a_pass: Pass, seed: int, counter: Counter
    ) -> tuple[Sound, str, str]:
        scheduler = sampler_for(base.scheduler, task.sampler)
        net = a_pass.control.net if a_pass.control else None
        with pipeline_for(base, a_pass.mode, net, scheduler) as pipeline:

            def paint() -> torch.Tensor:
                arguments: dict[str, Any] = {  # Any: every pipeline class has its own keyword types
                    **prompt_arguments(pipeline, task),
                    **pass_arguments(pipeline, a_pass),
                    "num_inference_steps": task.steps,
                    "guidance_scale": task.guidance_scale,
                    # On the CPU whatever the device: a GPU's generator gives other noise, and so another picture.
                    "generator": torch.Generator("cpu").manual_seed(seed),
                    "callback_on_step_end": counter.callback,
                    "output_type": "pt",
                }
                with _sampler_errors(task):
                    images: torch.Tensor = pipeline(**arguments).images
                return images

            size = {"width_px": a_pass.width_px, "height_px": a_pass.height_px}
            counter.watcher = self._previews.of(pipeline, task.preview_seconds, **size)
            return soundly(pipeline, paint), type(pipeline).__name__, type(scheduler).__name__

    def peak_bytes(self) -> int:
        """Peak memory of the device."""
        return self._device.peak_bytes()

    @contextmanager
    def _device_errors(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            self._controls.clear()
            self._residents.clear()
            raise RenderFailed(FailureReason.OUT_OF_MEMORY, _first_line(error)) from error
        except torch.AcceleratorError as error:
            raise RenderFailed(FailureReason.CHILD_CRASHED, _first_line(error)) from error
        except RuntimeError as error:
            if reason := _cpu_memory_reason(error):
                raise RenderFailed(reason, _first_line(error)) from error
            raise


@contextmanager
def _sampler_errors(task: RenderTask) -> Iterator[None]:
    """A pipeline that drives its scheduler in a way that the wished sampler does not know says so in these words."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if task.sampler is None or "set_timesteps" not in str(error):
            raise
        message = f"sampler {task.sampler} does not fit {task.model_id}: {_first_line(error)}"
        raise RenderFailed(FailureReason.INVALID_REQUEST, message) from error


def _dtype(task: RenderTask) -> str | None:
    return task.tier.dtype if task.tier else None


def _cpu_memory_reason(error: RuntimeError) -> FailureReason | None:
    # The CPU allocator raises a plain RuntimeError; its text is all there is to tell it by.
    return FailureReason.OUT_OF_MEMORY if "can't allocate memory" in str(error) else None


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
