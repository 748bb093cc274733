"""Pictures of NovelAI: texts of a PNG, or the same hidden in the alpha channel. Pure.

Its models are rendered by NovelAI alone, so a picture never names one that can be registered here.
"""

from typing import Any

from dreamforge.contracts.pictures.foreign.imported import ImportedModel, ImportedRequest, Reading, inside, json_object
from dreamforge.contracts.pictures.metadata import PictureMetadata

#: What decides no pixel of its own, or is off.
_IGNORED = (
    *("request_type", "signed_hash", "version", "n_samples", "v4_prompt", "v4_negative_prompt", "legacy", "legacy_uc"),
    *("legacy_v3_extend", "add_original_image", "prefer_brownian", "uncond_scale", "hide_debug_overlay", "stream"),
    *("extra_passthrough_testing", "lora_unet_weights", "lora_clip_weights", "skip_cfg_above_sigma", "params_version"),
)
_EMPHASIS = "{word} and [word] are NovelAI's emphasis; braces are text here"


def read_novelai(metadata: PictureMetadata) -> ImportedRequest | None:
    """The request of NovelAI; None where there is none."""
    texts = metadata.texts
    values = json_object(texts.get("Comment"))
    if values is None or not (texts.get("Software") == "NovelAI" or "uc" in values):
        return None
    reading = Reading("NovelAI", dict(values))
    prompt = reading.text("prompt") or texts.get("Description", "")
    reading.prompt("prompt", prompt)
    reading.prompt("negative_prompt", reading.text("uc"))
    if "{" in prompt:
        reading.refuse("prompt", prompt, _EMPHASIS)
    for theirs, ours in (("steps", "steps"), ("seed", "seed"), ("width", "width_px"), ("height", "height_px")):
        reading.number(theirs, ours, whole=True)
    reading.number("scale", "guidance_scale")
    reading.start_image("strength", reading.number("strength"))
    _characters(reading, values)
    reading.ignore(_IGNORED)
    return reading.done(
        sampler=reading.text("sampler"),
        schedule=reading.text("noise_schedule"),
        model=ImportedModel(texts.get("Source", "")),
    )


def _characters(reading: Reading, values: dict[str, Any]) -> None:  # Any: JSON
    """Version 4 has prompts for single characters, with places."""
    for each in inside(inside(values.get("v4_prompt"), "caption"), "char_captions") or ():
        reading.refuse("char_caption", inside(each, "char_caption") or "")
