"""Every sampler that a request may name is one, or is refused with a reason."""

from typing import Any, get_args

import pytest

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.models.descriptor import SamplerName

pytestmark = pytest.mark.torch
NAMES: tuple[SamplerName, ...] = get_args(SamplerName)
FLOW = ("flow_euler", "flow_heun")


def scheduler(class_name: str, **configuration: Any) -> Any:
    """A scheduler from its configuration."""
    import diffusers

    return getattr(diffusers, class_name)(**configuration)


def test_every_name_of_the_contract_is_mapped() -> None:
    from dreamforge.gpu_runner.rendering.features.samplers import SAMPLERS

    assert set(SAMPLERS) == set(NAMES)


@pytest.mark.parametrize("native", ["DDIMScheduler", "EulerDiscreteScheduler", "PNDMScheduler", "LCMScheduler"])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in FLOW])
def test_a_sampler_takes_over_the_noise_schedule_of_the_model(native: str, name: SamplerName) -> None:
    from dreamforge.gpu_runner.rendering.features.samplers import SAMPLERS, sampler_for

    own = scheduler(native, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    sampler = sampler_for(own, name)
    assert type(sampler).__name__ == SAMPLERS[name].class_name
    assert (sampler.config.beta_start, sampler.config.beta_end) == (0.00085, 0.012)
    sampler.set_timesteps(5)
    assert len(sampler.timesteps) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_flow_and_beta_do_not_mix(name: SamplerName) -> None:
    from dreamforge.gpu_runner.rendering.features.samplers import sampler_for
    from dreamforge.gpu_runner.rendering.renderer import RenderFailed

    other = scheduler("DDIMScheduler") if name in FLOW else scheduler("FlowMatchEulerDiscreteScheduler")
    with pytest.raises(RenderFailed, match=f"sampler {name} does not fit") as refused:
        sampler_for(other, name)
    assert refused.value.reason is FailureReason.INVALID_REQUEST


def test_a_model_trained_down_to_pure_noise_refuses_samplers_that_stop_short_of_it() -> None:
    from dreamforge.gpu_runner.rendering.features.samplers import sampler_for
    from dreamforge.gpu_runner.rendering.renderer import RenderFailed

    own = scheduler("DDIMScheduler", rescale_betas_zero_snr=True)
    assert sampler_for(own, "euler").config.rescale_betas_zero_snr
    for short in ("heun", "dpmpp_2m_karras"):
        with pytest.raises(RenderFailed, match=f"sampler {short} does not fit"):
            sampler_for(own, short)


def test_the_own_sampler_is_a_new_one_each_time() -> None:
    from dreamforge.gpu_runner.rendering.features.samplers import sampler_for

    own = scheduler("DDIMScheduler")
    assert sampler_for(own, None) is not own


def test_a_consistency_sampler_makes_no_more_steps_than_its_teacher() -> None:
    from dreamforge.gpu_runner.rendering.features.samplers import sampler_for, steps_limit

    own = scheduler("DDIMScheduler", steps_offset=1)
    assert steps_limit(own) == 999
    assert steps_limit(sampler_for(own, "lcm")) == 50


def test_samplers_of_one_class_differ_by_their_settings() -> None:
    from dreamforge.gpu_runner.rendering.features.samplers import sampler_for

    own = scheduler("DDIMScheduler")
    names: tuple[SamplerName, ...] = ("dpmpp_2m", "dpmpp_2m_karras", "dpmpp_2m_sde")
    settings = [(s.config.algorithm_type, s.config.use_karras_sigmas) for s in (sampler_for(own, n) for n in names)]
    assert settings == [("dpmsolver++", False), ("dpmsolver++", True), ("sde-dpmsolver++", False)]


UNIPC = ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0})
DPM = ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"})
EULER = ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0})
BY_SIZE = ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True})


@pytest.mark.parametrize(
    ("name", "settings"), [UNIPC, DPM, EULER, BY_SIZE, ("FlowMatchHeunDiscreteScheduler", {"shift": 3.0})]
)
def test_a_flow_is_shifted_towards_noise(name: str, settings: dict[str, Any]) -> None:
    from dreamforge.gpu_runner.rendering.features.samplers import sampler_for

    own = scheduler(name, **settings)
    plain, more = (sampler_for(own, None, factor) for factor in (1.0, 6.0))
    for each in (plain, more):
        each.set_timesteps(6)
    assert type(more) is type(own)
    inner = slice(1, len(plain.sigmas) - 2)
    assert bool((more.sigmas[inner] > plain.sigmas[inner]).all())
    assert sampler_for(own, None).config == own.config


def test_a_factor_is_the_one_that_a_shift_by_size_would_have() -> None:
    """With those noise levels that pipelines of FLUX and Qwen-Image give, and 1.15, theirs for 1024 x 1024 px."""
    import numpy as np
    import torch

    from dreamforge.gpu_runner.rendering.features.samplers import sampler_for

    own = scheduler(BY_SIZE[0], **BY_SIZE[1])
    levels = np.linspace(1.0, 1 / 8, 8)
    fixed = sampler_for(own, None, float(np.exp(1.15)))
    for each in (own, fixed):
        each.set_timesteps(sigmas=levels, mu=1.15)
    assert torch.allclose(own.sigmas, fixed.sigmas, atol=1e-6)
    assert torch.allclose(fixed.sigmas[:-1], torch.tensor(3.158 * levels / (1 + 2.158 * levels)).float(), atol=1e-4)


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "UniPCMultistepScheduler", "SCMScheduler"])
def test_what_follows_no_flow_is_not_shifted(name: str) -> None:
    from dreamforge.gpu_runner.rendering.features.samplers import sampler_for
    from dreamforge.gpu_runner.rendering.renderer import RenderFailed

    with pytest.raises(RenderFailed, match="flow_shift is of a flow") as refused:
        sampler_for(scheduler(name), None, 3.0)
    assert refused.value.reason is FailureReason.INVALID_REQUEST
