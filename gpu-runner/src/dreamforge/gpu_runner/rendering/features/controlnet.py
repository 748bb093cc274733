"""ControlNets: networks that hold a render to uploaded images. Import this only in the child."""

import gc
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderFeature
from dreamforge.gpu_runner.rendering.load_report import LoadReport, WeightsWrong, read_part, report_warnings
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.prepared_inputs import controls_of
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed, RenderWarning
from dreamforge.gpu_runner.rendering.weights import inspected

#: What a net must share with the U-Net that it was trained beside: it is a copy of one half of it.
SHARED = ("cross_attention_dim", "block_out_channels", "in_channels", "addition_embed_type")


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    key: ModelKey
    dtype: torch.dtype
    net: Any  # Any: diffusers' classes have no types
    report: LoadReport


class ControlNetCache(RenderFeature):
    """`control` of a request, in the first pass; the nets of the last request stay in memory beside the pipelines."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._loaded: tuple[_Loaded, ...] = ()

    def warnings(self, pipeline: Pipeline, task: RenderTask) -> tuple[RenderWarning, ...]:
        """What the networks' files hold that no image will show. Errors: RenderFailed (model_missing, model_broken)."""
        nets = dict.fromkeys(self._nets(task, _dtype(pipeline)))
        return tuple(warning for net in nets for warning in report_warnings(net.report, net.key.model_id))

    def parts(self, context: PassContext) -> Keywords:
        """The networks.

        Errors: RenderFailed (model_missing, model_broken; invalid_request where one belongs to another base).
        """
        task = context.task
        if not task.request.control or not context.is_first:
            return {}
        # Each time: a pipeline that offloads its parts leaves these in the host's memory too.
        nets = [each.net.to(self._device) for each in self._nets(task, _dtype(context.base))]
        for net, use in zip(nets, task.request.control, strict=True):
            _check_fit(net, context.base, use.model_id, task)
        return {"controlnet": _alone(nets)}

    def arguments(self, context: PassContext, pipeline: Pipeline) -> Keywords:
        """Their images, scales and steps. Errors: RenderFailed(invalid_request) if a file is no image."""
        uses = context.task.request.control
        if not uses or not context.is_first:
            return {}
        # Where `image` is what is rendered over, the images of ControlNets have a keyword of their own.
        parameters = inspect.signature(type(pipeline).__call__).parameters
        name = "control_image" if "control_image" in parameters else "image"
        return {
            name: _alone([each.image for each in controls_of(context.task, context.current.size_px)]),
            "controlnet_conditioning_scale": _alone([use.scale for use in uses]),
            "control_guidance_start": [use.start for use in uses],
            "control_guidance_end": [use.end for use in uses],
        }

    def release(self) -> None:
        """Let the networks go."""
        if self._loaded:
            self._loaded = ()
            gc.collect()

    def _nets(self, task: RenderTask, dtype: torch.dtype) -> tuple[_Loaded, ...]:
        """The network of each use; those of the last request that are not among them are let go first."""
        keys = [_key(task, use.model_id) for use in task.request.control]
        kept = {each.key: each for each in self._loaded if each.key in keys and each.dtype == dtype}
        if keys and len(kept) < len(self._loaded):
            self.release()
        for key in keys:
            if key not in kept:
                kept[key] = _read(key, dtype)
                self._loaded = tuple(kept.values())
        return tuple(kept[key] for key in keys)


def _alone(each: list[Any]) -> Any:  # Any: networks, images or scales
    """Diffusers wants lists of several only."""
    return each[0] if len(each) == 1 else each


def _key(task: RenderTask, model_id: str) -> ModelKey:
    files = task.assets[model_id]
    return ModelKey(model_id, Path(files.path), files.digest)


def _read(key: ModelKey, dtype: torch.dtype) -> _Loaded:
    if not (key.path / "config.json").is_file():
        raise RenderFailed(FailureReason.MODEL_MISSING, f"{key.model_id}: no config.json in its folder")
    inspected(key.model_id, key.path)
    report = LoadReport()
    try:
        # Safetensors only, as for pipelines: a pickle runs code when it is read.
        net = read_part(diffusers.ControlNetModel, key.path, "ControlNet", dtype, report)
    except WeightsWrong as error:
        raise RenderFailed(FailureReason.MODEL_BROKEN, f"{key.model_id} does not load: {error}") from error
    return _Loaded(key, dtype, net, report)


def _check_fit(net: Any, base: Pipeline, net_id: str, task: RenderTask) -> None:  # Any: see _Loaded
    unet: Any = base.components.get("unet")
    differences = [name for name in SHARED if unet is None or _plain(net, name) != _plain(unet, name)]
    if differences:
        message = f"ControlNet {net_id} does not fit {task.request.model_id}: another {', '.join(differences)}"
        raise RenderFailed(FailureReason.INVALID_REQUEST, message)


def _plain(model: Any, name: str) -> object:  # Any: see _Loaded
    value = model.config.get(name)
    # A configuration read from JSON has lists where one made in memory has tuples.
    return tuple(value) if isinstance(value, list) else value


def _dtype(base: Pipeline) -> torch.dtype:
    unet: Any = base.components.get("unet")
    return torch.float32 if unet is None else unet.dtype
