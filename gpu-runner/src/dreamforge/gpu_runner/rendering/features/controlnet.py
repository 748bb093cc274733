"""ControlNets, kept beside the pipelines that they hold to a picture. Import this only in the child."""

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import ControlTask, RenderTask
from dreamforge.gpu_runner.rendering.images import read_picture
from dreamforge.gpu_runner.rendering.passes import Control
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.pipeline_cache import variant_of
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed

#: What a net must share with the U-Net that it was trained beside: it is a copy of one half of it.
SHARED = ("cross_attention_dim", "block_out_channels", "in_channels", "addition_embed_type")


@dataclass(frozen=True, slots=True)
class _Held:
    key: ModelKey
    dtype: torch.dtype
    net: Any  # Any: diffusers' classes have no types


class Controls:
    """At most one ControlNet in memory: the last one used."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._held: _Held | None = None

    def control_for(self, pipeline: Pipeline, task: RenderTask) -> Control | None:
        """What a task wants to be held to, if anything.

        Errors: RenderFailed (model_missing, model_broken; invalid_request where it fits another base, or its
        picture is none).
        """
        if (wish := task.control) is None:
            return None
        net = self._net(wish, _dtype(pipeline))
        _check_fit(net, pipeline, wish, task.model_id)
        picture = read_picture(wish.image, width_px=task.width_px, height_px=task.height_px)
        return Control(net, picture, wish.scale)

    def clear(self) -> None:
        """Let it go."""
        if self._held is not None:
            self._held = None
            gc.collect()

    def _net(self, wish: ControlTask, dtype: torch.dtype) -> Any:  # Any: see _Held
        key = ModelKey(wish.model_id, Path(wish.path), wish.digest)
        if self._held is None or (self._held.key, self._held.dtype) != (key, dtype):
            self.clear()
            self._held = _Held(key, dtype, _read(key, dtype))
        # Each time: a pipeline that offloads its parts leaves this one in the host's memory too.
        return self._held.net.to(self._device)


def _read(key: ModelKey, dtype: torch.dtype) -> Any:  # Any: see _Held
    if not (key.path / "config.json").is_file():
        raise RenderFailed(FailureReason.MODEL_MISSING, f"{key.model_id}: no config.json in its folder")
    read: Any = diffusers.ControlNetModel.from_pretrained  # Any: it has no types
    try:
        # Safetensors only, as for pipelines: a pickle runs code when it is read.
        net = read(
            str(key.path), dtype=dtype, use_safetensors=True, local_files_only=True, variant=variant_of(key.path)
        )
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise RenderFailed(FailureReason.MODEL_BROKEN, f"{key.model_id} does not load: {error}") from error
    return net


def _check_fit(net: Any, pipeline: Pipeline, wish: ControlTask, model_id: str) -> None:  # Any: see _Held
    unet: Any = pipeline.components.get("unet")
    differences = [name for name in SHARED if unet is None or _plain(net, name) != _plain(unet, name)]
    if differences:
        message = f"ControlNet {wish.model_id} does not fit {model_id}: another {', '.join(differences)}"
        raise RenderFailed(FailureReason.INVALID_REQUEST, message)


def _plain(model: Any, name: str) -> object:  # Any: see _Held
    value = model.config.get(name)
    # A configuration read from JSON has lists where one made in memory has tuples.
    return tuple(value) if isinstance(value, list) else value


def _dtype(pipeline: Pipeline) -> torch.dtype:
    unet: Any = pipeline.components.get("unet")
    return torch.float32 if unet is None else unet.dtype
