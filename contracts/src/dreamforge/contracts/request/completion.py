"""What is particular to single parameters: checks across several of them, and defaults that depend on others. Pure."""

from collections.abc import Mapping
from typing import Any

from dreamforge.contracts.errors import SizeNotSupported
from dreamforge.contracts.models.descriptor import Parameters, Preset
from dreamforge.contracts.pictures.formats import FORMATS, LOSSY, OutputFormat
from dreamforge.contracts.request.assets import (
    embeddings_named,
    require_asset,
    require_embeddings,
    require_loras,
    require_upscaler,
)
from dreamforge.contracts.request.bounds import quoted, within
from dreamforge.contracts.request.declaration import Draft
from dreamforge.contracts.request.errors import FieldNeeded, NotAllowed
from dreamforge.contracts.request.guidance_schedule import UNGUIDED, GuidanceSchedule
from dreamforge.contracts.request.image_size import pixels_max, size_of
from dreamforge.contracts.request.lora_tags import with_tags_escaped, without_lora_tags
from dreamforge.contracts.request.step_window import window_steps
from dreamforge.contracts.request.tiles import tiled_px
from dreamforge.contracts.request.values import (
    OF_BOTH_PASSES,
    STRENGTH_MIN,
    UPSCALE_STRENGTH,
    ControlUse,
    EmbeddingUse,
    Geometry,
    ImagePromptUse,
    LoraUse,
    MaskedArea,
    MaskedAreaInput,
    PromptSyntax,
    RequestedResizeMode,
    ResizeMode,
    Upscale,
    UpscaleInput,
)

# The defaults of diffusers' own pipelines: image-to-image 0.8, inpainting 1.0.
IMAGE_STRENGTH, INPAINT_STRENGTH = 0.8, 1.0
# Nothing is distorted and nothing is made up; what was recorded before there was a choice is stretched.
RESIZE_MODE: ResizeMode = "crop"
# An eighth of a tile: our choice, 128 of 1024 pixels, in which a seam of another colour is a gradient.
TILE_OVERLAP_PART = 8
# What most models of video were trained with; presets say their own.
FRAMES_PER_SECOND = 24


def check_size(height_px: int, draft: Draft) -> int:
    """Errors: OutOfBounds(pixels), SizeNotSupported where a side is no multiple."""
    width_px, multiple = draft.values["width_px"], draft.model.size_multiple_px
    within("pixels", width_px * height_px, 1, pixels_max(draft.model, draft.limits))
    if width_px % multiple or height_px % multiple:
        raise SizeNotSupported(height_px=height_px, width_px=width_px, multiple_px=multiple)
    return height_px


def frames_per_second(value: int | None, draft: Draft) -> int | None:
    """The preset's, else `FRAMES_PER_SECOND`; None for an image."""
    if not draft.model.capabilities.is_video:
        return None
    return value or _preset(draft).frames_per_second or FRAMES_PER_SECOND


def frames(value: int | None, draft: Draft) -> int | None:
    """As many as were asked for, or as come nearest to the duration, or the preset's; None for an image.

    Errors: FieldNeeded where both are said, OutOfBounds, NotAllowed(allowed: the counts around it).
    """
    able, values = draft.model.capabilities, draft.values
    if not able.is_video:
        return None
    seconds, most = values["duration_seconds"], min(able.frames_max, draft.limits.frames)
    if value is None:
        usual = _preset(draft).frames or able.frames_max
        wanted = usual if seconds is None else seconds * values["frames_per_second"]
        value = _count(round((wanted - 1) / able.frames_step), able)
        within("frames" if seconds is None else "duration_seconds (frames)", value, 1, most)
    elif seconds is not None:
        raise FieldNeeded("frames", because="duration_seconds and frames both say how long it is; say one of them")
    elif (value - 1) % able.frames_step:
        below = (value - 1) // able.frames_step
        around = tuple(str(_count(steps, able)) for steps in (below, below + 1) if _count(steps, able) <= most)
        raise NotAllowed("frames", quoted(value), draft.model.model_id, around)
    within("video pixels (frames x width x height)", value * _area_px(values), 1, draft.limits.video_pixels)
    return value


def duration_seconds(_: float | None, __: Draft) -> None:
    """Recorded are the frames that it became."""


def _count(steps: int, able: Parameters) -> int:
    return max(0, steps) * able.frames_step + 1


def _area_px(values: Mapping[str, Any]) -> int:  # Any: values of a draft
    return int(values["width_px"] * values["height_px"])


def _preset(draft: Draft) -> Preset:
    return draft.model.preset(draft.values["preset"]) or draft.model.presets[0]


