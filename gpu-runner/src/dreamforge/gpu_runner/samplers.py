"""Samplers by name: a small vocabulary of ours over diffusers' scheduler classes."""

from typing import Any

import diffusers

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.models import SamplerName
from dreamforge.gpu_runner.renderer import RenderFailed

_CLASS_NAMES: dict[SamplerName, str] = {
    "ddim": "DDIMScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}


# Any: diffusers' schedulers share a mixin that has neither `timesteps` nor `step` in its type.
def sampler_for(native: Any, name: SamplerName | None) -> Any:
    """A new scheduler for one render: the model's own (None) or another with the model's configuration.

    New each time, because a scheduler keeps the state of its last run and pipelines share theirs.
    Errors: RenderFailed(invalid_request) where this model cannot be sampled that way.
    """
    if name is None:
        return type(native).from_config(native.config)
    wanted = getattr(diffusers, _CLASS_NAMES[name])
    compatible = {cls.__name__ for cls in native.compatibles} | {type(native).__name__}
    if wanted.__name__ not in compatible:
        raise RenderFailed(
            FailureReason.INVALID_REQUEST, f"sampler {name} does not fit a {type(native).__name__} model"
        )
    return wanted.from_config(native.config)
