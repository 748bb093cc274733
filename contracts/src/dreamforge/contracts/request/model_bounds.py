"""What a model allows of each parameter: a function for each, None where it has no such parameter. Pure."""

from dreamforge.contracts.models.descriptor import ModelDescriptor, Parameters
from dreamforge.contracts.pictures.formats import IMAGE_FORMATS, VIDEO_FORMATS, OutputFormat
from dreamforge.contracts.request import completion
from dreamforge.contracts.request.bounds import Bounds
from dreamforge.contracts.request.values import UPSCALE_STRENGTH


def side(model: ModelDescriptor) -> Bounds:
    return Bounds(model.side_px_min, model.side_px_max, multiple=model.size_multiple_px)


def guidance(model: ModelDescriptor) -> Bounds:
    return Bounds(model.capabilities.guidance_scale_min, model.capabilities.guidance_scale_max)


def second_guidance(model: ModelDescriptor) -> Bounds | None:
    # The files say it once a runner has them, and before that the presets of its descriptor.
    has_two = model.second_transformer or any(preset.guidance_scale_2 is not None for preset in model.presets)
    return guidance(model) if has_two else None


def prompt(model: ModelDescriptor) -> Bounds:
    return Bounds(maximum=0) if model.kind == "upscaler" else Bounds(minimum=1)


def if_rendered_again(model: ModelDescriptor) -> Bounds | None:
    # Of a video the image is the first frame, and stays as it is.
    return None if model.kind == "upscaler" or model.capabilities.is_video else if_from_image(model)


def if_video(model: ModelDescriptor) -> Bounds | None:
    return Bounds() if model.capabilities.is_video else None


def frames(model: ModelDescriptor) -> Bounds | None:
    can = model.capabilities
    return Bounds(1, can.frames_max) if can.is_video else None


def formats(can: Parameters) -> tuple[OutputFormat, ...]:
    return VIDEO_FORMATS if can.is_video else IMAGE_FORMATS


def output_format(model: ModelDescriptor) -> Bounds:
    allowed = formats(model.capabilities)
    return Bounds(choices=allowed, default=allowed[0])


def if_from_image(model: ModelDescriptor) -> Bounds | None:
    return Bounds() if set(model.capabilities.modes) & {"image", "inpaint"} else None


def if_with_mask(model: ModelDescriptor) -> Bounds | None:
    return Bounds() if "inpaint" in model.capabilities.modes else None


def if_with_images(model: ModelDescriptor) -> Bounds | None:
    can = model.capabilities
    return Bounds(default=completion.RESIZE_MODE) if set(can.modes) & {"image", "inpaint"} or can.controlnet else None


def references(model: ModelDescriptor) -> Bounds | None:
    can = model.capabilities
    return Bounds(1 if can.references_needed else 0, can.references_max) if can.references_max else None


def sampler(model: ModelDescriptor) -> Bounds | None:
    samplers = model.capabilities.samplers
    return Bounds(choices=samplers) if samplers else None


def upscale(model: ModelDescriptor) -> Bounds | None:
    most = model.capabilities.upscale_max
    tile = Bounds(model.side_px_min, model.side_px_max, multiple=model.size_multiple_px)
    inside = {"factor": Bounds(1, most), "strength": Bounds(default=UPSCALE_STRENGTH), "tile_px": tile}
    return Bounds(inside=inside) if most > 1 else None


def prompt_syntax(model: ModelDescriptor) -> Bounds:
    return Bounds(choices=("weighted", "plain") if model.capabilities.prompt_weights else ("plain",))


def clip_skip(model: ModelDescriptor) -> Bounds | None:
    most = model.capabilities.clip_skip_max
    if model.text_encoder_layers is not None:
        # One layer stays, and SDXL never uses the last one.
        most = min(most, model.text_encoder_layers - (2 if model.family == "stable-diffusion-xl" else 1))
    return Bounds(maximum=most) if most > 0 else None
