"""Every parameter of a request, declared once.

The body of a submission, the recorded request, the JSON Schema of each model, the OpenAPI document, the options of
`dreamforge generate` and the form of the studio are made from these declarations. What is particular to one
parameter is a small function below them. How to add one: docs/howto/add-a-request-parameter.md.
"""

from typing import Annotated

from pydantic import Field

from dreamforge.contracts.models.descriptor import (
    FLOW_SHIFT_MAX,
    REFERENCES_MAX,
    Quantisation,
    QuantisedAllowed,
    SamplerName,
    Sha256,
    Token,
    Value,
    is_empty,
    is_none,
)
from dreamforge.contracts.models.optimisations import OPTIMISATIONS, Optimisations
from dreamforge.contracts.pictures.formats import OutputFormat
from dreamforge.contracts.request import completion, model_bounds
from dreamforge.contracts.request.bounds import Bounds
from dreamforge.contracts.request.declaration import Declared, declared_in
from dreamforge.contracts.request.guidance_schedule import GuidanceSchedule
from dreamforge.contracts.request.lora_tags import with_tags_escaped
from dreamforge.contracts.request.values import (
    MASK_BLUR_PX_MAX,
    OF_BOTH_PASSES,
    SIDE_PX_MAX,
    SIDE_PX_MIN,
    STRENGTH_MIN,
    ControlUses,
    Determinism,
    EmbeddingUse,
    Geometry,
    ImagePromptUse,
    LoraUse,
    MaskedArea,
    MaskedAreaInput,
    MaskFill,
    MaskSelects,
    PromptSyntax,
    RequestedResizeMode,
    ResizeMode,
    SeamlessAxes,
    Seed,
    Upscale,
    UpscaleInput,
)

# More than any model takes: keeps the list of a body short before anything is looked up.
LORAS_MAX = EMBEDDINGS_MAX = IMAGE_PROMPTS_MAX = 64
PICTURE = "FILE|ARTIFACT"
# No model makes minutes, and no screen shows more.
DURATION_SECONDS_MAX, FRAMES_PER_SECOND_MAX = 60.0, 60


def is_png(value: object) -> bool:
    """PNG was the only format before there was a choice: requests for it are recorded as they were."""
    return value == "png"


