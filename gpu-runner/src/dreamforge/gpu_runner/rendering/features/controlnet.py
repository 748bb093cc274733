"""ControlNet: a second network that holds a render to an uploaded image. Import this only in the child."""

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
from dreamforge.gpu_runner.rendering.prepared_inputs import control_of
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed, RenderWarning
from dreamforge.gpu_runner.rendering.weights import inspected

#: What a net must share with the U-Net that it was trained beside: it is a copy of one half of it.
SHARED = ("cross_attention_dim", "block_out_channels", "in_channels", "addition_embed_type")


@dataclass(frozen=True, slots=True)
class _Loaded:
    key: ModelKey
    dtype: torch.dtype
    net: Any  # Any: diffusers' classes have no types
    report: LoadReport


class ControlNetCache(RenderFeature):
    """`control` of a request, in the first pass; the last ControlNet used stays in memory beside the pipelines."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._loaded: _Loaded | None = None

    def warnings(self, pipeline: Pipeline, task: RenderTask) -> tuple[RenderWarning, ...]:
        """What the network's files hold that no image will show. Errors: RenderFailed (model_missing, model_broken)."""
        if (use := task.request.control) is None:
            return ()
        return report_warnings(self._loaded_net(task, use.model_id, _dtype(pipeline)).report, use.model_id)

    def parts(self, context: PassContext) -> Keywords:
        """The network.

        Errors: RenderFailed (model_missing, model_broken; invalid_request where it belongs to another base).
        """
        task = context.task
        if (use := task.request.control) is None or not context.is_first:
            return {}
        # Each time: a pipeline that offloads its parts leaves this one in the host's memory too.
        net = self._loaded_net(task, use.model_id, _dtype(context.base)).net.to(self._device)
        _check_fit(net, context.base, use.model_id, task)
        return {"controlnet": net}

    def arguments(self, context: PassContext, pipeline: Pipeline) -> Keywords:
        """Its image and its scale. Errors: RenderFailed(invalid_request) if the file is no image."""
        if (use := context.task.request.control) is None or not context.is_first:
            return {}
        followed = control_of(context.task, context.current.size_px)
        # Where `image` is what is rendered over, the ControlNet's image has a keyword of its own.
        parameters = inspect.signature(type(pipeline).__call__).parameters
        name = "control_image" if "control_image" in parameters else "image"
        return {name: followed.image if followed else None, "controlnet_conditioning_scale": use.scale}

    def release(self) -> None:
        """Let the network go."""
        if self._loaded is not None:
            self._loaded = None
            gc.collect()

    def _loaded_net(self, task: RenderTask, model_id: str, dtype: torch.dtype) -> _Loaded:
        files = task.assets[model_id]
        key = ModelKey(model_id, Path(files.path), files.digest)
        if self._loaded is None or (self._loaded.key, self._loaded.dtype) != (key, dtype):
            self.release()
            self._loaded = _read(key, dtype)
        return self._loaded


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
