"""Another autoencoder than the model's own. Import this only in the child.

It takes its place in the pipeline of each pass; the pipeline in memory keeps its own.
"""

import gc
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.loaders.single_file_utils import SingleFileComponentError

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderFeature
from dreamforge.gpu_runner.rendering.load_report import (
    UNREADABLE,
    LoadReport,
    WeightsWrong,
    check_complete,
    read_part,
    report_warnings,
)
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed, RenderWarning, first_line
from dreamforge.gpu_runner.rendering.weights import inspected
from dreamforge.runtime.storage.model_inspection import lora_file

#: What a VAE must share with the one that the denoiser was trained beside: the channels of latents, and their scale.
SHARED = ("latent_channels", "scaling_factor", "shift_factor")
#: That of an AutoencoderTiny, which was trained on latents as the denoiser has them.
UNSCALED = {"scaling_factor": 1.0, "shift_factor": 0.0}


@dataclass(frozen=True, slots=True)
class _Loaded:
    #: A file without a configuration is read with that of the base: the same file with another base is another VAE.
    key: tuple[ModelKey, Path, torch.dtype]
    vae: Any  # Any: diffusers' classes have no types
    report: LoadReport


class OtherVae(RenderFeature):
    """`vae` of a request; the last one used stays in memory beside the pipelines."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._loaded: _Loaded | None = None

    def warnings(self, pipeline: Pipeline, task: RenderTask) -> tuple[RenderWarning, ...]:
        """What its files hold that no image will show. Errors: RenderFailed (model_missing, model_broken)."""
        if task.request.vae is None:
            return ()
        return report_warnings(self._loaded_vae(task, task.request.vae, pipeline).report, task.request.vae)

    def parts(self, context: PassContext) -> Keywords:
        """The VAE. Errors: RenderFailed (model_broken; invalid_request where it has other latents than the base)."""
        task = context.task
        if (vae_id := task.request.vae) is None:
            return {}
        # Each time: a pipeline that offloads its parts leaves this one in the host's memory too.
        vae = self._loaded_vae(task, vae_id, context.base).vae.to(self._device)
        _check_fit(vae, context.base, task)
        if task.tier is not None and task.tier.vae_tiling:
            vae.enable_tiling()
        else:
            vae.disable_tiling()
        return {"vae": vae}

    def release(self) -> None:
        """Let it go."""
        if self._loaded is not None:
            self._loaded = None
            gc.collect()

    def _loaded_vae(self, task: RenderTask, vae_id: str, base: Pipeline) -> _Loaded:
        own = _own_vae(base, task)
        key = (ModelKey.of_asset(vae_id, task), Path(task.model.path), own.dtype)
        if self._loaded is None or self._loaded.key != key:
            self.release()
            self._loaded = _Loaded(key, *_read(*key))
        return self._loaded


def _own_vae(base: Pipeline, task: RenderTask) -> Any:  # Any: see _Loaded
    own = base.components.get("vae")
    if not isinstance(own, diffusers.AutoencoderKL):
        message = f"{task.request.model_id} has no AutoencoderKL whose place another VAE could take"
        raise RenderFailed(FailureReason.INVALID_REQUEST, message)
    return own


def _read(key: ModelKey, base_folder: Path, dtype: torch.dtype) -> tuple[Any, LoadReport]:  # Any: see _Loaded
    inspected(key.model_id, key.path)
    report = LoadReport()
    try:
        if (key.path / "config.json").is_file():
            return read_part(_class_of(key.path), key.path, "VAE", dtype, report), report
        return _read_file(key.path, base_folder, dtype), report
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except (WeightsWrong, SingleFileComponentError, *UNREADABLE) as error:
        message = f"VAE {key.model_id} does not load: {first_line(error)}"
        raise RenderFailed(FailureReason.MODEL_BROKEN, message) from error


def _class_of(folder: Path) -> Any:  # Any: see _Loaded
    """AutoencoderKL, or a distilled one: smaller and faster, and of other pixels. The registry has no other kinds."""
    name = json.loads((folder / "config.json").read_text()).get("_class_name")
    return diffusers.AutoencoderTiny if name == "AutoencoderTiny" else diffusers.AutoencoderKL


def _read_file(folder: Path, base_folder: Path, dtype: torch.dtype) -> Any:  # Any: see _Loaded
    """A VAE of one file, with the configuration of the base's own."""
    vae = diffusers.AutoencoderKL.from_single_file(
        str(lora_file(folder)), config=str(base_folder), subfolder="vae", dtype=dtype, local_files_only=True
    )
    check_complete("VAE", vae)
    return vae


def _check_fit(vae: Any, base: Pipeline, task: RenderTask) -> None:  # Any: see _Loaded
    needed = {name: _own_vae(base, task).config.get(name) for name in SHARED}
    words = "where the model has"
    if isinstance(vae, diffusers.AutoencoderTiny):
        needed, words = needed | UNSCALED, "where an AutoencoderTiny needs"
    differences = [
        f"{name} {vae.config.get(name)} {words} {value}"
        for name, value in needed.items()
        if vae.config.get(name) != value
    ]
    if differences:
        message = f"VAE {task.request.vae} does not fit {task.request.model_id}: {', '.join(differences)}"
        raise RenderFailed(FailureReason.INVALID_REQUEST, message)