def least_strength(steps: int) -> float:
    """The least hundredth of the schedule that leaves one step to make; models of few steps need more.

    >>> least_strength(20), least_strength(3), least_strength(1), least_strength(500)
    (0.05, 0.34, 1.0, 0.01)
    """
    return max(STRENGTH_MIN, -(-100 // steps) / 100)


def strength(value: float | None, draft: Draft) -> float | None:
    """The share of the steps that changes the start image. Errors: OutOfBounds where no step would be made."""
    if draft.values["init_image"] is None or draft.model.kind == "upscaler" or draft.model.capabilities.is_video:
        return None
    usual = IMAGE_STRENGTH if draft.values["mask_image"] is None else INPAINT_STRENGTH
    return _strength("strength", value, usual, draft.values["steps"])


def resize_mode(value: RequestedResizeMode | None, draft: Draft) -> ResizeMode | None:
    """None where there is no image to resize. Of an image whose size was taken at most its edges are over."""
    if draft.values["init_image"] is None and not draft.values["control"]:
        return None
    return RESIZE_MODE if value is None or value == "image_size" else value


def masked_area(value: MaskedAreaInput | None, draft: Draft) -> MaskedArea | None:
    """With the size of the image, which the finished one has. Errors: ImageSizeNeeded."""
    if value is None:
        return None
    width_px, height_px = size_of("init_image", draft.values["init_image"], draft.image_sizes)
    return MaskedArea(padding_px=value.padding_px, width_px=width_px, height_px=height_px)


def prompt_syntax(value: PromptSyntax | None, draft: Draft) -> PromptSyntax | None:
    """Weighted where the model can and a prompt has brackets; None, as before there was a choice, means plain."""
    marked = draft.model.capabilities.prompt_weights and _has_marks(draft.values, draft.values["upscale"])
    return value or ("weighted" if marked else None)


def _has_marks(request: Mapping[str, Any], second: Upscale | UpscaleInput | None) -> bool:  # Any: values of a draft
    return any(mark in text for text in _texts(request, second).values() for mark in "()[]")


def _texts(request: Mapping[str, Any], second: Upscale | UpscaleInput | None) -> dict[str, str]:  # Any: as above
    """All prompts of a request, by their fields."""
    found = {name: request[name] for name in ("prompt", "negative_prompt")}
    if second is not None:
        found |= {f"upscale/{name}": getattr(second, name) for name in found}
    return {name: text for name, text in found.items() if text}


def geometry(value: Geometry | None, draft: Draft) -> Geometry | None:
    """Errors: OutOfBounds where it would be that of several images."""
    if value is not None:
        within("images of one geometry", draft.values["images"], 1, 1)
    return value


def check_loras(loras: tuple[LoraUse, ...], draft: Draft) -> tuple[LoraUse, ...]:
    """Errors: UnknownAsset, NamedTwice, AssetMismatch."""
    if loras:
        require_loras(loras, draft.model, draft.models)
    return tuple(_plainly(each) for each in loras)


def _plainly(lora: LoraUse) -> LoraUse:
    """One weight for all of its layers is one LoRA, however it was said."""
    return lora.model_copy(update={"text_weight": None}) if lora.text_weight == lora.weight else lora


def check_control(control: tuple[ControlUse, ...], draft: Draft) -> tuple[ControlUse, ...]:
    """With the settings of preprocessors said.

    Errors: UnknownAsset, AssetMismatch, and OutOfBounds(control/i/end) for one that would act in no step.
    """
    made = _steps_made(draft)
    for index, use in enumerate(control):
        field = f"control/{index}"
        require_asset(f"{field}/model_id", use.model_id, "controlnet", draft.model, draft.models)
        _check_window(field, use, made)
    return tuple(
        use if use.preprocess is None else use.model_copy(update={"preprocess": use.preprocess.completed()})
        for use in control
    )


def check_image_prompts(uses: tuple[ImagePromptUse, ...], draft: Draft) -> tuple[ImagePromptUse, ...]:
    """Errors: UnknownAsset, AssetMismatch, OutOfBounds(image_prompts/i/end) for one that would act in no step, and
    NotAllowed where it acts in all of them.
    """
    for index, use in enumerate(uses):
        field = f"image_prompts/{index}"
        require_asset(f"{field}/model_id", use.model_id, "ip_adapter", draft.model, draft.models)
        _check_window(field, use, _steps_made(draft))
        if draft.model.family == "flux" and (use.start, use.end) != (0, 1):
            # Redux is read with the words of the prompt, in every step.
            name = f"{field}/start" if use.start else f"{field}/end"
            raise NotAllowed(name, quoted(use.start or use.end), draft.model.model_id)
    return uses


def _steps_made(draft: Draft) -> int:
    """Of the first pass."""
    share = draft.values["strength"]
    return int(draft.values["steps"] * (1 if share is None else share))


def _check_window(field: str, window: ControlUse | ImagePromptUse | GuidanceSchedule, steps: int) -> None:
    """Errors: OutOfBounds(field/start or field/end) where none of so many steps lies in it."""
    if window_steps(window.start, window.end, steps):
        return
    first = next((step for step in range(steps) if window.start <= step / steps), None)
    if first is None:
        within(f"{field}/start (of {steps} steps)", window.start, 0, (steps - 1) / steps)
    else:
        within(f"{field}/end (of {steps} steps)", window.end, (first + 1) / steps, 1)


def guidance_scale_2(value: float | None, draft: Draft) -> float | None:
    """None where nothing is guided: whether both prompts are denoised follows from the first scale (diffusers 0.42.1).

    Errors: FieldNeeded where another one than the preset's was asked for, which would change nothing.
    """
    if value is None or draft.values["guidance_scale"] > UNGUIDED:
        return value
    if value not in (_preset(draft).guidance_scale_2, UNGUIDED):
        raise FieldNeeded("guidance_scale", because=f"guidance_scale_2 guides only where it is above {UNGUIDED:g} too")
    return None


def guidance_schedule(value: GuidanceSchedule | None, draft: Draft) -> GuidanceSchedule | None:
    """None where no pass would be guided otherwise without it: one request has one form.

    Errors: OutOfBounds where it would guide no step; NotAllowed beside a ControlNet, with which the scale is read once.
    """
    scales = {draft.values["guidance_scale"], _second_scale(draft)}
    if value is None or not any(value.changes(scale) for scale in scales):
        return None
    if draft.values["control"]:
        raise NotAllowed("guidance_schedule (with control)", quoted(value), draft.model.model_id)
    if value.to is not None:
        within("guidance_schedule/to", value.to, 0, draft.limits.guidance_scale)
    share = strength(draft.values["strength"], draft)
    _check_window("guidance_schedule", value, int(draft.values["steps"] * (share or 1)))
    return value


def _second_scale(draft: Draft) -> float:
    """Of the second pass, or of the only one."""
    second: UpscaleInput | None = draft.values["upscale"]
    own = None if second is None else second.guidance_scale
    return float(draft.values["guidance_scale"] if own is None else own)


def check_vae(model_id: str | None, draft: Draft) -> str | None:
    """Errors: UnknownAsset, AssetMismatch."""
    if model_id is not None:
        require_asset("vae", model_id, "vae", draft.model, draft.models)
    return model_id


def embeddings(value: tuple[EmbeddingUse, ...], draft: Draft) -> tuple[EmbeddingUse, ...]:
    """Those that were given, else those whose names the prompts have; each with the word that stands in a prompt.

    Errors: UnknownAsset, AssetMismatch (also for `embedding:NAME`), NamedTwice, FieldNeeded for a word of no prompt,
    OutOfBounds where there are too many.
    """
    most = draft.model.capabilities.embeddings_max
    texts = _texts(draft.values, draft.values["upscale"])
    uses = require_embeddings(value, draft.model, draft.models, texts.values()) if value else ()
    if most and not uses:
        uses = embeddings_named(texts, draft.model, draft.models)
    if uses:
        within("embeddings", len(uses), 0, most)
    return uses


def upscale(value: UpscaleInput | None, draft: Draft) -> Upscale | None:
    """The size of the second pass: each side times the factor, to the nearest multiple that the model takes."""
    if value is None:
        return None
    multiple, values = draft.model.size_multiple_px, draft.values
    width_px, height_px = (
        round(values[side] * value.factor / multiple) * multiple for side in ("width_px", "height_px")
    )
    within("upscale (pixels)", width_px * height_px, 1, draft.limits.pixels)
    if value.model_id is not None:
        require_upscaler("upscale/model_id", value.model_id, draft.models)
        if value.method is not None:
            raise NotAllowed("upscale/method", value.method, value.model_id)
    how = {"model_id": value.model_id, "method": value.method, **_tiles(value, draft, width_px, height_px)}
    own = _of_second_pass(value, draft)
    steps = own.get("steps", values["steps"])
    share = _strength("upscale/strength", value.strength, UPSCALE_STRENGTH, steps)
    if values["guidance_schedule"] is not None:
        _check_window("guidance_schedule in the second pass", values["guidance_schedule"], int(steps * share))
    return Upscale(width_px=width_px, height_px=height_px, strength=share, factor=value.factor, **how, **own)


def _tiles(value: UpscaleInput, draft: Draft, width_px: int, height_px: int) -> dict[str, int]:
    """How the second pass is cut; nothing where one tile has it all.

    Errors: FieldNeeded for an overlap of no tiles, SizeNotSupported, OutOfBounds, and NotAllowed where what is rendered
    goes beyond the edge of a tile: enlarged latents, and edges that meet.
    """
    tile, multiple = value.tile_px, draft.model.size_multiple_px
    if tile is None:
        if value.tile_overlap_px is not None:
            raise FieldNeeded("upscale/tile_px", because="upscale/tile_overlap_px is how far tiles are blended")
        return {}
    if tile % multiple:
        raise SizeNotSupported(height_px=tile, width_px=tile, multiple_px=multiple)
    if value.method is not None and value.method.startswith("latent"):
        raise NotAllowed("upscale/method (with upscale/tile_px)", value.method, draft.model.model_id)
    if draft.values["seamless"] is not None:
        raise NotAllowed("seamless (with upscale/tile_px)", draft.values["seamless"], draft.model.model_id)
    overlap = tile // TILE_OVERLAP_PART if value.tile_overlap_px is None else value.tile_overlap_px
    within("upscale/tile_overlap_px", overlap, 0, tile // 2)
    if max(width_px, height_px) <= tile:
        return {}
    pixels = tiled_px(width_px, height_px, tile, overlap)
    return {"tile_px": tile, "tile_overlap_px": overlap, "tiled_px": pixels}


def _of_second_pass(value: UpscaleInput, draft: Draft) -> dict[str, Any]:  # Any: values of several types
    """What the second pass has otherwise than the first. Errors: FieldNeeded, those of `without_lora_tags`."""
    stated = {name: found for name in OF_BOTH_PASSES if (found := getattr(value, name)) is not None}
    if "prompt" in stated:
        stated["prompt"] = _second_prompt(stated["prompt"], draft)
    return {name: found for name, found in stated.items() if found != draft.values[name]}


def _second_prompt(prompt: str, draft: Draft) -> str:
    """Without its LoRA tags, which may only repeat what holds for both passes."""
    text, tagged = without_lora_tags(prompt, draft.models, field="upscale/prompt")
    if not text:
        raise FieldNeeded("upscale/prompt", because="without its LoRA tags it is empty")
    for use in tagged:
        if use not in draft.values["loras"]:
            raise FieldNeeded("loras", because=f"upscale/prompt names {use.model_id!r}, and LoRAs act in both passes")
    return text


def output_format(name: OutputFormat, draft: Draft) -> OutputFormat:
    """Errors: OutOfBounds where the finished image has a side that the format cannot have."""
    last = draft.values["masked_area"] or draft.values["upscale"]
    for side in ("width_px", "height_px"):
        finished = getattr(last, side) if last is not None else draft.values[side]
        within(f"{side} of {name}", finished, 1, FORMATS[name].side_px_max)
    return name


def output_quality(value: int | None, draft: Draft) -> int | None:
    """The quality, or the format's default. Errors: FieldNeeded where the format is exact."""
    name: OutputFormat = draft.values["output_format"]
    if FORMATS[name].quality is None and value is not None:
        raise FieldNeeded("output_format", because=f"output_quality is for {', '.join(LOSSY)}, and {name} is exact")
    return FORMATS[name].quality if value is None else value


def restated_syntax(value: PromptSyntax | None, request: Any) -> PromptSyntax | None:  # Any: a RenderRequest
    """Plain must be requested where brackets would otherwise be read."""
    texts = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
    return value or ("plain" if _has_marks(texts, request.upscale) else None)


def restated_resize_mode(value: ResizeMode | None, request: Any) -> ResizeMode | None:  # Any: a RenderRequest
    """What was recorded before there was a choice was stretched."""
    return value or ("stretch" if request.init_image is not None or request.control else None)


def restated_masked_area(value: MaskedArea | None, _: object) -> MaskedAreaInput | None:
    """What to request to get this area."""
    return None if value is None else MaskedAreaInput(padding_px=value.padding_px)


def restated_upscale(
    value: Upscale | None, request: Any
) -> UpscaleInput | None:  # Any: a RenderRequest, which is made of these
    """What to request to get this second pass; requests before 2026-11-25 did not record the factor."""
    if value is None:
        return None
    stated = (*OF_BOTH_PASSES, "model_id", "method", "tile_px", "tile_overlap_px")
    own = {name: getattr(value, name) for name in stated}
    if own["prompt"] is not None:
        own["prompt"] = with_tags_escaped(own["prompt"])
    return UpscaleInput(factor=value.factor or value.width_px / request.width_px, strength=value.strength, **own)


def _strength(field: str, value: float | None, usual: float, steps: int) -> float:
    least = least_strength(steps)
    if value is None:
        return max(usual, least)
    if int(steps * value) < 1:  # no step would be made
        within(field, value, least, 1)
    return value
