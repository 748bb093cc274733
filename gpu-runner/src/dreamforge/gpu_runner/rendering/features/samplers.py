"""Samplers by name: a small vocabulary of ours over diffusers' scheduler classes. Import this only in the child."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import diffusers

from dreamforge.contracts.events import FailureReason, WarningCode
from dreamforge.contracts.models.descriptor import SamplerName
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderFailed, RenderWarning, first_line

#: How a model was trained to be denoised: along a schedule of betas (Stable Diffusion), or along a flow (SD3, FLUX).
Noise = Literal["beta", "flow"]


@dataclass(frozen=True, slots=True)
class Sampler:
    """A scheduler class and what its configuration must say for it to be the sampler of that name."""

    class_name: str
    noise: Noise = "beta"
    settings: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


def _dpmpp(class_name: str, algorithm: str, *, karras: bool = False) -> Sampler:
    settings = {"algorithm_type": algorithm, "use_karras_sigmas": karras, "solver_order": 2}
    return Sampler(class_name, settings=settings)


#: Source of the names: the table "Schedulers" in diffusers' documentation, which maps those of k-diffusion.
#: `dpmpp_sde` is the singlestep solver and not DPMSolverSDEScheduler: that one draws from torchsde, with a seed
#: of its own beside the generator.
SAMPLERS: Mapping[SamplerName, Sampler] = {
    "ddim": Sampler("DDIMScheduler"),
    "ddpm": Sampler("DDPMScheduler"),
    "dpmpp_2m": _dpmpp("DPMSolverMultistepScheduler", "dpmsolver++"),
    "dpmpp_2m_karras": _dpmpp("DPMSolverMultistepScheduler", "dpmsolver++", karras=True),
    "dpmpp_2m_sde": _dpmpp("DPMSolverMultistepScheduler", "sde-dpmsolver++"),
    "dpmpp_sde": _dpmpp("DPMSolverSinglestepScheduler", "sde-dpmsolver++"),
    "euler": Sampler("EulerDiscreteScheduler"),
    "euler_a": Sampler("EulerAncestralDiscreteScheduler"),
    "flow_euler": Sampler("FlowMatchEulerDiscreteScheduler", "flow"),
    "flow_heun": Sampler("FlowMatchHeunDiscreteScheduler", "flow"),
    "heun": Sampler("HeunDiscreteScheduler"),
    "lcm": Sampler("LCMScheduler"),
    # Without it, twelve more evaluations by Runge-Kutta come first; Stable Diffusion's configuration says so too.
    "pndm": Sampler("PNDMScheduler", settings={"skip_prk_steps": True}),
    "unipc": Sampler("UniPCMultistepScheduler"),
}


#: Settings of single samplers: another sampler has others in their place, and models name them out of habit.
#: Source: the keys that the published configurations of Stable Diffusion and SDXL have beyond their own schedulers'.
OF_SAMPLERS = frozenset(
    {
        *("clip_sample", "clip_sample_range", "sample_max_value", "set_alpha_to_one", "skip_prk_steps"),
        *("solver_order", "solver_type", "solver_p", "algorithm_type", "lower_order_final", "euler_at_final"),
        *("predict_x0", "disable_corrector", "variance_type", "dynamic_thresholding_ratio", "interpolation_type"),
        *("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas"),
        *("final_sigmas_type", "lambda_min_clipped", "original_inference_steps", "timestep_scaling", "timestep_type"),
    }
)


class Samplers(RenderFeature):
    """`sampler` and `flow_shift` of a request: every pass has a scheduler of its own."""

    def warnings(self, pipeline: Pipeline, task: RenderTask) -> tuple[RenderWarning, ...]:
        """The settings of the model's noise schedule that the sampler does not know."""
        names = dict.fromkeys(each.sampler for each in task.passes)
        return tuple(warning for name in names if (warning := _ignoring(pipeline, name, task.request.model_id)))

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Errors: RenderFailed(invalid_request) where this model has no such sampler, shift, or not so many steps."""
        for each in task.passes:
            limit = steps_limit(sampler_for(pipeline.scheduler, each.sampler, task.request.flow_shift))
            if each.steps > limit:
                message = f"{each.steps} steps, and this model and sampler have {limit}"
                raise RenderFailed(FailureReason.INVALID_REQUEST, message)

    def parts(self, context: PassContext) -> Keywords:
        """The scheduler."""
        request = context.request
        return {"scheduler": sampler_for(context.base.scheduler, request.sampler, request.flow_shift)}

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:  # noqa: ARG002
        """A pipeline that drives its scheduler in a way that the sampler does not know says so in these words."""
        request = context.request
        try:
            return proceed()
        except (ValueError, TypeError) as error:
            if request.sampler is None or "set_timesteps" not in str(error):
                raise
            message = f"sampler {request.sampler} does not fit {request.model_id}: {first_line(error)}"
            raise RenderFailed(FailureReason.INVALID_REQUEST, message) from error


def _ignoring(pipeline: Pipeline, name: SamplerName | None, model_id: str) -> RenderWarning | None:
    wanted = type(pipeline.scheduler) if name is None else getattr(diffusers, SAMPLERS[name].class_name)
    if not (ignored := ignored_settings(pipeline.scheduler, wanted)):
        return None
    sampler = f"sampler {name}" if name else wanted.__name__
    settings = ", ".join(f"{setting} {pipeline.scheduler.config[setting]}" for setting in ignored)
    message = f"{sampler} does not know these settings of {model_id}: {settings}"
    return RenderWarning(WarningCode.SETTINGS_IGNORED, message, ignored)


# Any: diffusers' schedulers share a mixin that has neither `timesteps` nor `step` in its type.
def sampler_for(native: Any, name: SamplerName | None, flow_shift: float | None = None) -> Any:
    """A new scheduler for one render: the model's own (None) or another with the model's configuration.

    New each time, because a scheduler keeps the state of its last run and pipelines share theirs.
    `flow_shift`: see `_shifted`; None: as the model has it.
    Errors: RenderFailed(invalid_request) where this model cannot be sampled that way.
    """
    unshifted = _sampler_for(native, name)
    return unshifted if flow_shift is None else _shifted(unshifted, flow_shift)


def _shifted(scheduler: Any, factor: float) -> Any:
    """The scheduler with noise levels s f / (1 + (f - 1) s) in place of s.

    The factor takes the place of one that follows the size of the image (FLUX: 3.16 for 1024 x 1024 px).
    """
    if noise_of(scheduler) != "flow":
        message = f"flow_shift is of a flow, and a {type(scheduler).__name__} follows none that can be shifted"
        raise RenderFailed(FailureReason.INVALID_REQUEST, message)
    takes = inspect.signature(type(scheduler).__init__).parameters
    # What does nothing but flows calls it `shift`, what can do them `flow_shift` (diffusers 0.42.1).
    settings: dict[str, object] = {"flow_shift" if "flow_shift" in takes else "shift": factor}
    if "use_dynamic_shifting" in takes:
        settings["use_dynamic_shifting"] = False
    return type(scheduler).from_config(scheduler.config, **settings)


def _sampler_for(native: Any, name: SamplerName | None) -> Any:
    if name is None:
        return type(native).from_config(native.config)
    sampler = SAMPLERS[name]
    wanted = getattr(diffusers, sampler.class_name)
    if sampler.noise != noise_of(native) or not _knows_zero_snr(native, wanted, sampler):
        raise RenderFailed(
            FailureReason.INVALID_REQUEST, f"sampler {name} does not fit a {type(native).__name__} model"
        )
    # Clipping belongs to models that denoise pixels; a scheduler that never clips leaves the word out.
    configuration = {"clip_sample": False, **native.config, **sampler.settings}
    return wanted.from_config(configuration)


def ignored_settings(native: Any, wanted: Any) -> tuple[str, ...]:  # Any: see `sampler_for`
    """What a model says of its noise schedule, other than by default, that a scheduler class does not take."""
    own = inspect.signature(type(native).__init__).parameters
    takes = inspect.signature(wanted.__init__).parameters
    return tuple(
        name
        for name, value in native.config.items()
        if not name.startswith("_") and name not in takes and name not in OF_SAMPLERS
        if value not in (None, False) and (name not in own or value != own[name].default)
    )


def noise_of(native: Any) -> Noise | None:  # Any: see `sampler_for`
    """What the model's own scheduler follows; None: neither, and no other sampler fits."""
    if type(native).__name__.startswith("FlowMatch") or native.config.get("use_flow_sigmas"):
        return "flow"
    return "beta" if "beta_schedule" in native.config else None


def steps_limit(scheduler: Any) -> int:  # Any: see `sampler_for`
    """How many steps it can make: more would read past the end of the noise schedule the model was trained in."""
    configuration = scheduler.config
    trained = int(configuration.get("num_train_timesteps", 1000)) - int(configuration.get("steps_offset", 0))
    # A consistency model skips along the steps of the teacher it was distilled from.
    distilled = int(configuration["original_inference_steps"]) if _is_lcm(scheduler) else trained
    return min(trained, distilled)


def _is_lcm(scheduler: Any) -> bool:
    return type(scheduler).__name__ == "LCMScheduler"


def _knows_zero_snr(native: Any, wanted: Any, sampler: Sampler) -> bool:
    if not native.config.get("rescale_betas_zero_snr", False):
        return True
    # A model trained down to pure noise gives grey images from a schedule that stops short of it, and Karras' spacing
    # puts several steps at its very end, which diffusers takes for one (IndexError at the last step).
    karras = bool(sampler.settings.get("use_karras_sigmas"))
    return "rescale_betas_zero_snr" in inspect.signature(wanted.__init__).parameters and not karras
