"""What diffusers and transformers only log while they load weights, as errors and warnings.

A weight that no file holds is filled with random numbers by both, other ones in each process: the images are noise,
and a recipe has no meaning. Import this only in the child.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.events import WarningCode
from dreamforge.gpu_runner.rendering.renderer import RenderWarning, first_line
from dreamforge.gpu_runner.rendering.weights import variant_of
from dreamforge.runtime.storage.checkpoint_layout import SCALED

#: How many keys a message names; the warning's `words` have more.
KEYS_SHOWN = 3
#: Names in a checkpoint that say how the model was trained, to what the scheduler must say for it. Source: these two
#: are written by the trainers of velocity-predicting SDXL models.
MARKERS: Mapping[str, Mapping[str, object]] = {
    "v_pred": {"prediction_type": "v_prediction"},
    "ztsnr": {"rescale_betas_zero_snr": True},
}
#: Keys that say nothing about an image: tables that are computed anew, and what training and its tools left behind.
IDLE = re.compile(
    r"(^|\.)(position_ids|num_batches_tracked|logit_scale)$"
    r"|^(alphas_cumprod|betas|sqrt_|log_one_minus_|posterior_|logvar|lvlb_weights|scale_factor|global_step|epoch)"
    r"|^(model_ema|denoiser|first_stage_model\.loss|loss)\."
)


#: What the libraries raise for files and configurations that they cannot read.
UNREADABLE = (SafetensorError, OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError, ImportError)


@dataclass(eq=False)
class WeightsWrong(ForgeError):
    """The weights of a part are not all of those that its configuration asks for, or not as it asks for them."""

    code = "weights_wrong"
    part: str
    problem: str

    def __str__(self) -> str:
        return f"{self.part}: {self.problem}"


@dataclass(slots=True)
class LoadReport:
    """What was found beside the weights that a model needs."""

    #: Keys of its files that nothing has read, each after the name of its part.
    ignored_keys: list[str] = field(default_factory=list)
    #: Settings in configurations of its parts that this version of diffusers does not know.
    ignored_settings: list[str] = field(default_factory=list)
    #: What the markers in its files ask of the scheduler.
    scheduler_settings: dict[str, object] = field(default_factory=dict)

    def add_unread(self, part: str, keys: Iterable[str]) -> None:
        """Sort keys that nothing has read. Errors: WeightsWrong where they belong to weights that were read."""
        unread = sorted(key for key in keys if not IDLE.search(key))
        if scaled := [key for key in unread if SCALED.search(key)]:
            problem = f"weights in numbers with a scale apart, which is not applied ({shown(scaled)})"
            raise WeightsWrong(part, f"{problem}; take the file in fp16, bf16 or plain fp8")
        for key in unread:
            if key in MARKERS:
                self.scheduler_settings |= MARKERS[key]
            else:
                self.ignored_keys.append(f"{part}: {key}")


def read_part(part_class: Any, folder: Path, name: str, dtype: torch.dtype, report: LoadReport, **how: Any) -> Any:
    """A model of diffusers or transformers from its folder, with every one of its weights from there. Any: untyped.

    `how` has further keywords of `from_pretrained`. Whatever the libraries raise is said of the part.
    Errors: WeightsWrong; MemoryError, torch.OutOfMemoryError, torch.AcceleratorError.
    """
    try:
        module, info = part_class.from_pretrained(
            str(folder),
            dtype=dtype,
            variant=variant_of(folder),
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # so that they are named below
            output_loading_info=True,
            **how,
        )
    except (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as error:  # whatever the libraries choose
        raise WeightsWrong(name, first_line(error) or type(error).__name__) from error
    if missing := info["missing_keys"]:
        raise lacking(name, missing)
    if mismatched := [key for key, *_ in info["mismatched_keys"]]:
        raise WeightsWrong(name, f"weights of another shape than its config.json says: {shown(mismatched)}")
    report.add_unread(name, info["unexpected_keys"])
    report.ignored_settings += [f"{name}: {setting}" for setting in unknown_settings(module)]
    return module


def check_complete(name: str, module: torch.nn.Module) -> None:
    """Whether every weight was filled from a file, where the library gives no report. Errors: WeightsWrong.

    A module that is built without memory ("meta") keeps its unfilled weights there.
    """
    missing = _unfilled(module)
    if missing and isinstance(module, PreTrainedModel):
        module.tie_weights(missing_keys=set(missing))
        missing = _unfilled(module)
    if missing:
        raise lacking(name, missing)


def _unfilled(module: torch.nn.Module) -> list[str]:
    return [key for key, tensor in module.state_dict().items() if tensor.is_meta]


def lacking(name: str, keys: Iterable[str]) -> WeightsWrong:
    """The error of weights that no file has."""
    missing = sorted(keys)
    return WeightsWrong(name, f"{len(missing)} weights are missing from its files: {shown(missing)}")


#: What trainers leave in a configuration: their moving average of the weights is not used for rendering.
TRAINING = frozenset(
    {"decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup"}
)


def unknown_settings(module: Any) -> tuple[str, ...]:  # Any: diffusers' classes have no types
    """The settings of a diffusers model that its class does not take; other libraries keep what they do not know."""
    configuration = getattr(module, "config", None)
    if not isinstance(configuration, Mapping):
        return ()
    known = {*signature(type(module).__init__).parameters, *TRAINING, "quantization_config", "dtype", "torch_dtype"}
    public = {name: value for name, value in configuration.items() if not name.startswith("_")}
    unknown = [name for name, value in public.items() if name not in known and value not in (None, False)]
    if not unknown:
        return ()
    with torch.device("meta"):
        made = type(module).from_config({name: value for name, value in public.items() if name in known})
    # Some classes note what they computed.
    return tuple(name for name in unknown if name not in made.config)


def report_warnings(report: LoadReport, model_id: str) -> tuple[RenderWarning, ...]:
    """What the owner of a task should know of what lay beside the weights."""
    said = (
        (WarningCode.KEYS_IGNORED, "has keys in its files that nothing reads", report.ignored_keys),
        (WarningCode.SETTINGS_IGNORED, "has settings that nothing reads", report.ignored_settings),
    )
    return tuple(
        RenderWarning(code, f"{model_id} {what}: {shown(names)}", tuple(names)) for code, what, names in said if names
    )


def shown(keys: Iterable[str], most: int = KEYS_SHOWN) -> str:
    """The first of some keys, and how many more there are."""
    names = list(keys)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
