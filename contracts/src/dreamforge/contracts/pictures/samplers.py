"""Samplers by the names of A1111, which other programs read and write. Pure."""

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
