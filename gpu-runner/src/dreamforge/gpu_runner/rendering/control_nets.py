"""Networks that hold a render to an image, kept in memory beside the pipelines. Import this only in the child.

ControlNets and T2I-Adapters are used alike, and are one kind of model: their configuration says which of them a folder
has.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.values import ControlUse
from dreamforge.gpu_runner.protocol.render_task import ModelFiles, RenderTask
from dreamforge.gpu_runner.rendering.load_report import LoadReport, WeightsWrong, read_part
from dreamforge.gpu_runner.rendering.network_cache import NetworkCache
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed
from dreamforge.gpu_runner.rendering.weights import inspected


@dataclass(frozen=True, slots=True, eq=False)
class LoadedNet:
    """One network in memory."""

    key: ModelKey
    dtype: torch.dtype
    net: Any  # Any: diffusers' classes have no types
    report: LoadReport


class NetCache:
    """Networks of one class of diffusers, which errors call by `name`: those of the last request."""

    def __init__(self, net_class: Any, name: str) -> None:  # Any: see LoadedNet
        self._class, self._name = net_class, name
        self._cache = NetworkCache(self._read)

    def uses_of(self, task: RenderTask) -> Iterator[tuple[int, ControlUse]]:
        """The uses of such networks, with their places in the request."""
        name = self._class.__name__
        uses = enumerate(task.request.control)
        return ((place, use) for place, use in uses if _class_name(task.assets[use.model_id]) == name)

    def nets(self, task: RenderTask, base: Pipeline) -> tuple[LoadedNet, ...]:
        """The network of each use. Errors: RenderFailed(model_broken)."""
        return self._cache.take([ModelKey.of_asset(use.model_id, task) for _, use in self.uses_of(task)], _dtype(base))

    def release(self) -> None:
        """Let them go."""
        self._cache.release()

    def _read(self, key: ModelKey, dtype: torch.dtype) -> LoadedNet:
        inspected(key.model_id, key.path)
        report = LoadReport()
        try:
            # Safetensors only, as for pipelines: a pickle runs code when it is read.
            net = read_part(self._class, key.path, self._name, dtype, report)
        except WeightsWrong as error:
            raise RenderFailed(FailureReason.MODEL_BROKEN, f"{key.model_id} does not load: {error}") from error
        return LoadedNet(key, dtype, net, report)


def check_controls(task: RenderTask, *classes: Any) -> None:  # Any: see LoadedNet
    """Errors: RenderFailed (model_missing; invalid_request for a network that is none of these)."""
    known = {each.__name__ for each in classes}
    for use in task.request.control:
        if (name := _class_name(task.assets[use.model_id])) is None:
            raise RenderFailed(FailureReason.MODEL_MISSING, f"{use.model_id}: no config.json in its folder")
        if name not in known:
            message = f"{use.model_id} is a {name}, not a {' or a '.join(sorted(known))}"
            raise RenderFailed(FailureReason.INVALID_REQUEST, message)


def misfit(net_id: str, task: RenderTask, what: str, differences: list[str]) -> RenderFailed:
    """The error of a network for another base."""
    message = f"{what} {net_id} does not fit {task.request.model_id}: another {', '.join(differences)}"
    return RenderFailed(FailureReason.INVALID_REQUEST, message)


def plain_setting(model: Any, name: str) -> object:  # Any: see LoadedNet
    """A setting of a network: read from JSON it has lists where one made in memory has tuples."""
    value = model.config.get(name)
    return tuple(value) if isinstance(value, list) else value


def _class_name(files: ModelFiles) -> str | None:
    try:
        return _read_class_name(files)
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=64)
def _read_class_name(files: ModelFiles) -> str:
    """Errors: OSError, ValueError, which are not kept: the file may be there the next time."""
    return str(json.loads((Path(files.path) / "config.json").read_text()).get("_class_name"))


def _dtype(base: Pipeline) -> torch.dtype:
    unet: Any = base.components.get("unet")
    return torch.float32 if unet is None else unet.dtype
