"""From OpenAI's parameters to those of a job. Pure: what has no counterpart here is refused by name.

Parameters of ours may be mixed in (an SDK's `extra_body`): `seed`, `steps`, `negative_prompt` and every other field of
`POST /v1/jobs` that OpenAI has no name for.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset
from dreamforge.gateway.http.errors import InvalidRequest, Violation, pointer

# Accepted, and without effect here: whom a request is made for is the tenant of its key; nothing is moderated.
WITHOUT_EFFECT = frozenset(("user", "safety_identifier", "moderation", "input_fidelity"))
# How many previews a stream may ask for: the bound of OpenAI's own document.
PARTIAL_IMAGES_MAX = 3
# How much of an image changes where nothing says it: enough to see another one, and to know it again.
VARIATION_STRENGTH = 0.6
VARIATION_PROMPT = "a variation of the image"
# Our names of what OpenAI calls otherwise, so that an error names what the client has sent.
OPENAI_NAMES = {
    "model_id": "model",
    "images": "n",
    "width_px": "size",
    "height_px": "size",
    "preset": "quality",
    "output_quality": "output_compression",
    "init_image": "image",
    "mask_image": "mask",
    "references": "image",
}
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})", re.ASCII)
_FORMATS = ("png", "jpeg", "webp")
_RESPONSES = ("b64_json", "url")
_BACKGROUNDS = ("auto", "opaque")
_KNOWN = frozenset(
    (
        *("prompt", "model", "n", "size", "quality", "background", "response_format"),
        *("output_format", "output_compression", "stream", "partial_images"),
        *WITHOUT_EFFECT,
    )
)


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """What a client wants: the fields of our job, and how it wants the answer."""

    fields: Mapping[str, Any]  # Any: JSON, validated where jobs are submitted
    as_url: bool = False
    stream: bool = False
    partial_images: int = 0
    #: What the answer repeats, as it was asked for.
    echoed: Mapping[str, Any] = field(default_factory=dict)


def translate(
    body: Mapping[str, Any],
    models: Mapping[str, ModelDescriptor],
    aliases: Mapping[str, str],
) -> ImageRequest:
    """A request for images. Errors: InvalidRequest, with every wrong field by OpenAI's name."""
    given = {name: value for name, value in body.items() if value is not None}
    wrong: list[Violation] = []
    fields: dict[str, Any] = {name: value for name, value in given.items() if name not in _KNOWN}
    fields |= {ours: given[theirs] for theirs, ours in _RENAMED.items() if theirs in given}
    fields |= _model(given, aliases)
    fields |= _size(given, wrong)
    model = models.get(fields.get("model_id", next(iter(models), "")))
    if model is not None and model.capabilities.is_video:
        wrong.append(_refusal("model", f"{model.model_id!r} renders videos: submit it to POST /v1/jobs"))
    fields |= _preset(given, model, wrong)
    if given.get("output_format") in _FORMATS:
        fields["output_format"] = given["output_format"]
    for name, allowed in _CHOICES.items():
        if name in given and given[name] not in allowed:
            wrong.append(_refusal(name, f"is {given[name]!r:.40}, but must be one of: {', '.join(allowed)}"))
    partial = given.get("partial_images", 0)
    if not isinstance(partial, int) or isinstance(partial, bool) or not 0 <= partial <= PARTIAL_IMAGES_MAX:
        wrong.append(_refusal("partial_images", f"must be a number from 0 to {PARTIAL_IMAGES_MAX}"))
    if not isinstance(given.get("stream", False), bool):
        wrong.append(_refusal("stream", "must be true or false"))
    if "style" in given:
        wrong.append(_refusal("style", "has no counterpart here: say it in the prompt, or name a preset as quality"))
        fields.pop("style")
    if wrong:
        raise InvalidRequest(violations=tuple(wrong))
    return ImageRequest(
        fields=fields,
        as_url=given.get("response_format") == "url",
        stream=given.get("stream", False),
        partial_images=partial,
        echoed={name: given[name] for name in ("size", "quality", "background") if name in given},
    )


_RENAMED = {"prompt": "prompt", "n": "images", "output_compression": "output_quality"}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "response_format": _RESPONSES,
    "output_format": _FORMATS,
    "background": _BACKGROUNDS,
}


def variation(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a variation as that of an edit: OpenAI's has no prompt."""
    return {"prompt": VARIATION_PROMPT, **body}


def edited(model: ModelDescriptor | None, images: list[str], mask: str | None) -> dict[str, Any]:
    """The fields of our job that name the images of an edit, by their hashes. Errors: InvalidRequest.

    A model that takes an instruction about images gets them as its references; any other starts from the one image.
    """
    if not references_max(model):
        return {"init_image": images[0]} | ({} if mask is None else {"mask_image": mask})
    if mask is not None:
        said = "is not for this model, which is told in the prompt what to change: leave it out"
        raise InvalidRequest(violations=(_refusal("mask", said),))
    return {"references": images}


def references_max(model: ModelDescriptor | None) -> int:
    """How many images an edit is an instruction about; 0: it is one image, rendered over."""
    can = None if model is None else model.capabilities
    return can.references_max if can is not None and "image" not in can.modes else 0


def preset_for(quality: str, presets: tuple[Preset, ...]) -> str | None:
    """The preset that a quality stands for: one of that name, or by the number of steps; None: the model's first.

    OpenAI's qualities are low, medium and high, and earlier standard and hd. Errors: KeyError with any other.
    """
    named = [preset.name for preset in presets if preset.name == quality]
    if named:
        return named[0]
    if quality in ("auto", "standard"):
        return None
    by_steps = sorted(presets, key=lambda preset: preset.steps)
    place = {"low": 0, "medium": (len(presets) - 1) // 2, "high": -1, "xhigh": -1, "max": -1, "hd": -1}[quality]
    return by_steps[place].name


def _model(given: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    name = given.get("model")
    return {} if name is None else {"model_id": aliases.get(name, name) if isinstance(name, str) else name}


def _size(given: Mapping[str, Any], wrong: list[Violation]) -> dict[str, int]:
    size = given.get("size", "auto")
    if size == "auto":
        return {}
    found = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if found is None:
        wrong.append(_refusal("size", f"is {size!r:.40}, but must be WIDTHxHEIGHT in pixels, or auto"))
        return {}
    return {"width_px": int(found[1]), "height_px": int(found[2])}


def _preset(given: Mapping[str, Any], model: ModelDescriptor | None, wrong: list[Violation]) -> dict[str, str]:
    quality = given.get("quality")
    if quality is None or model is None:  # an unknown model is refused where jobs are submitted
        return {}
    try:
        preset = preset_for(quality, model.presets)
    except (KeyError, TypeError):
        names = ", ".join(("auto", "low", "medium", "high", *(preset.name for preset in model.presets)))
        wrong.append(_refusal("quality", f"is {quality!r:.40}, but must be one of: {names}"))
        return {}
    return {} if preset is None else {"preset": preset}


def _refusal(name: str, detail: str) -> Violation:
    return Violation(detail, pointer((name,)))
