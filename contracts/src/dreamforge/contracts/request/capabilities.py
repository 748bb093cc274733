"""What a request may set for a model: its own `Parameters`, or what is known of its family; and that as JSON Schema.

`limits.resolve` checks with the same values, so a request that the schema allows is refused only for what a schema
cannot say: the product of two sides or of steps and strength, which assets and uploads there are, and one LoRA named
twice. Pure.
"""

from typing import Any, get_args

from dreamforge.contracts.models.descriptor import ModelDescriptor, Parameters, Preset, SamplerName
from dreamforge.contracts.request.limits import Limits

Json = dict[str, Any]  # Any: parts of a JSON document

FLOW_SAMPLERS: tuple[SamplerName, ...] = ("flow_euler", "flow_heun")
# Those of models that predict noise (or velocity): a flow model cannot use them, nor they a flow sampler.
EPSILON_SAMPLERS: tuple[SamplerName, ...] = tuple(n for n in get_args(SamplerName) if n not in FLOW_SAMPLERS)
# More LoRAs at once are rarely meant, and each takes memory: our bound.
LORAS_MAX = 8
# A fourfold side is a sixteenfold picture; sizes beyond are what upscalers of their own are for.
UPSCALE_MAX = 4.0
# Less than a hundredth of the schedule changes nothing.
STRENGTH_MIN = 0.01
# What diffusers' own pipelines take when nothing is said: image-to-image 0.8, inpainting 1.0.
IMAGE_STRENGTH, INPAINT_STRENGTH = 0.8, 1.0
UPSCALE_STRENGTH = 0.35
LORA_WEIGHT_MAX = 4.0
CONTROL_SCALE_MAX = 4.0

_UNET = Parameters(
    modes=("text", "image", "inpaint"),
    samplers=EPSILON_SAMPLERS,
    loras_max=LORAS_MAX,
    controlnet=True,
    upscale_max=UPSCALE_MAX,
)
_FLOW = Parameters(modes=("text", "image", "inpaint"), samplers=FLOW_SAMPLERS, loras_max=LORAS_MAX)
_OF_FAMILY = {
    "stable-diffusion": _UNET,
    "stable-diffusion-2": _UNET,
    "stable-diffusion-xl": _UNET,
    "stable-diffusion-3": _FLOW,
    # Its guidance is distilled into the weights: there is no second, negative pass.
    "flux": _FLOW.model_copy(update={"negative_prompt": False}),
}
_OTHERS = Parameters()


def parameters_of(model: ModelDescriptor) -> Parameters:
    """What the model's descriptor says, else what its family can do, else plain text-to-image."""
    return model.parameters or _OF_FAMILY.get(model.family, _OTHERS)


def least_strength(steps: int) -> float:
    """The least hundredth of the schedule that leaves one step to make; models of few steps need more.

    >>> least_strength(20), least_strength(3), least_strength(1), least_strength(500)
    (0.05, 0.34, 1.0, 0.01)
    """
    return max(STRENGTH_MIN, -(-100 // steps) / 100)


def guidance_bounds(parameters: Parameters, limits: Limits) -> tuple[float, float]:
    """Least and largest guidance of a request."""
    return parameters.guidance_scale_min, min(limits.guidance_scale, parameters.guidance_scale_max)


def steps_bound(parameters: Parameters, limits: Limits) -> int:
    """Most steps of a request."""
    return min(limits.steps, parameters.steps_max)


def request_schema(model: ModelDescriptor, limits: Limits) -> Json:
    """JSON Schema (2020-12) of what a request for this pipeline may set; defaults are those of its first preset.

    What belongs to the job and not to the picture (priority, deadlines) is not in it.
    Errors: ValueError for a LoRA or ControlNet, which is not asked for by itself.
    """
    if model.kind != "pipeline":
        raise ValueError(f"{model.model_id} is a {model.kind}")
    parameters = parameters_of(model)
    pictures, together = _pictures(parameters)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": model.title or model.model_id,
        "type": "object",
        "required": ["prompt", *(["init_image"] if "text" not in parameters.modes else [])],
        "additionalProperties": False,
        "properties": _always(model, model.presets[0], parameters, limits) | pictures | _extras(parameters),
        **({"dependentRequired": together} if together else {}),
    }


def _always(model: ModelDescriptor, preset: Preset, parameters: Parameters, limits: Limits) -> Json:
    text = {"type": "string", "pattern": "^[^\\u0000]*$"}
    side = {"minimum": model.side_px_min, "maximum": model.side_px_max, "multipleOf": model.size_multiple_px}
    low, high = guidance_bounds(parameters, limits)
    return {
        "model_id": {"const": model.model_id},
        "preset": {"enum": [each.name for each in model.presets], "default": preset.name},
        "prompt": text | {"minLength": 1, "maxLength": limits.prompt_chars},
        "negative_prompt": text | {"maxLength": limits.prompt_chars if parameters.negative_prompt else 0},
        "width_px": {"type": "integer", "default": preset.width_px} | side,
        "height_px": {"type": "integer", "default": preset.height_px} | side,
        "steps": {
            "type": "integer",
            "minimum": 1,
            "maximum": steps_bound(parameters, limits),
            "default": preset.steps,
        },
        "guidance_scale": {"type": "number", "minimum": low, "maximum": high, "default": preset.guidance_scale},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**53 - 1},
        "images": {"type": "integer", "minimum": 1, "maximum": limits.images, "default": 1},
    }


def _pictures(parameters: Parameters) -> tuple[Json, dict[str, list[str]]]:
    """What a job can start from, and which of these fields need which other."""
    modes = set(parameters.modes)
    if not modes & {"image", "inpaint"}:
        return {}, {}
    found: Json = {"init_image": _upload(), "strength": _strength()}
    together = {"strength": ["init_image"]}
    if "inpaint" in modes:
        found["mask_image"] = _upload()
        together["mask_image"] = ["init_image"]
    if "image" not in modes:
        together["init_image"] = ["mask_image"]
    return found, together


def _extras(parameters: Parameters) -> Json:
    name = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
    weight = {"type": "number", "minimum": -LORA_WEIGHT_MAX, "maximum": LORA_WEIGHT_MAX, "default": 1.0}
    scale = {"type": "number", "minimum": 0, "maximum": CONTROL_SCALE_MAX, "default": 1.0}
    factor = {"type": "number", "minimum": 1, "maximum": parameters.upscale_max}
    strength = _strength() | {"default": UPSCALE_STRENGTH}
    lora = _object(["model_id"], model_id=name, weight=weight)
    found: Json = {"loras": {"type": "array", "maxItems": parameters.loras_max, "items": lora}}
    if parameters.samplers:
        found["sampler"] = {"enum": list(parameters.samplers)}
    if parameters.controlnet:
        found["control"] = _object(["model_id", "image"], model_id=name, image=_upload(), scale=scale)
    if parameters.upscale_max > 1:
        found["upscale"] = _object(["factor"], factor=factor, strength=strength)
    return found


def _object(required: list[str], **properties: Json) -> Json:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def _upload() -> Json:
    return {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "sha256 of an upload or of an artifact"}


def _strength() -> Json:
    return {"type": "number", "minimum": STRENGTH_MIN, "maximum": 1}
