"""Samplers by the names of A1111 and of other programs, which pictures carry and clients send. Pure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from dreamforge.contracts.models.descriptor import SamplerName


class A1111Sampler(NamedTuple):
    """A sampler as A1111 calls it since 1.9: its name, and the type of its schedule; empty: the sampler's own."""

    name: str
    schedule: str = ""


#: Source: modules/sd_samplers_kdiffusion.py, sd_samplers_timesteps.py and sd_schedulers.py of A1111 1.10; DDPM is
#: Forge's. A1111's PLMS is the method of `pndm`.
A1111_SAMPLERS: dict[SamplerName, A1111Sampler] = {
    "ddim": A1111Sampler("DDIM"),
    "ddpm": A1111Sampler("DDPM"),
    "dpmpp_2m": A1111Sampler("DPM++ 2M"),
    "dpmpp_2m_karras": A1111Sampler("DPM++ 2M", "Karras"),
    "dpmpp_2m_sde": A1111Sampler("DPM++ 2M SDE"),
    "dpmpp_sde": A1111Sampler("DPM++ SDE"),
    "euler": A1111Sampler("Euler"),
    "euler_a": A1111Sampler("Euler a"),
    "flow_euler": A1111Sampler("Euler", "Simple"),
    "flow_heun": A1111Sampler("Heun", "Simple"),
    "heun": A1111Sampler("Heun"),
    "lcm": A1111Sampler("LCM"),
    "pndm": A1111Sampler("PLMS"),
    "unipc": A1111Sampler("UniPC"),
}
#: Scheduler classes of diffusers, which recipes name: a model's own sampler has no other name.
_BY_CLASS: dict[str, SamplerName] = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "DPMSolverSinglestepScheduler": "dpmpp_sde",
    "EulerAncestralDiscreteScheduler": "euler_a",
    "EulerDiscreteScheduler": "euler",
    "FlowMatchEulerDiscreteScheduler": "flow_euler",
    "FlowMatchHeunDiscreteScheduler": "flow_heun",
    "HeunDiscreteScheduler": "heun",
    "LCMScheduler": "lcm",
    "PNDMScheduler": "pndm",
    "UniPCMultistepScheduler": "unipc",
}


def a1111_sampler(requested: SamplerName | None, scheduler_class: str) -> A1111Sampler:
    """The sampler of a request, else the one whose class a recipe names; a class that A1111 does not know as it is.

    >>> a1111_sampler("dpmpp_2m_karras", "DPMSolverMultistepScheduler")
    A1111Sampler(name='DPM++ 2M', schedule='Karras')
    >>> a1111_sampler(None, "DDIMScheduler").name, a1111_sampler(None, "synthetic").name
    ('DDIM', 'synthetic')
    """
    name = requested or _BY_CLASS.get(scheduler_class)
    return A1111_SAMPLERS[name] if name is not None else A1111Sampler(scheduler_class)


#: What leaves the choice of a schedule, or of a sampler, to the program.
AUTOMATIC = frozenset(("", "automatic", "none", "native"))
#: Evenly spaced steps: A1111's Uniform, ComfyUI's normal.
PLAIN, _PLAIN_NAMES = "uniform", frozenset(("uniform", "normal"))
#: The schedule that A1111 takes by itself (modules/sd_samplers_kdiffusion.py, 1.10); of others their plain one.
_SCHEDULE_OF = {"DPM++ 2M": "Karras"}
#: What else a sampler is called: in A1111 1.10 (the k_ names), ComfyUI 0.3 (comfy/samplers.py), Fooocus, SwarmUI,
#: InvokeAI 5 (invokeai/backend/stable_diffusion/schedulers/schedulers.py) and NovelAI.
SAMPLER_ALIASES: Mapping[str, tuple[str, ...]] = {
    "DDIM": ("ddim", "ddim_v3"),
    "DDPM": ("ddpm",),
    "DPM++ 2M": ("k_dpmpp_2m", "dpmpp_2m"),
    "DPM++ 2M SDE": ("k_dpmpp_2m_sde", "dpmpp_2m_sde", "dpmpp_2m_sde_gpu"),
    "DPM++ SDE": ("k_dpmpp_sde", "dpmpp_sde", "dpmpp_sde_gpu"),
    "Euler": ("k_euler", "euler"),
    "Euler a": ("k_euler_a", "k_euler_ancestral", "euler_a", "euler_ancestral"),
    "Heun": ("k_heun", "heun"),
    "LCM": ("k_lcm", "lcm"),
    "PLMS": ("plms", "pndm"),
    "UniPC": ("unipc", "uni_pc"),
}


def sampler_named(
    name: str, schedule: str, allowed: Iterable[SamplerName], *, automatic: bool = True
) -> SamplerName | None:
    """The sampler of a name and a schedule, of those that a model takes; None: there is none.

    `automatic`: without a schedule, the one that A1111 takes by itself since 1.9; else the plain one, as every picture
    means it that names none.

    >>> sampler_named("DPM++ 2M Karras", "Automatic", ("dpmpp_2m", "dpmpp_2m_karras"))
    'dpmpp_2m_karras'
    >>> sampler_named("dpmpp_2m", "normal", ("dpmpp_2m",)), sampler_named("euler", "simple", ("flow_euler",))
    ('dpmpp_2m', 'flow_euler')
    >>> sampler_named("k_euler_a", "karras", ("euler_a",)) is None
    True
    """
    asked = _split(name)
    given = (schedule if schedule.casefold() not in AUTOMATIC else asked.schedule).casefold()
    found = {each: A1111_SAMPLERS[each] for each in allowed if A1111_SAMPLERS[each].name == asked.name}
    usual = _SCHEDULE_OF.get(asked.name, PLAIN).casefold() if automatic else PLAIN
    wanted = (PLAIN if given in _PLAIN_NAMES else given,) if given else (usual, PLAIN, "simple")
    for each in wanted:
        for ours, theirs in found.items():
            if (theirs.schedule or PLAIN).casefold() == each:
                return ours
    return None


def schedule_steps(made: int, strength: float) -> int:
    """The steps of the schedule of which the part `strength`, above 0, are so many.

    Other programs make all the steps that they are asked for within that part; here it is a part of the steps.

    >>> schedule_steps(10, 0.5), schedule_steps(20, 1.0), schedule_steps(7, 0.35), int(schedule_steps(7, 0.35) * 0.35)
    (20, 20, 20, 7)
    """
    steps = int(made / strength)
    return steps if int(steps * strength) >= made else steps + 1


def _split(name: str) -> A1111Sampler:
    """A sampler by one of its names; A1111 before 1.9 and InvokeAI put the schedule into it."""
    plain = name.strip().casefold().removeprefix("sample_")  # ComfyUI of early 2023
    for known in dict.fromkeys(A1111_SAMPLERS.values()):
        names = (known.name.casefold(), *SAMPLER_ALIASES.get(known.name, ()))
        if plain in names:
            return A1111Sampler(known.name)
        if known.schedule and plain == f"{known.name} {known.schedule}".casefold():
            return known
        if plain.endswith("_k") and plain[:-2] in names:
            return A1111Sampler(known.name, "Karras")
    return A1111Sampler(name)
