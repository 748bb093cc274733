"""Pictures of ours: the recipe is exact, so nothing is translated. Pure."""

from dreamforge.contracts.lists import in_a_list
from dreamforge.contracts.pictures.foreign.a1111 import split_infotext
from dreamforge.contracts.pictures.foreign.imported import (
    ImportedLora,
    ImportedModel,
    ImportedRequest,
    Reading,
    inside,
    number_of,
)
from dreamforge.contracts.pictures.metadata import PictureMetadata

#: Where the picture was rendered, not what was asked for.
_IGNORED = (
    *("format", "renderer", "pipeline", "device", "device_name", "dtype", "threads", "versions", "tier", "image_rules"),
    *("priority", "geometry", "optimisations"),
)
#: Parameters that stand in a recipe as they do in a request.
PLAIN = (
    *("width_px", "height_px", "steps", "guidance_scale", "guidance_schedule", "seed", "clip_skip", "prompt_syntax"),
    *(
        "guidance_scale_2",
        "frames",
        "frames_per_second",
        "seamless",
        "flow_shift",
        "step_cache",
        "quantisation",
        "output_format",
        "output_quality",
        "resize_mode",
    ),
    *("init_image", "mask_image", "mask_selects", "mask_blur_px", "mask_fill", "strength", "references"),
)
_OF_SECOND_PASS = (
    *("strength", "seed", "steps", "guidance_scale", "sampler", "prompt", "negative_prompt"),
    *("model_id", "method", "tile_px", "tile_overlap_px"),
)


def read_ours(metadata: PictureMetadata) -> ImportedRequest | None:
    """The request in a recipe of ours; None where there is none."""
    recipe = metadata.recipe
    if recipe is None or "model_id" not in recipe:
        return None
    reading = Reading("Dream Forge", dict(recipe))
    for name in ("prompt", "negative_prompt"):
        reading.prompt(name, reading.text(name))
    for name in PLAIN:
        if (value := reading.take(name)) is not None:
            reading.fields[name] = value
    _upscale(reading)
    if (area := reading.take("masked_area")) is not None:
        reading.fields["masked_area"] = {"padding_px": inside(area, "padding_px")}
    for name in ("control", "embeddings", "image_prompts"):
        if (uses := reading.take(name)) is not None:
            reading.fields[name] = [_without_digest(use) for use in in_a_list(uses)]
    if (vae := inside(reading.take("vae"), "model_id")) is not None:
        reading.fields["vae"] = vae
    loras = _loras(reading)
    model = ImportedModel(reading.text("model_id"), reading.text("model_digest"))
    reading.ignore(("sampler", *_IGNORED))
    # A recipe has the class of the scheduler; which sampler was asked for, the text says.
    _, _, values = split_infotext(metadata.parameters or "")
    return reading.done(
        sampler=values.get("Sampler", ""), schedule=values.get("Schedule type", ""), model=model, loras=loras
    )


def _without_digest(use: object) -> object:
    return {name: value for name, value in use.items() if name != "digest"} if isinstance(use, dict) else use


def _upscale(reading: Reading) -> None:
    upscale, width = reading.take("upscale"), reading.fields.get("width_px")
    if isinstance(wide := inside(upscale, "width_px"), int) and isinstance(width, int) and width:
        # Sides were rounded to what the model takes.
        own = {name: value for name in _OF_SECOND_PASS if (value := inside(upscale, name)) is not None}
        reading.fields["upscale"] = {"factor": wide / width, **own}


def _loras(reading: Reading) -> tuple[ImportedLora, ...]:
    listed = reading.take("loras")
    return tuple(
        ImportedLora(
            str(each.get("model_id", "")),
            number_of(each.get("weight")) or 0.0,
            str(each.get("digest", "")),
            number_of(each.get("text_weight")),
        )
        for each in (listed if isinstance(listed, list) else ())
        if isinstance(each, dict)
    )
