"""Samplers by the names of ComfyUI: a sampler and a scheduler together are one of ours. Pure."""

from dreamforge.contracts.models.descriptor import SamplerName

#: The names of comfy/samplers.py of ComfyUI 0.3, in its order. What a model predicts decides between two that have the
#: same names there: those of flow models are `flow_euler` and `flow_heun` here.
COMFY_SAMPLERS: tuple[tuple[str, str, SamplerName], ...] = (
    ("euler", "normal", "euler"),
    ("euler", "simple", "flow_euler"),
    ("euler_ancestral", "normal", "euler_a"),
    ("heun", "normal", "heun"),
    ("heun", "simple", "flow_heun"),
    ("dpmpp_sde", "normal", "dpmpp_sde"),
    ("dpmpp_2m", "normal", "dpmpp_2m"),
    ("dpmpp_2m", "karras", "dpmpp_2m_karras"),
    ("dpmpp_2m_sde", "normal", "dpmpp_2m_sde"),
    ("ddpm", "normal", "ddpm"),
    ("lcm", "sgm_uniform", "lcm"),
    ("lcm", "normal", "lcm"),
    ("ddim", "ddim_uniform", "ddim"),
    ("ddim", "normal", "ddim"),
    ("uni_pc", "normal", "unipc"),
)
#: The model's own way, for models that take no other.
DEFAULT = "default"
SAMPLER_NAMES = (*dict.fromkeys(name for name, _, _ in COMFY_SAMPLERS), DEFAULT)
SCHEDULERS = (*dict.fromkeys(schedule for _, schedule, _ in COMFY_SAMPLERS), DEFAULT)
_OURS = {(name, schedule): ours for name, schedule, ours in COMFY_SAMPLERS}


def sampler_of(name: str, scheduler: str) -> SamplerName | None:
    """Our sampler; None for the model's own. Errors: KeyError with the schedulers that the sampler has here.

    >>> sampler_of("dpmpp_2m", "karras"), sampler_of("default", "normal")
    ('dpmpp_2m_karras', None)
    """
    if name == DEFAULT:
        return None
    if (name, scheduler) not in _OURS:
        raise KeyError(", ".join(schedule for sampler, schedule in _OURS if sampler == name))
    return _OURS[name, scheduler]
