"""Models, samplers and schedulers by the names that A1111 has for them. Pure."""

import re
from collections.abc import Iterable, Mapping

from dreamforge.contracts.models.descriptor import ModelDescriptor, SamplerName
from dreamforge.contracts.pictures.samplers import A1111_SAMPLERS, A1111Sampler

Models = Mapping[str, ModelDescriptor]
#: What a client sends that leaves the choice to A1111.
AUTOMATIC = frozenset(("", "automatic", "none"))
#: The schedule that A1111 calls the plain one of a sampler: evenly spaced steps.
PLAIN = "uniform"
#: The schedule that A1111 takes by itself (modules/sd_samplers_kdiffusion.py, 1.10); of others their plain one.
_SCHEDULE_OF = {"DPM++ 2M": "Karras"}
#: Source: modules/sd_samplers_kdiffusion.py and sd_samplers_timesteps.py, 1.10.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "DPM++ 2M": ("k_dpmpp_2m",),
    "DPM++ SDE": ("k_dpmpp_sde",),
    "DPM++ 2M SDE": ("k_dpmpp_2m_sde",),
    "Euler": ("k_euler",),
    "Euler a": ("k_euler_a", "k_euler_ancestral"),
    "Heun": ("k_heun",),
    "LCM": ("k_lcm",),
    "DDIM": ("ddim",),
    "PLMS": ("plms",),
    "UniPC": ("unipc",),
}
_HASH_CHARS, _CONTROL_HASH_CHARS = 10, 8
_HASHED = re.compile(r"(?P<name>.*?)(?:\.safetensors|\.ckpt)?(?: \[[0-9a-f]+\])?")


def title_of(model: ModelDescriptor) -> str:
    """A model as A1111 lists it: its name and the beginning of its hash."""
    return f"{model.model_id} [{short_hash(model)}]"


def control_title_of(model: ModelDescriptor) -> str:
    """The same of a ControlNet, as its extension lists it."""
    return f"{model.model_id} [{model.digest[:_CONTROL_HASH_CHARS]}]"


def short_hash(model: ModelDescriptor) -> str:
    """The beginning of a model's hash."""
    return model.digest[:_HASH_CHARS]


def pipelines(models: Models) -> tuple[ModelDescriptor, ...]:
    """Those that can be a checkpoint, the default one first."""
    return tuple(model for model in models.values() if model.kind == "pipeline")


def named(name: str, models: Iterable[ModelDescriptor]) -> ModelDescriptor | None:
    """The model of a name: an id, a title, a file name or a hash, as A1111 and its clients write them."""
    found = _HASHED.fullmatch(name.strip())
    plain = (found["name"] if found else name).casefold()
    for model in models:
        if plain == model.model_id.casefold() or name.strip().casefold() in (model.digest, short_hash(model)):
            return model
    return None


def sampler_for(name: str, scheduler: str, allowed: Iterable[SamplerName]) -> SamplerName | None:
    """The sampler of a name and a schedule, of those that a model takes; None: there is none.

    >>> sampler_for("DPM++ 2M Karras", "Automatic", ("dpmpp_2m", "dpmpp_2m_karras"))
    'dpmpp_2m_karras'
    >>> sampler_for("k_euler_a", "karras", ("euler_a",)) is None
    True
    """
    asked = _split(name)
    schedule = (scheduler if scheduler.casefold() not in AUTOMATIC else asked.schedule).casefold()
    found = {each: A1111_SAMPLERS[each] for each in allowed if A1111_SAMPLERS[each].name == asked.name}
    usual = _SCHEDULE_OF.get(asked.name, PLAIN).casefold()
    for wanted in (schedule,) if schedule else (usual, PLAIN, "simple"):
        for ours, theirs in found.items():
            if (theirs.schedule or PLAIN).casefold() == wanted:
                return ours
    return None


def shown_samplers(allowed: Iterable[SamplerName]) -> str:
    """The samplers that a model takes, for an error."""
    each = (A1111_SAMPLERS[name] for name in allowed)
    return ", ".join(f"{name} ({schedule})" if schedule else name for name, schedule in each)


def _split(name: str) -> A1111Sampler:
    """A sampler by one of its names; before 1.9 the schedule was part of it."""
    plain = name.strip().casefold()
    for known in dict.fromkeys(A1111_SAMPLERS.values()):
        if plain in (known.name.casefold(), *ALIASES.get(known.name, ())):
            return A1111Sampler(known.name)
        if known.schedule and plain == f"{known.name} {known.schedule}".casefold():
            return known
    return A1111Sampler(name)