class RequestParameters(Value):
    """The parameters, in the order of a form, with the types that the log has them in."""

    model_id: Annotated[
        Token,
        Declared(
            "Model",
            "Model id; default: the model that was registered first.",
            group="basic",
            widget="model",
            source="caller",
            bounds=lambda model: Bounds(constant=model.model_id),
            options=("--model",),
        ),
    ]
    preset: Annotated[
        Token,
        Declared(
            "Preset",
            "The preset that fills in what the request leaves out; default: the model's first.",
            group="basic",
            widget="preset",
            source="caller",
            bounds=lambda model: Bounds(
                choices=tuple(each.name for each in model.presets), default=model.presets[0].name
            ),
        ),
    ]
    prompt: Annotated[
        str,
        Declared(
            "Prompt",
            "What the picture shows. <lora:NAME:WEIGHT> adds a registered LoRA. Of an upscaler: empty.",
            group="basic",
            widget="textarea",
            limit="prompt_chars",
            bounds=model_bounds.prompt,
            restate=lambda text, _: with_tags_escaped(text),
            example="a red circle on a blue background",
            options=(),
        ),
    ]
    negative_prompt: Annotated[
        str,
        Declared(
            "Negative prompt",
            "What the picture must not show.",
            limit="prompt_chars",
            bounds=lambda model: Bounds(maximum=None if model.capabilities.negative_prompt else 0),
            options=("--negative",),
        ),
    ] = ""
    width_px: Annotated[
        int,
        Field(ge=SIDE_PX_MIN),
        Declared(
            "Width",
            "In pixels; default: the preset's.",
            source="preset",
            maximum=SIDE_PX_MAX,
            bounds=model_bounds.side,
            options=(),
        ),
    ]
    height_px: Annotated[
        int,
        Field(ge=SIDE_PX_MIN),
        Declared(
            "Height",
            "In pixels; default: the preset's.",
            source="preset",
            maximum=SIDE_PX_MAX,
            bounds=model_bounds.side,
            complete=completion.check_size,
            options=(),
        ),
    ]
    steps: Annotated[
        int,
        Field(ge=1),
        Declared(
            "Steps",
            "Denoising steps; default: the preset's.",
            source="preset",
            limit="steps",
            bounds=lambda model: Bounds(model.capabilities.steps_min, model.capabilities.steps_max),
        ),
    ]
    guidance_scale: Annotated[
        float,
        Field(ge=0),
        Declared(
            "Guidance scale",
            "How closely to follow the prompt; default: the preset's.",
            source="preset",
            limit="guidance_scale",
            bounds=model_bounds.guidance,
            options=("--guidance",),
        ),
    ]
    guidance_scale_2: Annotated[
        float | None,
        Declared(
            "Guidance scale of the later steps",
            "Of models with two transformers (Wan 2.2 A14B): that of the second one, which makes the steps with little "
            "noise. Default: the preset's, or as in the first.",
            group="rendering",
            source="preset",
            limit="guidance_scale",
            bounds=model_bounds.second_guidance,
            complete=completion.guidance_scale_2,
            options=("--guidance-2",),
        ),
    ] = Field(default=None, ge=0, exclude_if=is_none)
    seed: Annotated[
        Seed,
        Declared(
            "Seed",
            "The same seed gives the same picture; picture i has seed + i. Chosen for you by default.",
            group="basic",
            source="caller",
        ),
    ]
    images: Annotated[
        int,
        Field(ge=1),
        Declared("Pictures", "How many, each with the next seed.", "basic", limit="images", options=("--images", "-n")),
    ] = 1
    frames_per_second: Annotated[
        int | None,
        Declared(
            "Frames a second",
            "At which the video is played; some models render for it. Default: the preset's.",
            group="video",
            maximum=FRAMES_PER_SECOND_MAX,
            bounds=model_bounds.if_video,
            complete=completion.frames_per_second,
            options=("--fps",),
        ),
    ] = Field(default=None, ge=1, exclude_if=is_none)
    frames: Annotated[
        int | None,
        Declared(
            "Frames",
            "Of the video, in place of its duration: a multiple of what the model makes at once, and one.",
            group="video",
            limit="frames",
            bounds=model_bounds.frames,
            complete=completion.frames,
        ),
    ] = Field(default=None, ge=1, exclude_if=is_none)
    duration_seconds: Annotated[
        float | None,
        Declared(
            "Duration",
            "Of the video, in seconds; it becomes the number of frames that comes nearest. Default: the preset's.",
            group="video",
            maximum=DURATION_SECONDS_MAX,
            bounds=model_bounds.if_video,
            complete=completion.duration_seconds,
            options=("--duration",),
        ),
    ] = Field(default=None, gt=0, exclude_if=is_none)
    sampler: Annotated[
        SamplerName | None,
        Declared(
            "Sampler",
            "Default: the model's own.",
            group="rendering",
            bounds=model_bounds.sampler,
            option_help="How noise is removed; default: the model's own way.",
        ),
    ] = Field(default=None, exclude_if=is_none)
    prompt_syntax: Annotated[
        PromptSyntax | None,
        Declared(
            "Prompt syntax",
            r"weighted: (word:1.2), (word) and [word] set weights, \( is a bracket; plain: as written. "
            "Default: weighted, where the model can.",
            group="rendering",
            bounds=model_bounds.prompt_syntax,
            complete=completion.prompt_syntax,
            restate=completion.restated_syntax,
        ),
    ] = Field(default=None, exclude_if=is_none)
    vae: Annotated[
        Token | None,
        Declared(
            "VAE",
            "A registered autoencoder that encodes and decodes images in place of the model's own. Default: the "
            "preset's, or the model's own.",
            group="rendering",
            widget="vae",
            source="preset",
            bounds=lambda model: Bounds() if model.capabilities.vae else None,
            complete=completion.check_vae,
            metavar="ID",
        ),
    ] = Field(default=None, exclude_if=is_none)
    clip_skip: Annotated[
        int | None,
        Declared(
            "CLIP skip",
            "How many of the last layers of the text encoder are left out; default: none. 1 is what A1111 calls 2.",
            group="rendering",
            bounds=model_bounds.clip_skip,
        ),
    ] = Field(default=None, ge=1, exclude_if=is_none)
    guidance_schedule: Annotated[
        GuidanceSchedule | None,
        Declared(
            "Guidance schedule",
            "Guides only from one share of the steps to another, or changes the guidance scale from step to step; "
            "default: one scale in all steps. In a second pass the same, over its own steps.",
            group="rendering",
            bounds=lambda model: (
                Bounds(inside={"to": model_bounds.guidance(model)}) if model.capabilities.guidance_schedule else None
            ),
            complete=completion.guidance_schedule,
            metavar="JSON",
        ),
    ] = Field(default=None, exclude_if=is_none)
    seamless: Annotated[
        SeamlessAxes | None,
        Declared(
            "Seamless",
            "For textures: the left edge continues the right one (x), the upper one the lower one (y), or both.",
            group="rendering",
            bounds=lambda model: Bounds() if model.capabilities.seamless else None,
        ),
    ] = Field(default=None, exclude_if=is_none)
    flow_shift: Annotated[
        float | None,
        Declared(
            "Flow shift",
            "Of models that follow a flow (SD 3, FLUX, Qwen-Image, Wan): above 1, more of the steps are made where "
            "there is most noise, which decides what goes where. Default: the preset's, or the model's own, which may "
            "follow the size.",
            group="rendering",
            source="preset",
            bounds=lambda model: Bounds(maximum=FLOW_SHIFT_MAX) if model.capabilities.flow_shift else None,
        ),
    ] = Field(default=None, gt=0, le=FLOW_SHIFT_MAX, exclude_if=is_none)
    step_cache: Annotated[
        float | None,
        Declared(
            "Step cache",
            "Faster and lossy: where the first layers of a step change by less than this share, the rest is taken from "
            "the step before. 0.05 is hard to see, 0.15 is not. Default: the preset's, or exact.",
            group="rendering",
            source="preset",
            bounds=lambda model: Bounds() if model.capabilities.step_cache else None,
        ),
    ] = Field(default=None, gt=0, le=1, exclude_if=is_none)
    optimisations: Annotated[
        Optimisations | None,
        Declared(
            "Optimisations",
            f"Faster, with the same picture to within a level or two: {', '.join(OPTIMISATIONS)}, with commas between "
            "them, or none. Default: the preset's, or the runner's; of a strict render: none.",
            group="rendering",
            source="preset",
            bounds=lambda model: Bounds() if model.kind == "pipeline" else None,
            metavar="NAMES",
        ),
    ] = Field(default=None, exclude_if=is_none)
    quantisation: Annotated[
        Quantisation | None,
        Declared(
            "Quantisation",
            "Lossy: the linear layers of the denoiser are computed in 8-bit integers (int8) or floats (float8), faster "
            "on cards that can, with compiled_blocks; by torchao, on a runner that has it. Default: the preset's, or "
            "none.",
            group="rendering",
            source="preset",
            bounds=lambda model: Bounds() if model.kind == "pipeline" else None,
        ),
    ] = Field(default=None, exclude_if=is_none)
    allow_quantised: Annotated[
        QuantisedAllowed | None,
        Declared(
            "Allow quantised weights",
            "Lossy: if the memory suffices in no other way, the weights of the denoiser are quantised to this, and the "
            "picture is another one. Not of a strict render. Default: the preset's, or none.",
            group="rendering",
            source="preset",
            bounds=lambda model: Bounds() if model.kind == "pipeline" else None,
        ),
    ] = Field(default=None, exclude_if=is_none)
    determinism: Annotated[
        Determinism | None,
        Declared(
            "Determinism",
            "strict: rendered alone, so that the same request gives the same bytes; batched: together with others "
            "where that is faster, and single pixels may differ by one level. Default: the preset's, or batched.",
            group="rendering",
            source="preset",
        ),
    ] = Field(default=None, exclude_if=is_none)
    geometry: Annotated[
        Geometry | None,
        Declared(
            "Geometry",
            "Renders one image at this place of a batch of this size, as its recipe says, to get its bytes again.",
            group="rendering",
            complete=completion.geometry,
            metavar="SIZE:PLACE",
        ),
    ] = Field(default=None, exclude_if=is_none)
    init_image: Annotated[
        Sha256 | None,
        Declared(
            "Image to start from",
            "SHA-256 of an upload or of an artifact.",
            group="start",
            widget="upload",
            bounds=model_bounds.if_from_image,
            required=lambda can: "text" not in can.modes,
            needs=lambda can: None if "image" in can.modes else "mask_image",
            metavar=PICTURE,
            option_help="The image to start from.",
        ),
    ] = Field(default=None, exclude_if=is_none)
    mask_image: Annotated[
        Sha256 | None,
        Declared(
            "Mask",
            "SHA-256 of an upload or of an artifact; what is white is rendered again.",
            group="start",
            widget="upload",
            bounds=model_bounds.if_with_mask,
            needs=lambda _: "init_image",
            options=("--mask",),
            metavar=PICTURE,
            option_help="What to render again: white in this image.",
        ),
    ] = Field(default=None, exclude_if=is_none)
    mask_selects: Annotated[
        MaskSelects | None,
        Declared(
            "Rendered again",
            "What the mask marks: its white parts, or its black ones; default: white.",
            group="start",
            bounds=model_bounds.if_with_mask,
            needs=lambda _: "mask_image",
        ),
    ] = Field(default=None, exclude_if=is_none)
    mask_blur_px: Annotated[
        float | None,
        Declared(
            "Mask blur",
            "How soft its edge is: the standard deviation in pixels of the image; default: as it was drawn.",
            group="start",
            maximum=MASK_BLUR_PX_MAX,
            bounds=model_bounds.if_with_mask,
            needs=lambda _: "mask_image",
        ),
    ] = Field(default=None, ge=0, exclude_if=is_none)
    mask_fill: Annotated[
        MaskFill | None,
        Declared(
            "Below the mask",
            "What the render starts from there: the image (original, the default), the colours around (fill), noise or "
            "nothing. At strength 1 it is noise anyway.",
            group="start",
            bounds=model_bounds.if_with_mask,
            needs=lambda _: "mask_image",
        ),
    ] = Field(default=None, exclude_if=is_none)
    masked_area: Annotated[
        MaskedArea | None,
        Declared(
            "Only the masked area",
            "Renders what lies around the mask at the size of the render, and puts it back: the finished image has the "
            "size of the image to start from.",
            group="start",
            bounds=model_bounds.if_with_mask,
            needs=lambda _: "mask_image",
            requested_as=MaskedAreaInput,
            complete=completion.masked_area,
            restate=completion.restated_masked_area,
            metavar="PADDING",
            option_help="Render only the masked area, with so many pixels around it, and put it back.",
        ),
    ] = Field(default=None, exclude_if=is_none)
    strength: Annotated[
        float | None,
        Declared(
            "Strength",
            "How much of the start image is rendered again, 0 to 1.",
            group="start",
            minimum=STRENGTH_MIN,
            bounds=model_bounds.if_rendered_again,
            needs=lambda _: "init_image",
            complete=completion.strength,
        ),
    ] = Field(default=None, gt=0, le=1, exclude_if=is_none)
    resize_mode: Annotated[
        ResizeMode | None,
        Declared(
            "Image of another shape",
            "crop: its middle; fit: all of it, with margins; image_size: the render takes its size, in the sides that "
            "are not set; stretch: squeezed.",
            group="start",
            bounds=model_bounds.if_with_images,
            requested_as=RequestedResizeMode,
            complete=completion.resize_mode,
            restate=completion.restated_resize_mode,
        ),
    ] = Field(default=None, exclude_if=is_none)
    references: Annotated[
        tuple[Sha256, ...],
        Declared(
            "Reference images",
            "SHA-256 of uploads or of artifacts that the prompt is an instruction about, in the order that it names "
            "them in.",
            group="start",
            widget="uploads",
            maximum=REFERENCES_MAX,
            bounds=model_bounds.references,
            required=lambda can: can.references_needed,
            options=("--reference",),
            metavar=PICTURE,
            option_help="An image that the prompt is an instruction about; may be repeated.",
        ),
    ] = Field(default=(), exclude_if=is_empty)
    loras: Annotated[
        tuple[LoraUse, ...],
        Declared(
            "LoRAs",
            "Registered LoRAs, each with its weight, or with one for the text encoders and one for the rest.",
            group="loras",
            widget="loras",
            maximum=LORAS_MAX,
            bounds=lambda model: Bounds(maximum=model.capabilities.loras_max),
            complete=completion.check_loras,
            options=("--lora",),
            metavar="ID[:WEIGHT[:TEXT_WEIGHT]]",
            option_help="A LoRA; may be repeated.",
        ),
    ] = Field(default=(), exclude_if=is_empty)
    image_prompts: Annotated[
        tuple[ImagePromptUse, ...],
        Declared(
            "Image prompts",
            "Images that count beside the prompt, each by a registered IP-Adapter, and the steps in which it does.",
            group="image_prompts",
            widget="groups",
            maximum=IMAGE_PROMPTS_MAX,
            bounds=lambda model: Bounds(maximum=model.capabilities.image_prompts_max),
            complete=completion.check_image_prompts,
            options=("--image-prompt",),
            metavar="ID[:SCALE][,NAME=VALUE],image=FILE|ARTIFACT",
            option_help="An image beside the prompt, by an IP-Adapter, with start=, end=; may be repeated.",
        ),
    ] = Field(default=(), exclude_if=is_empty)
    control: Annotated[
        ControlUses,
        Declared(
            "ControlNets",
            "Registered ControlNets, each with the image that the render follows and the steps in which it does.",
            group="control",
            widget="groups",
            limit="control",
            bounds=lambda model: Bounds(maximum=None if model.capabilities.controlnet else 0),
            complete=completion.check_control,
            metavar="ID[:SCALE][,NAME=VALUE]",
            option_help="A ControlNet, with start=, end=, preprocess=; may be repeated, each with a --control-image.",
        ),
    ] = Field(default=(), exclude_if=is_empty)
    upscale: Annotated[
        Upscale | None,
        Declared(
            "Second pass",
            "Enlarges the image so many times, and renders it again at that size, as the first time or in its own way.",
            group="upscale",
            bounds=model_bounds.upscale,
            inside_as=OF_BOTH_PASSES,
            requested_as=UpscaleInput,
            complete=completion.upscale,
            restate=completion.restated_upscale,
            metavar="FACTOR|JSON",
            option_help="A second pass at so many times the size; JSON says more of it.",
        ),
    ] = Field(default=None, exclude_if=is_none)
    embeddings: Annotated[
        tuple[EmbeddingUse, ...],
        Declared(
            "Embeddings",
            "Words of the prompts that stand for registered embeddings; default: every word that is the name of one.",
            group="loras",
            widget="groups",
            maximum=EMBEDDINGS_MAX,
            bounds=lambda model: Bounds(maximum=model.capabilities.embeddings_max),
            complete=completion.embeddings,
            options=("--embedding",),
            metavar="ID[:WORD]",
            option_help="An embedding and its word; may be repeated. Default: words that are names.",
        ),
    ] = Field(default=(), exclude_if=is_empty)
    output_format: Annotated[
        OutputFormat,
        Declared(
            "File format",
            "png and webp_lossless keep every pixel; jpeg, webp and avif are smaller. A video is mp4.",
            group="file",
            bounds=model_bounds.output_format,
            usual=lambda can: model_bounds.formats(can)[0],
            complete=completion.output_format,
            options=("--format",),
        ),
    ] = Field(default="png", exclude_if=is_png)
    output_quality: Annotated[
        int | None,
        Declared(
            "File quality",
            "Of jpeg, webp, avif and mp4: 0 is the smallest file, 100 the most exact; default: 90, of avif 75, mp4 65.",
            group="file",
            complete=completion.output_quality,
            options=("--quality",),
        ),
    ] = Field(default=None, ge=0, le=100, exclude_if=is_none)


PARAMETERS = declared_in(RequestParameters)
