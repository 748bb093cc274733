"""The real renderer: any diffusers text-to-image folder, on the CPU or an NVIDIA GPU.

Import this only in the child: it costs seconds and hundreds of megabytes.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.pipeline import Pipeline
from dreamforge.gpu_runner.prompts import prompt_arguments, remarks_on
from dreamforge.gpu_runner.recipe import Engine, recipe_for
from dreamforge.gpu_runner.renderer import DeviceReport, ModelKey, OnStep, Painted, Remark, RenderFailed
from dreamforge.gpu_runner.residents import Residents
from dreamforge.gpu_runner.samplers import sampler_for, steps_limit
from dreamforge.gpu_runner.scanlines import sub_filtered
from dreamforge.gpu_runner.task import RenderTask
from dreamforge.gpu_runner.torch_device import TorchDevice

#: Side in pixels that one latent stands for, where a pipeline does not say: Stable Diffusion's.
DEFAULT_SIZE_MULTIPLE = 8


class DiffusersRenderer:
    """Paints with diffusers; keeps its pipelines resident."""

    def __init__(self, *, device: str, dtype: str, threads: int, resident_models: int) -> None:
        self._device = TorchDevice.settle(device, dtype, threads)
        self._engine = self._device.engine()
        self._residents = Residents(self._device, capacity=resident_models)

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
        return remarks_on(self._residents.get(ModelKey(task.model_id, Path(task.model_path), task.model_digest)), task)

    def paint(self, task: RenderTask, seed: int, on_step: OnStep) -> Painted:
        """One image, alone, from its own generator, so that its bytes depend on its recipe only."""
        pipeline = self._residents.get(ModelKey(task.model_id, Path(task.model_path), task.model_digest))
        check_request(pipeline, task)
        native = pipeline.scheduler
        try:
            pipeline.scheduler = sampler_for(native, task.sampler)
            sampler = type(pipeline.scheduler).__name__
            with self._device_errors(), torch.inference_mode():
                pixels = _pixels(self._call(pipeline, task, seed, on_step))
        finally:
            pipeline.scheduler = native
        recipe = recipe_for(task, seed, self._engine, pipeline=type(pipeline).__name__, sampler=sampler)
        return Painted(sub_filtered(pixels.numpy()), recipe)

    def peak_bytes(self) -> int:
        """Peak memory of the device."""
        return self._device.peak_bytes()

    def _call(self, pipeline: Pipeline, task: RenderTask, seed: int, on_step: OnStep) -> torch.Tensor:
        arguments: dict[str, Any] = {  # Any: every pipeline class has its own keyword types
            **prompt_arguments(pipeline, task),
            "width": task.width_px,
            "height": task.height_px,
            "num_inference_steps": task.steps,
            "guidance_scale": task.guidance_scale,
            # On the CPU whatever the device: a GPU's generator gives other noise, and so another picture.
            "generator": torch.Generator("cpu").manual_seed(seed),
            "callback_on_step_end": step_callback(on_step, task.steps),
            "output_type": "pt",
        }
        images: torch.Tensor = pipeline(**arguments).images
        return images

    @contextmanager
    def _device_errors(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            self._residents.clear()
            raise RenderFailed(FailureReason.OUT_OF_MEMORY, _first_line(error)) from error
        except torch.AcceleratorError as error:
            raise RenderFailed(FailureReason.CHILD_CRASHED, _first_line(error)) from error
        except RuntimeError as error:
            if reason := _cpu_memory_reason(error):
                raise RenderFailed(reason, _first_line(error)) from error
            raise


# Any: the callback's first argument is whichever pipeline runs, its last a dict of tensors.
def step_callback(on_step: OnStep, steps: int) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    """diffusers' callback (step from 0) as ours (step from 1, of all).

    What `on_step` raises unwinds the pipeline, which stays usable; its own `_interrupt` flag would still
    decode and return an image.
    """

    def callback(pipeline: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        # A scheduler of second order takes more steps than were asked for.
        on_step(step + 1, max(steps, int(getattr(pipeline, "num_timesteps", steps))))
        return tensors

    return callback


def check_request(pipeline: Pipeline, task: RenderTask) -> None:
    """Refuse what diffusers would take badly, or silently. Errors: RenderFailed(invalid_request)."""
    multiple = size_multiple(pipeline)
    for name, size_px in (("width", task.width_px), ("height", task.height_px)):
        if size_px % multiple:
            raise RenderFailed(
                FailureReason.INVALID_REQUEST, f"{name} {size_px} is not a multiple of {multiple} pixels"
            )
    if task.steps > (limit := steps_limit(pipeline.scheduler)):
        raise RenderFailed(FailureReason.INVALID_REQUEST, f"{task.steps} steps, and this model has {limit}")
    parameters = inspect.signature(type(pipeline).__call__).parameters
    if "callback_on_step_end" not in parameters or "prompt" not in parameters:
        raise RenderFailed(
            FailureReason.INVALID_REQUEST, f"{type(pipeline).__name__} does not paint from a prompt in steps"
        )
    if task.negative_prompt and "negative_prompt" not in parameters:
        raise RenderFailed(FailureReason.INVALID_REQUEST, f"{type(pipeline).__name__} takes no negative prompt")


def size_multiple(pipeline: Pipeline) -> int:
    """What both sides must be multiples of, in pixels; a transformer packs several latents into one token."""
    scale = int(getattr(pipeline, "vae_scale_factor", DEFAULT_SIZE_MULTIPLE))
    processor = getattr(pipeline, "image_processor", None)
    packed = int(processor.config.vae_scale_factor) if processor is not None else scale
    return max(scale * int(getattr(pipeline, "patch_size", 1)), packed)


def _pixels(images: torch.Tensor) -> torch.Tensor:
    """Bytes (height, width, 3) of the first image of (1, 3, height, width) floats in [0, 1]."""
    image = images[0].float().cpu()
    if not bool(torch.isfinite(image).all()):
        raise RenderFailed(FailureReason.MODEL_BROKEN, "the model gave pixels that are not numbers")
    return (image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def _cpu_memory_reason(error: RuntimeError) -> FailureReason | None:
    # The CPU allocator raises a plain RuntimeError; its text is all there is to tell it by.
    return FailureReason.OUT_OF_MEMORY if "can't allocate memory" in str(error) else None


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
